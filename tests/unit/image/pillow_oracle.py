#!/usr/bin/python3
"""Pictures of every kind, and what Pillow makes of them, for test_pillow.c.

    pillow_oracle.py OUT [PHOTOS]    PHOTOS: folder of photos-*.tar
    pillow_oracle.py --check         exit status 77 where Pillow or numpy is missing

OUT/manifest.txt has one line a comparison; references are u8, (height, width, 3):
    decode  FILE REFERENCE WIDTH HEIGHT
    resize  FILE REFERENCE WIDTH HEIGHT FILTER
    prepare FILE REFERENCE WIDTH HEIGHT FILTER RULE RESIZE_TO
"""
import io
import pathlib
import struct
import sys
import tarfile
import zlib

try:
    import numpy as np
    from PIL import Image, ImageOps, features
except ImportError as missing:
    print(f"skipped: {missing} (Debian: python3-pil, python3-numpy)")
    sys.exit(77)

FILTERS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def scene(width, height, channels=3, seed=0):
    """Edges, gradients and noise: what shows a wrong rounding."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for channel in range(channels):
        wave = 127.5 + 90 * np.sin(x / (5.0 + 3 * channel)) * np.cos(y / (7.0 + channel))
        blocks = ((x // 16 + y // 16 + channel) % 2) * 60 - 30
        planes.append(wave + blocks + rng.normal(0, 12, (height, width)))
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def upright_rgb(picture):
    """What myr_decoder_decode promises, in Pillow's words."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def python_round(value):
    return max(1, round(value))


