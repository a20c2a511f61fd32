"""Files of data sets, sound and broken, for the tests of their readers, in the current folder.

    make_sets.py gzip | cifar | idx | hdf5 | voc

Written to the formats' own descriptions, which the readers name. Status 77 without Debian's python3-h5py.
"""
import gzip
import os
import struct
import sys

import numpy as np

MIB = 1 << 20
LARGE_MIB = 300


def put(name, data):
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    with open(name, "wb") as file:
        file.write(data)


def stretch(first, n):
    """Bytes [first, first + n) of a stream that test_gzip.c knows: of a place i, those of i * 2654435761 in two turns."""
    i = np.arange(first, first + n, dtype=np.uint64)
    return ((((i >> np.uint64(6)) * np.uint64(2654435761)) >> np.uint64(11)) & np.uint64(0x3f)).astype(np.uint8).tobytes()


def make_gzip():
    with gzip.open("large.gz", "wb", 1) as file:
        for i in range(LARGE_MIB):
            file.write(stretch(i * MIB, MIB))
    small = stretch(0, 3 * MIB)
    put("plain", small)
    put("one.gz", gzip.compress(small))
    put("members.gz", b"".join(gzip.compress(small[i:i + MIB // 2], level) for level, i in enumerate(range(0, len(small), MIB // 2))))
    put("named.gz", b"\x1f\x8b\x08\x18" + bytes(4) + b"\0\3" + b"a name\0a comment\0" + gzip.compress(small)[10:])
    put("garbage.gz", gzip.compress(small) + b"not gzip")
    put("zeros.gz", gzip.compress(small) + bytes(1000))
    put("empty.gz", gzip.compress(b""))
    for name, at in (("head", 5), ("middle", len(gzip.compress(small)) // 2), ("trailer", -3)):
        put(f"cut-{name}.gz", gzip.compress(small)[:at])
    for at in range(20, 4000, 97):
        data = bytearray(gzip.compress(small[:20000]))
        data[at % len(data)] ^= 0x10
        put(f"flipped-{at}.gz", bytes(data))
    data = bytearray(gzip.compress(small))
    data[-6] ^= 1
    put("sum.gz", bytes(data))


def cifar(n, *limits):
    """Records whose labels count and whose levels are the record's number, by colour."""
    return b"".join(bytes(i % limit for limit in limits) + bytes([i % 256]) * 1024 + bytes([(i + 1) % 256]) * 1024 +
                    bytes([(i + 2) % 256]) * 1024 for i in range(n))


def make_cifar():
    put("ten/data_batch_1.bin", cifar(300, 10))
    put("ten/batches.meta.txt", b"".join(b"class %d\n" % i for i in range(10)) + b"\n")
    put("hundred/train.bin", cifar(130, 20, 100))
    put("hundred/coarse_label_names.txt", b"".join(b"coarse %d\n" % i for i in range(20)))
    put("hundred/fine_label_names.txt", b"".join(b"fine %d\r\n" % i for i in range(100)))
    put("cut.bin", cifar(3, 10)[:-1])
    put("empty.bin", b"")
    put("label10.bin", cifar(3, 10) + b"\x0a" + bytes(3072))
    put("coarse.bin", cifar(2, 20, 100) + b"\x14\x00" + bytes(3072))
    put("fine.bin", cifar(2, 20, 100) + b"\x00\x64" + bytes(3072))
    put("few/data_batch_1.bin", cifar(3, 10))
    put("few/batches.meta.txt", b"one\ntwo\n")
    put("both/test.bin", bytes(3073 * 3074))
    put("both/fine_label_names.txt", b"".join(b"fine %d\n" % i for i in range(100)))
    put("alone/test.bin", bytes(3073 * 3074))
    put("packed/test.bin", gzip.compress(cifar(5, 10)))


def idx(magic, *dims, data=None):
    return struct.pack(f">I{len(dims)}I", magic, *dims) + (bytes(i % 256 for i in range(int(np.prod(dims)))) if data is None else data)


def make_idx():
    images, labels = idx(0x803, 7, 5, 4), idx(0x801, 7)
    put("good/t10k-images-idx3-ubyte", images)
    put("good/t10k-labels-idx1-ubyte", labels)
    put("packed/t10k-images-idx3-ubyte.gz", gzip.compress(images))
    put("packed/t10k-labels-idx1-ubyte", labels)
    put("dots/train-images.idx3-ubyte", images)
    put("dots/train-labels.idx1-ubyte.gz", gzip.compress(labels))
    put("alone/x-images-idx3-ubyte", images)
    put("none/x-images-idx3-ubyte", idx(0x803, 0, 5, 4))
    broken = {"magic": idx(0x802, 7, 5), "type": idx(0xd03, 7, 5, 4), "short": images[:-1], "long": images + b"\0", "head": images[:11],
              "nothing": b"", "flat": idx(0x803, 7, 0, 4, data=b""), "wide": idx(0x803, 1, 1, 65536),
              "huge": idx(0x803, 0xffffffff, 65535, 65535, data=b"12"), "many": idx(0x803, 0xffffffff, 28, 28, data=b"12"),
              "swapped": struct.pack("<4I", 0x803, 7, 5, 4) + images[16:]}
    for name, data in broken.items():
        put(f"{name}-images-idx3-ubyte", data)
        put(f"{name}-images-idx3-ubyte.gz", gzip.compress(data))
    put("cutgz-images-idx3-ubyte.gz", gzip.compress(images)[:-40])
    for name, data in (("count", idx(0x801, 8)), ("kind", idx(0x803, 7, 1, 1)), ("less", labels[:-1])):
        put(f"labels-{name}/a-images-idx3-ubyte", images)
        put(f"labels-{name}/a-labels-idx1-ubyte", data)


def make_hdf5():
    import h5py
    levels = np.arange(11 * 6 * 5 * 3, dtype=np.uint32).astype(np.uint8).reshape(11, 6, 5, 3)
    labels = np.arange(11) % 4

    def file(name, **more):
        return h5py.File(name + ".h5", "w", **more)
    ways = {"plain": {}, "chunked": dict(chunks=(4, 6, 5, 3)), "crossed": dict(chunks=(3, 4, 2, 2)),
            "packed": dict(chunks=(4, 6, 5, 3), compression="gzip", shuffle=True, fletcher32=True)}
    for name, how in ways.items():
        with file(name) as f:
            f.create_dataset("x", data=levels, **how)
            f["y"] = labels
    with file("grown") as f:
        f.create_dataset("x", data=levels, maxshape=(None, 6, 5, 3), chunks=(64, 6, 5, 3))
    with file("names") as f:  # which labels: the usual name in the same group before all others
        f["a/x"], f["a/other"], f["a/targets"], f["labels"] = levels, labels + 10, labels, labels + 20
    with file("wrong-labels") as f:
        f["x"], f["label"] = levels, labels - 2
    with file("unlabelled") as f:
        f["x"], f["p"], f["q"], f["f"] = levels, labels, labels, labels.astype("f4")
    with file("compact") as f:
        create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        create.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(levels.shape)
        h5py.h5d.create(f.id, b"x", h5py.h5t.STD_U8BE, space, create).write(h5py.h5s.ALL, h5py.h5s.ALL, levels)
    with file("unwritten") as f:
        f.create_dataset("x", shape=(11, 6, 5, 3), dtype="u1")
    with file("bomb") as f:
        f.create_dataset("x", shape=(1 << 40, 6, 5, 3), chunks=(4, 6, 5, 3), dtype="u1", compression="gzip")
    with file("coarse-chunks") as f:
        f.create_dataset("x", shape=(64, 1200, 1200, 3), chunks=(64, 1200, 1200, 3), dtype="u1", compression="gzip")[0] = 1
    with file("lzf") as f:
        f.create_dataset("x", data=levels, compression="lzf")
    with file("elsewhere") as f:
        f.create_dataset("x", shape=levels.shape, dtype="u1", external=[("elsewhere.raw", 0, levels.size)])[...] = levels
    with file("virtual") as f:
        layout = h5py.VirtualLayout(levels.shape, "u1")
        layout[...] = h5py.VirtualSource("plain.h5", "x", levels.shape)
        f.create_virtual_dataset("x", layout)
    with file("no-pictures") as f:
        f["x"], f["signed"], f["four"], f["wide"] = levels.astype("f4"), levels.astype("i1"), levels[:, :, :, :2], levels.astype("u2")
    with file("nothing"):
        pass
    with file("tall") as f:
        f.create_dataset("x", shape=(1, 65536, 1, 1), dtype="u1", chunks=(1, 65536, 1, 1))
    with open("plain.h5", "rb") as f:
        put("cut.h5", f.read()[:-600])
    put("text.h5", b"no HDF5 at all")


def voc(*objects, before=""):
    return (f"{before}<annotation><filename>x</filename>{''.join(objects)}</annotation>").encode()


def thing(name, *ends, extra=""):
    box = "".join(f"<{tag}>{end}</{tag}>" for tag, end in zip(("xmin", "ymin", "xmax", "ymax"), ends))
    return f"<object>{f'<name>{name}</name>' if name else ''}{extra}<bndbox>{box}</bndbox></object>"


def make_voc():
    notes = {
        "01": voc(thing("cat", 1, 1, 10, 10), thing("dog", 5, 5, 15, 15)),
        "02": voc(thing(" person\n", 2.4, 2.6, 9.5, "8 ", extra="<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>")),
        "03": voc(thing("cat", 10, 10, 5, 20), thing("cat", 1, 1), thing("cow", 1, "x", 3, 4), thing("sheep", 3, 3, 4, 4)),
        "04": voc(thing("", 1, 1, 100, 100), thing("bird", 7, 8, 7, 8)),
        "05": voc(),
        "06": voc(thing("cat", 1, 1, 3, 3))[:-20],
        "07": voc(thing("&a;", 1, 1, 3, 3), before='<!DOCTYPE a [<!ENTITY a "cat">]>'),
        "08": b"<a>" * 1000,
        "09": b"",
        "10": voc(thing("cat", "1e300", "-1e300", "nan", "inf"), thing("cat", 2147483647, 1, 2147483647, 5)),
        "11": voc("<" + "x" * 500 + "><object><name>fish</name></object></" + "x" * 500 + ">", thing("boat", 1, 2, 3, 4)),
        "12": voc("<!-- " + "x" * (5 << 20) + " -->"),
    }
    for key, data in notes.items():
        put(f"voc/Annotations/{key}.xml", data)
        put(f"voc/JPEGImages/{key}.jpg", b"picture " + key.encode())
    put("voc/JPEGImages/13.jpg", b"picture")
    put("voc/ImageSets/Main/val.txt", b"04\n99\n01\n")
    put("voc/ImageSets/Main/bad.txt", b"../01\n")
    put("other/Annotations/1.xml", voc(thing("zebra", 1, 1, 2, 2)))
    put("other/Annotations/2.xml", voc(thing("ant", 1, 1, 2, 2)))
    for key in "12":
        put(f"other/JPEGImages/{key}.jpg", b"picture")


if __name__ == "__main__":
    try:
        globals()["make_" + sys.argv[1]]()
    except ImportError:
        sys.exit(77)
