"""Pictures for the benchmark of networks, prepared as torchvision's recipes do: by Pillow, independent of Myriops.

The shorter side becomes 8/7 of the network's (bicubic), the middle is cut out, values are normalised; NCHW float32.
Without a folder of photographs there is noise of several scales, which is smooth enough to settle statistics on.
"""
import io
import pathlib
import tarfile

import numpy as np

IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))
TENSORFLOW = (np.array([127 / 255] * 3), np.array([128 / 255] * 3))


def normalisation(network):
    """(mean, std) of a network by its name, for values in 0..1."""
    return TENSORFLOW if network.startswith("efficientnet-lite") else IMAGENET


def resize_to(size):
    """The shorter side before the cut: 256 for 224, 342 for 299."""
    return -(-size * 8 // 7)


def prepare(data, size, mean, std):
    """One encoded picture as (3, size, size) float32."""
    from PIL import Image

    picture = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = picture.size
    factor = resize_to(size) / min(width, height)
    picture = picture.resize((max(size, round(width * factor)), max(size, round(height * factor))), Image.BICUBIC)
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    values = np.asarray(picture.crop((left, top, left + size, top + size)), np.float64) / 255
    return ((values - mean) / std).transpose(2, 0, 1).astype(np.float32)


def encoded(folder):
    """The JPEG bytes of the photographs of a folder: of its tars (WebDataset) in order, else its files."""
    for path in sorted(pathlib.Path(folder).glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.lower().endswith((".jpg", ".jpeg")):
                    yield tar.extractfile(member).read()
    for path in sorted(pathlib.Path(folder).glob("*.[jJ][pP]*[gG]")):
        yield path.read_bytes()


def photographs(folder, count, size, network, every=1):
    """The first `count` photographs of a folder (each `every`-th), prepared: (count, 3, size, size) float32."""
    mean, std = normalisation(network)
    prepared = []
    for position, data in enumerate(encoded(folder)):
        if len(prepared) == count:
            break
        if position % every == 0:
            prepared.append(prepare(data, size, mean, std))
    if len(prepared) < count:
        raise SystemExit(f"{folder}: {len(prepared)} photographs, {count} are needed")
    return np.stack(prepared)


def noise(count, size, seed):
    """Noise of five scales, about mean 0 and deviation 1 as normalised photographs have it."""
    generator = np.random.default_rng(seed)
    pictures = np.zeros((count, 3, size, size), np.float32)
    for cell in (1, 4, 16, 64, size):
        side = -(-size // cell)
        coarse = generator.standard_normal((count, 3, side, side)).astype(np.float32)
        pictures += np.kron(coarse, np.ones((1, 1, cell, cell), np.float32))[:, :, :size, :size]
    return pictures / np.float32(5 ** 0.5)
