"""Files for the fuzzers to start from: the small models of the unit tests, ONNX's own tests of our operators, small
pictures of every kind that is read, and tars of them.

    make_corpus.py FOLDER

Status 77 without Debian's python3-onnx and python3-pil.
"""
import contextlib
import glob
import gzip
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

try:
    import onnx
    from PIL import Image
except ImportError:
    sys.exit(77)

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SCRIPTS = ((("make_models.py", "blocks"), ("make_models.py", "hostile"), ("make_broken.py",), ("make_weights.py",)))
MOST_BYTES = 16384
LARGE = {"hoard.onnx"}  # takes 1 GiB


def our_words():
    """Names of operators, and of their attributes, as the tables of the families have them."""
    names, attributes = set(), set()
    for path in glob.glob(f"{ROOT}/src/nn/op_*.c"):
        with open(path) as file:
            text = file.read()
        names |= set(re.findall(r'\{"([A-Z]\w+)", MYR_KIND', text))
        attributes |= set(re.findall(r"(\w+):(?:int|float|text|ints|floats|tensor) ", text))
    return names, attributes


def conformance_models():
    ours = our_words()[0]
    for path in sorted(glob.glob("/usr/share/libonnx-testdata/data/node/*/model.onnx")):
        with contextlib.suppress(Exception):
            if {node.op_type for node in onnx.load(path).graph.node} <= ours:
                yield os.path.basename(os.path.dirname(path)), path


def drawing(width, height):
    """Smooth in one half and noise in the other, so that all of a coder is used."""
    rng = random.Random(width * 1000 + height)
    image = Image.new("RGBA", (width, height))
    image.putdata([(x * 255 // width, y * 255 // height, 128, 255 - x) if x < width // 2 else
                   tuple(rng.randrange(256) for _ in range(4)) for y in range(height) for x in range(width)])
    return image


def pictures():
    """(name, bytes) of files: kinds, colours, depths, coders."""
    full = drawing(29, 23)
    colour, grey = full.convert("RGB"), full.convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    ways = [("plain.jpg", colour, "JPEG", {}), ("fine.jpg", colour, "JPEG", dict(quality=98, subsampling=0)),
            ("progressive.jpg", colour, "JPEG", dict(progressive=True)), ("grey.jpg", grey, "JPEG", {}),
            ("cmyk.jpg", full.convert("CMYK"), "JPEG", {}), ("turned.jpg", colour, "JPEG", dict(exif=exif)),
            ("colour.png", colour, "PNG", {}), ("alpha.png", full, "PNG", {}), ("grey.png", grey, "PNG", {}),
            ("turned.png", colour, "PNG", dict(exif=exif)), ("palette.png", colour.quantize(13), "PNG", dict(transparency=3)),
            ("two.png", colour.quantize(2), "PNG", dict(bits=1)), ("bits.png", grey.convert("1"), "PNG", {}),
            ("deep.png", grey.convert("I").point(lambda level: level * 257).convert("I;16"), "PNG", {}),
            ("grey-alpha.png", full.convert("LA"), "PNG", {}), ("stored.png", colour, "PNG", dict(compress_level=0)),
            ("lossy.webp", colour, "WEBP", {}), ("alpha.webp", full, "WEBP", {}), ("exact.webp", full, "WEBP", dict(lossless=True)),
            ("moving.webp", full, "WEBP", dict(save_all=True, append_images=[drawing(29, 23).rotate(90)]))]
    for name, image, kind, options in ways:
        out = io.BytesIO()
        image.save(out, kind, **options)
        yield name, out.getvalue()


def tars(files):
    """(name, bytes): samples with labels, in each dialect, with long names in one."""
    for dialect, form in (("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as tar:
            for i, (name, data) in enumerate(files[:3]):
                stem = f"{'folder/' * (1 if form == tarfile.USTAR_FORMAT else 20)}{i:03}"
                members = ((os.path.splitext(name)[1], data), (".cls", str(i % 3).encode()),
                           (".json", json.dumps({"label": i, "name": "größe"}).encode()))
                for end, content in members:
                    info = tarfile.TarInfo(stem + end)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        yield dialect, out.getvalue()


def sets():
    """(name, bytes) of data sets, the first byte being the kind that fuzz_set.c takes the others for."""
    with tempfile.TemporaryDirectory() as top:
        for kind in ("cifar", "idx", "hdf5", "voc"):
            subprocess.run([sys.executable, "-B", f"{ROOT}/tests/unit/corpus/make_sets.py", kind], cwd=top, check=True)
        for kind, ending in enumerate((".bin", "-ubyte", "-ubyte.gz", None, ".h5", ".xml")):
            for path in sorted(glob.glob(f"{top}/**/*{ending}", recursive=True) if ending else []):
                if os.path.getsize(path) < MOST_BYTES:
                    with open(path, "rb") as file:
                        yield f"{kind}-{os.path.relpath(path, top).replace('/', '-')}", bytes([kind]) + file.read()
    for name, data in tars(list(pictures())[:4]):
        yield f"3-{name}.gz", b"\3" + gzip.compress(data)


def main():
    folder = sys.argv[1]
    shutil.rmtree(folder, ignore_errors=True)
    for kind in ("onnx", "safetensors", "hnsw", "image", "tar", "set"):
        os.makedirs(f"{folder}/{kind}")
    files = list(pictures())
    for kind, made in (("image", files), ("tar", tars(files)), ("set", sets())):
        for name, data in made:
            with open(f"{folder}/{kind}/{name}", "wb") as file:
                file.write(data)
    with tempfile.TemporaryDirectory() as top:
        for i, (script, *arguments) in enumerate(SCRIPTS):
            made = f"{top}/{i}/models"  # some scripts write beside their folder
            os.makedirs(made)
            subprocess.run([sys.executable, "-B", f"{ROOT}/tests/unit/nn/{script}", made, *arguments], check=True)
            for path in sorted(glob.glob(f"{made}/*.onnx") + glob.glob(f"{made}/*.safetensors")):
                kind = os.path.splitext(path)[1][1:]
                if 0 < os.path.getsize(path) <= MOST_BYTES and os.path.basename(path) not in LARGE:
                    shutil.copyfile(path, f"{folder}/{kind}/{i}_{os.path.basename(path)}")
    rng = random.Random(1)
    for i in range(48):  # damages of 8 bytes, and one byte more that chooses the graph
        with open(f"{folder}/hnsw/{i:02}", "wb") as file:
            file.write(rng.randbytes(8 * rng.randint(1, 4) + i % 2))
    with open(f"{folder}/onnx.dict", "w") as file:  # for libFuzzer: a text field has its length in front
        for word in sorted(set.union(*our_words())):
            file.write(f'"\\x{len(word):02x}{word}"\n')
    with open(f"{folder}/safetensors.dict", "w") as file:
        for word in ("dtype", "shape", "data_offsets", "__metadata__", "F16", "BF16", "F64", "I64", "conv.weight"):
            file.write(f'"\\"{word}\\""\n')
    for name, path in conformance_models():
        if os.path.getsize(path) <= MOST_BYTES:
            shutil.copyfile(path, f"{folder}/onnx/{name}.onnx")


if __name__ == "__main__":
    main()