def prepared(picture, width, height, method, rule, resize_to):
    """The network's input as levels, on white."""
    w, h = picture.size
    if rule == "stretch":
        size = (width, height)
    elif rule == "shorter":
        size = (python_round(w * resize_to / h), resize_to) if w > h else (resize_to, python_round(h * resize_to / w))
    elif width * h <= height * w:
        size = (width, python_round(h * width / w))
    else:
        size = (python_round(w * height / h), height)
    resized = picture.resize(size, method)
    left, top = max(0, size[0] - width) // 2, max(0, size[1] - height) // 2
    shown = resized.crop((left, top, left + min(width, size[0]), top + min(height, size[1])))
    canvas = Image.new("RGB", (width, height), (255, 255, 255))
    canvas.paste(shown, (max(0, width - size[0]) // 2, max(0, height - size[1]) // 2))
    return canvas


class Oracle:
    def __init__(self, folder):
        self.folder = folder
        self.lines = []

    def file(self, name, data):
        (self.folder / name).write_bytes(data)

    def reference(self, line, picture):
        name = f"reference-{len(self.lines)}"
        self.file(name, np.asarray(picture).tobytes())
        action, name_of_file, *rest = line
        self.lines.append(" ".join(map(str, [action, name_of_file, name, *picture.size, *rest])))

    def decode(self, name, data, expected=None):
        """expected: levels, where Pillow itself does not do what is promised."""
        self.file(name, data)
        if expected is None:
            picture = upright_rgb(Image.open(io.BytesIO(data)))
        else:
            picture = Image.fromarray(np.ascontiguousarray(expected))
        self.reference(("decode", name), picture)
        return picture

    def resize(self, name, picture, size, filter_name):
        self.reference(("resize", name, filter_name), picture.resize(size, FILTERS[filter_name]))

    def prepare(self, name, picture, size, filter_name, rule, resize_to):
        levels = prepared(picture, *size, FILTERS[filter_name], rule, resize_to)
        self.reference(("prepare", name, filter_name, rule, resize_to), levels)


def saved(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def exif(orientation, order="II"):
    mark = "<" if order == "II" else ">"
    entry = struct.pack(mark + "HHIHH", 0x0112, 3, 1, orientation, 0)
    other = struct.pack(mark + "HHII", 0x0100, 4, 1, 7)
    header = order.encode() + struct.pack(mark + "HI", 42, 8)
    return b"Exif\0\0" + header + struct.pack(mark + "H", 2) + other + entry + struct.pack(mark + "I", 0)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(samples, depth):
    """Rows of samples as PNG lines, each behind filter type 0."""
    height = samples.shape[0]
    flat = samples.reshape(height, -1)
    if depth == 16:
        lines = flat.astype(">u2").view(np.uint8).reshape(height, -1)
    elif depth == 8:
        lines = flat.astype(np.uint8)
    else:
        bits = (flat[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        lines = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    return np.concatenate([np.zeros((height, 1), np.uint8), lines], 1).tobytes()


def png(samples, color_type, depth, interlaced=False, before=b"", after=b""):
    """A PNG written by hand; samples (height, width, channels)."""
    height, width = samples.shape[:2]
    if interlaced:
        passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7]
        data = b"".join(packed(part, depth) for part in passes if part.size)
    else:
        data = packed(samples, depth)
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(data)) + after +
            chunk(b"IEND", b""))


def jpegs(oracle):
    rgb = Image.fromarray(scene(173, 131))
    for subsampling, name in enumerate(("444", "422", "420")):
        oracle.decode(f"jpeg-{name}.jpg", saved(rgb, "JPEG", quality=85, subsampling=subsampling))
    oracle.decode("jpeg-progressive.jpg", saved(rgb, "JPEG", progressive=True))
    oracle.decode("jpeg-low.jpg", saved(rgb, "JPEG", quality=10))
    oracle.decode("jpeg-grey.jpg", saved(Image.fromarray(scene(99, 64, 1)[..., 0]), "JPEG"))
    inks = saved(Image.fromarray(scene(90, 70, 4), "CMYK"), "JPEG", quality=90)
    oracle.decode("jpeg-cmyk.jpg", inks)
    adobe = inks.index(b"Adobe")
    oracle.decode("jpeg-ycck.jpg", inks[:adobe + 11] + b"\2" + inks[adobe + 12:])
    for orientation in range(0, 10):
        order = "II" if orientation % 2 else "MM"
        oracle.decode(f"jpeg-exif-{orientation}.jpg", saved(rgb, "JPEG", exif=exif(orientation, order)))
    oracle.decode("jpeg-one.jpg", saved(Image.fromarray(scene(1, 1)), "JPEG"))


def pngs(oracle):
    rgb = scene(61, 47)
    oracle.decode("png-rgb.png", saved(Image.fromarray(rgb), "PNG"))
    oracle.decode("png-interlaced.png", png(rgb, 2, 8, True))
    oracle.decode("png-exif.png", saved(Image.fromarray(rgb), "PNG", exif=exif(6)))
    oracle.decode("png-exif-late.png", png(rgb, 2, 8, after=chunk(b"eXIf", exif(3)[6:])))
    alpha = scene(61, 47, 4)
    oracle.decode("png-rgba.png", saved(Image.fromarray(alpha), "PNG"))
    every = np.stack([np.repeat(np.arange(256), 256).reshape(256, 256)] * 3 + [np.tile(np.arange(256), (256, 1))], -1)
    oracle.decode("png-rgba-every.png", saved(Image.fromarray(every.astype(np.uint8)), "PNG"))
    oracle.decode("png-rgba-interlaced.png", png(alpha, 6, 8, True))
    oracle.decode("png-la.png", saved(Image.fromarray(scene(40, 30, 2), "LA"), "PNG"))
    grey = scene(53, 31, 1)
    oracle.decode("png-grey.png", saved(Image.fromarray(grey[..., 0]), "PNG"))
    oracle.decode("png-grey-trns.png", png(grey // 64 * 64, 0, 8, before=chunk(b"tRNS", struct.pack(">H", 128))))
    oracle.decode("png-rgb-trns.png", png(rgb // 128 * 128, 2, 8, before=chunk(b"tRNS", struct.pack(">HHH", 128, 0, 128))))
    for depth in (1, 2, 4):
        low = grey >> (8 - depth)
        oracle.decode(f"png-grey-{depth}.png", png(low, 0, depth))
        oracle.decode(f"png-grey-{depth}-interlaced.png", png(low, 0, depth, True))
        colours = scene(2 ** depth, 1, 3, seed=depth).tobytes()
        oracle.decode(f"png-palette-{depth}.png", png(low, 3, depth, before=chunk(b"PLTE", colours)))
    colours = scene(256, 1, 3, seed=8).tobytes()
    opacity = bytes(range(0, 200))
    oracle.decode("png-palette-trns.png", png(grey, 3, 8, before=chunk(b"PLTE", colours) + chunk(b"tRNS", opacity)))
    fine = np.random.default_rng(1).integers(0, 65536, (47, 61, 4))
    high = (fine >> 8).astype(np.uint8)
    oracle.decode("png-rgb-16.png", png(fine[..., :3], 2, 16), high[..., :3])
    oracle.decode("png-grey-16.png", png(fine[..., :1], 0, 16), np.repeat(high[..., :1], 3, -1))
    white = Image.new("RGBA", (61, 47), (255, 255, 255, 255))
    on_white = np.asarray(Image.alpha_composite(white, Image.fromarray(high)).convert("RGB"))
    oracle.decode("png-rgba-16.png", png(fine, 6, 16), on_white)
    oracle.decode("png-pillow-palette.png", saved(Image.fromarray(rgb).quantize(17), "PNG"))


def webps(oracle):
    if not features.check("webp"):
        return
    rgb, alpha = Image.fromarray(scene(122, 75)), Image.fromarray(scene(122, 75, 4))
    oracle.decode("webp-lossy.webp", saved(rgb, "WEBP", quality=70))
    oracle.decode("webp-lossless.webp", saved(rgb, "WEBP", lossless=True))
    oracle.decode("webp-alpha.webp", saved(alpha, "WEBP", quality=80))
    oracle.decode("webp-alpha-lossless.webp", saved(alpha, "WEBP", lossless=True, exact=True))
    oracle.decode("webp-exif.webp", saved(rgb, "WEBP", exif=exif(8)))
    if features.check("webp_anim"):
        frames = [Image.fromarray(scene(60, 40, 4, seed)) for seed in range(3)]
        oracle.decode("webp-animation.webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]))


def sizes(oracle):
    name, data = "sizes.png", saved(Image.fromarray(scene(203, 157, seed=5)), "PNG")
    picture = oracle.decode(name, data)
    noise = np.random.default_rng(3).integers(0, 2, (157, 203, 3), np.uint8) * 255
    hard = oracle.decode("hard.png", saved(Image.fromarray(noise), "PNG"))
    for filter_name in FILTERS:
        for size in ((203, 157), (203, 50), (50, 157), (64, 64), (1, 1), (2, 300), (500, 3), (410, 333), (202, 156),
                     (204, 158), (7, 11)):
            oracle.resize(name, picture, size, filter_name)
            oracle.resize("hard.png", hard, size, filter_name)
        for size, rule, resize_to in (((64, 64), "shorter", 80), ((64, 48), "shorter", 64), ((64, 64), "shorter", 40),
                                      ((100, 30), "shorter", 33), ((61, 77), "stretch", 0), ((64, 64), "longer", 0),
                                      ((65, 33), "longer", 0), ((33, 65), "longer", 0), ((400, 400), "longer", 0),
                                      ((203, 157), "shorter", 157), ((150, 151), "shorter", 157), ((1, 1), "shorter", 9),
                                      ((300, 300), "shorter", 157)):
            oracle.prepare(name, picture, size, filter_name, rule, resize_to)
            oracle.prepare("hard.png", hard, size, filter_name, rule, resize_to)
    for width, height in ((1, 90), (90, 1), (1000, 2), (3, 700), (45, 46), (35, 30), (25, 30)):
        name = f"shape-{width}-{height}.png"
        picture = oracle.decode(name, saved(Image.fromarray(scene(width, height, seed=6)), "PNG"))
        for rule in ("shorter", "stretch", "longer"):
            oracle.prepare(name, picture, (28, 24), "bicubic", rule, 30)


def photos(oracle, folder):
    number = 0
    for path in sorted(folder.glob("photos-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if not member.name.endswith(".jpg"):
                    continue
                data = tar.extractfile(member).read()
                picture = upright_rgb(Image.open(io.BytesIO(data)))
                oracle.file(member.name, data)
                oracle.prepare(member.name, picture, (224, 224), "bicubic", "shorter", 256)
                if number % 10 == 0:
                    oracle.reference(("decode", member.name), picture)
                    oracle.prepare(member.name, picture, (224, 224), "bilinear", "longer", 0)
                number += 1


def main():
    if sys.argv[1:] == ["--check"]:
        return
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    oracle = Oracle(pathlib.Path(sys.argv[1]))
    jpegs(oracle)
    pngs(oracle)
    webps(oracle)
    sizes(oracle)
    if len(sys.argv) > 2:
        photos(oracle, pathlib.Path(sys.argv[2]))
    oracle.file("manifest.txt", "".join(line + "\n" for line in oracle.lines).encode())


main()
