"""Data sets as they are published: the same vectors as from PNG files of the same pictures, on any number of ranks.

The files are written here, byte by byte, to their written specifications:
  CIFAR      https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version"
  IDX        https://yann.lecun.com/exdb/mnist/, "File formats for the MNIST database"
  HDF5       by h5py: in one piece, in chunks, packed, behind a user block
  VOC        PASCAL VOC Development Kit 2012, "Annotations": boxes from 1, ends included
  img2dataset  its README, "Output format": {shard:05d}.tar, _stats.json when finished
  tar.gz     RFC 1952
"""
import gzip
import hashlib
import struct

from harness import *

RANKS = (1, 2, 3)


def smooth(rng, n, height, width, channels):
    """Pictures with large features, u8 (n, height, width, channels)."""
    small = rng.integers(0, 256, (n, 4, 4, channels), dtype=np.uint8)
    return np.stack([np.stack([np.asarray(Image.fromarray(picture[:, :, c]).resize((width, height), Image.BICUBIC))
                               for c in range(channels)], 2) for picture in small])


def write_pngs(name, pixels, names=None):
    path = folder(name)
    for i, picture in enumerate(pixels):
        image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
        (path / f"{names[i] if names else f'{i:06d}'}.png").write_bytes(encode(image, "PNG"))
    return path


def write_cifar(path, pixels, *labels):
    """labels: (n) each, in the order of the record's first bytes."""
    planes = pixels.transpose(0, 3, 1, 2)
    path.write_bytes(b"".join(bytes(int(told[i]) for told in labels) + planes[i].tobytes() for i in range(len(pixels))))
    return path


def write_idx(path, magic, array):
    data = struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def facts_of(path):
    """Keys, vectors, labels, boxes (None where a chunk has none) of an embedding folder."""
    keys, vectors, labels, boxes = [], [], [], []
    for chunk in sorted(pathlib.Path(path).glob("chunk-*.h5")):
        with h5py.File(chunk, "r") as file:
            keys += [key.decode() for key in file["key"][:]]
            vectors.append(file["embedding"][:])
            labels += file["label"][:].tolist()
            boxes.append(file["box"][:] if "box" in file else None)
    return keys, np.concatenate(vectors), labels, boxes


def annotation(objects):
    """XML as in the development kit; objects: (class, xmin, ymin, xmax, ymax)."""
    parts = "".join(f"<object><name>{name}</name><pose>Left</pose><truncated>0</truncated><difficult>0</difficult>"
                    f"<bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
                    f"<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>"
                    for name, a, b, c, d in objects)
    return f"<annotation><folder>VOC2012</folder><size><width>160</width><height>120</height><depth>3</depth></size>{parts}</annotation>"


def cut(boxes):
    """x, y, width, height from VOC's ends."""
    return [(a - 1, b - 1, c - a + 1, d - b + 1) for _, a, b, c, d in boxes]


def make_voc(name):
    root = folder(name)
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    objects = {"000001": [("person", 11, 21, 60, 100), ("dog", 1, 1, 160, 80)], "000002": [("cat", 150, 110, 200, 130)],
               "000003": [], "000004": [("aeroplane", 5, 5, 5, 5)]}
    for i, (key, told) in enumerate(objects.items()):
        (root / f"JPEGImages/{key}.jpg").write_bytes(encode(picture(50 + i)))
        (root / f"Annotations/{key}.xml").write_text(annotation(told))
    (root / "JPEGImages/000005.jpg").write_bytes(encode(picture(60)))
    (root / "ImageSets/Main/train.txt").write_text("000002\n000001\n")
    (root / "ImageSets/Main/dog_train.txt").write_text("000001  1\n000002 -1\n000003  0\n")
    return root, objects


class Levels(Case):
    """Formats of bare levels."""

    @classmethod
    def setUpClass(cls):
        cls.rng = np.random.default_rng(11)

    def same(self, operands, pngs, keys, labels, name):
        """The operands' vectors are those of the PNG files, and their files the same on any number of ranks."""
        out = scratch / f"{name}-png"
        self.embed(out, "--chunk", 8, pngs)
        wanted = facts_of(out)[1]
        first = None
        for ranks in RANKS:
            out = scratch / f"{name}-{ranks}"
            self.embed(out, "--chunk", 8, "--threads", 1 + ranks % 2, *operands, ranks=ranks)
            found = facts_of(out)
            self.assertEqual(found[0], keys)
            self.assertEqual(found[2], labels)
            self.assertEqual(found[1].tobytes(), wanted.tobytes(), f"{name}: vectors, {ranks} ranks")
            self.assertTrue(all(boxes is None for boxes in found[3]))
            first = first or contents(out)
            self.assertEqual(contents(out), first, f"{name}: {ranks} ranks")

    def test_cifar10(self):
        root, pixels = folder("cifar-10-batches-bin"), smooth(self.rng, 23, 32, 32, 3)
        labels = self.rng.integers(0, 10, 23)
        names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
        (root / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
        (root / "readme.html").write_text("<html>")
        write_cifar(root / "data_batch_1.bin", pixels[:10], labels[:10])
        write_cifar(root / "test_batch.bin", pixels[10:], labels[10:])
        keys = [f"data_batch_1/{i:06d}" for i in range(10)] + [f"test_batch/{i:06d}" for i in range(13)]
        pngs = write_pngs("cifar-png", pixels)
        self.same([root], pngs, keys, labels.tolist(), "cifar")
        facts = myriops("info", "--format", "json", root).json()
        self.assertEqual((facts["kind"], facts["items"], facts["sets"], facts["classes"], facts["labelled"], facts["ignored"]),
                         ("corpus", 23, 2, 10, 23, 2))
        manifest = json.loads((scratch / "cifar-1/manifest.json").read_text())
        self.assertEqual(manifest["classes"], names)
        page = scratch / "cifar.html"
        self.check(myriops("index", "--out", scratch / "cifar-idx", scratch / "cifar-1"), DONE)
        result = myriops("query", "--index", scratch / "cifar-idx", "-k", 1, "--format", "json", root / "data_batch_1.bin")
        hits = [query["hits"][0]["key"] for query in result.json()["queries"]]
        self.assertEqual(hits, keys[:10])
        two = folder("two-folders")
        self.embed(two / "emb", root, pngs)
        self.assertEqual(facts_of(two / "emb")[0][0], "cifar-10-batches-bin/data_batch_1/000000")
        self.check(myriops("index", "--out", two / "idx", two / "emb"), DONE)
        self.check(myriops("query", "--index", two / "idx", "-k", 2, "--format", "html", "--out", page, pngs / "000003.png"), DONE)
        self.assertEqual(page.read_text().count("data:image/jpeg"), 3, "a set's picture is found behind its folder's name")
        self.check(myriops("query", "--index", scratch / "cifar-idx", "-k", 2, "--format", "html", "--out", page, root / "data_batch_1.bin"), DONE)
        self.assertEqual(page.read_text().count("data:image/jpeg"), 30)

    def test_cifar100(self):
        root, pixels = folder("cifar-100-binary"), smooth(self.rng, 9, 32, 32, 3)
        coarse, fine = self.rng.integers(0, 20, 9), self.rng.integers(0, 100, 9)
        (root / "coarse_label_names.txt").write_text("".join(f"coarse {i}\n" for i in range(20)))
        (root / "fine_label_names.txt").write_text("".join(f"fine {i}\n" for i in range(100)))
        write_cifar(root / "train.bin", pixels, coarse, fine)
        pngs, keys = write_pngs("cifar100-png", pixels), [f"train/{i:06d}" for i in range(9)]
        self.same([root], pngs, keys, fine.tolist(), "cifar100")
        self.same(["--coarse-labels", root / "train.bin"], pngs, keys, coarse.tolist(), "cifar100-coarse")
        self.assertEqual(json.loads((scratch / "cifar100-coarse-1/manifest.json").read_text())["classes"][3], "coarse 3")

    def test_mnist(self):
        pixels, labels = smooth(self.rng, 21, 28, 24, 1), self.rng.integers(0, 10, 21, dtype=np.uint8)
        pngs = write_pngs("mnist-png", pixels)
        for ending in ("", ".gz"):
            root = folder(f"mnist{ending}")
            write_idx(root / f"train-images-idx3-ubyte{ending}", 0x803, pixels[:, :, :, 0])
            write_idx(root / f"train-labels-idx1-ubyte{ending}", 0x801, labels)
            keys = [f"train-images/{i:06d}" for i in range(21)]
            self.same([root], pngs, keys, labels.tolist(), f"mnist{ending}")
            self.same([root / f"train-images-idx3-ubyte{ending}"], pngs, keys, labels.tolist(), f"mnist-file{ending}")
        self.assertEqual(contents(scratch / "mnist-1")["chunk-000000.h5"] == contents(scratch / "mnist.gz-1")["chunk-000000.h5"], False,
                         "the sources differ")

    def test_hdf5(self):
        pixels, labels = smooth(self.rng, 19, 20, 30, 3), self.rng.integers(0, 5, 19)
        pngs = write_pngs("h5-png", pixels)
        ways = {"plain": {}, "chunked": dict(chunks=(4, 20, 30, 3)), "odd": dict(chunks=(5, 7, 30, 2)),
                "packed": dict(chunks=(3, 20, 30, 3), compression="gzip", shuffle=True, fletcher32=True)}
        for name, how in ways.items():
            path = scratch / f"{name}.h5"
            with h5py.File(path, "w", userblock_size=512 if name == "plain" else 0) as file:
                file.create_dataset("images", data=pixels, **how)
                file["noise"] = np.arange(19)
                file["labels"] = labels.astype({"plain": "i8", "chunked": "u1", "odd": ">i4", "packed": "i2"}[name])
            self.same([path], pngs, [f"{name}/images/{i:06d}" for i in range(19)], labels.tolist(), f"h5-{name}")
            self.assertEqual(myriops("info", "--format", "json", path).json()["labelled"], 19)

    def test_hdf5_with_several_sets(self):
        path, grey = scratch / "several.hdf5", smooth(self.rng, 6, 16, 16, 1)
        with h5py.File(path, "w") as file:
            file["train/x"], file["train/y"] = smooth(self.rng, 5, 16, 16, 3), np.arange(5)
            file["test/x"], file["test/y"] = grey, np.arange(6) + 10
            file["grey"] = grey[:, :, :, 0]
        self.check(myriops("embed", "--out", scratch / "several-emb", path), USAGE, "2 data sets", "/test/x, /train/x")
        pngs = write_pngs("several-png", grey)
        self.same([f"{path}:/test/x"], pngs, [f"several/test/x/{i:06d}" for i in range(6)], list(range(10, 16)), "several-test")
        self.same([f"{path}:/grey"], pngs, [f"several/grey/{i:06d}" for i in range(6)], list(range(10, 16)), "several-grey")
        self.check(myriops("embed", "--out", scratch / "several-emb", f"{path}:/train/y"), FAILED, "u8")
        (scratch / "listed.txt").write_text("several.hdf5:/test/x\nseveral-png/000000.png\n")
        self.assertEqual(myriops("info", "--format", "json", scratch / "listed.txt", cwd="/").json()["items"], 7)


class Voc(Case):
    @classmethod
    def setUpClass(cls):
        cls.root, cls.objects = make_voc("VOC2012")

    def test_pictures(self):
        out = scratch / "voc"
        self.embed(out, self.root, ranks=2)
        keys, vectors, labels, boxes = facts_of(out)
        self.assertEqual(keys, [f"00000{i}" for i in range(1, 6)])
        self.assertEqual(labels, [11, 7, -1, 0, -1], "the largest object's: dog, cat, none, aeroplane, no annotation")
        self.assertEqual(boxes, [None])
        self.assertEqual(len(json.loads((out / "manifest.json").read_text())["classes"]), 20)
        self.embed(scratch / "voc-plain", self.root / "JPEGImages")
        self.assertEqual(facts_of(scratch / "voc-plain")[1].tobytes(), vectors.tobytes())

    def test_objects(self):
        wanted_keys = ["000001#1", "000001#2", "000002#1", "000004#1"]
        wanted_boxes = [box for told in self.objects.values() for box in cut(told)]
        pngs = folder("voc-crops")
        for key, (x, y, w, h) in zip(wanted_keys, wanted_boxes):
            whole = Image.open(self.root / f"JPEGImages/{key[:6]}.jpg").convert("RGB")
            area = (x, y, min(x + w, whole.width), min(y + h, whole.height))
            (pngs / f"{key}.png").write_bytes(encode(whole.crop(area), "PNG"))
        self.embed(scratch / "voc-png", pngs)
        first = None
        for ranks in RANKS:
            out = scratch / f"voc-objects-{ranks}"
            self.embed(out, "--crop-objects", self.root, ranks=ranks)
            keys, vectors, labels, boxes = facts_of(out)
            self.assertEqual((keys, labels), (wanted_keys, [14, 11, 7, 0]))
            self.assertEqual([tuple(box) for box in boxes[0].tolist()], wanted_boxes)
            self.assertEqual(vectors.tobytes(), facts_of(scratch / "voc-png")[1].tobytes())
            first = first or contents(out)
            self.assertEqual(contents(out), first)
        result = myriops("info", "--format", "json", "--crop-objects", self.root)
        self.assertEqual((result.json()["items"], result.json()["labelled"]), (4, 4))

    def test_lists(self):
        self.embed(scratch / "voc-train", self.root / "ImageSets/Main/train.txt")
        self.assertEqual(facts_of(scratch / "voc-train")[0], ["000002", "000001"])
        result = myriops("info", "--format", "json", "ImageSets/Main/dog_train.txt", cwd=self.root)
        self.assertEqual(result.json()["items"], 2, str(result))

    def test_development_kit(self):
        kit = folder("VOCdevkit")
        for year in ("VOC2012", "VOC2007"):
            shutil.copytree(self.root, kit / year)
        (kit / "VOC2007/JPEGImages/000005.jpg").unlink()
        (kit / "VOCcode").mkdir()
        (kit / "VOCcode/VOCinit.m").write_text("% code")
        for place in (kit, f"{kit}/"):
            self.embed(scratch / "voc-kit", place, ranks=2)
            keys, _, labels, _ = facts_of(scratch / "voc-kit")
            self.assertEqual(keys, [*(f"VOC2007/00000{i}" for i in range(1, 5)), *(f"VOC2012/00000{i}" for i in range(1, 6))])
            self.assertEqual(labels, [11, 7, -1, 0, 11, 7, -1, 0, -1])
        result = myriops("info", "--crop-objects", kit)
        self.check(result, DONE, "PASCAL VOC of 2 years")
        self.embed(scratch / "voc-kit-objects", "--crop-objects", kit)
        keys, _, _, boxes = facts_of(scratch / "voc-kit-objects")
        self.assertEqual((len(keys), keys[0], keys[-1]), (8, "VOC2007/000001#1", "VOC2012/000004#1"))
        self.assertEqual(len(np.concatenate(boxes)), 8)

    def test_a_box_outside_of_its_picture(self):
        root, _ = make_voc("VOC-outside")
        (root / "Annotations/000002.xml").write_text(annotation([("cat", 500, 1, 510, 9), ("cat", 1, 1, 50, 50)]))
        out = scratch / "voc-outside"
        self.check(myriops("embed", "--max-bad", 0.5, "--crop-objects", "--out", out, root, ranks=2), DONE)
        self.assertIn("outside", read_bad(out)["000002#1"])
        keys, _, _, boxes = facts_of(out)
        self.assertEqual(len(keys), len(boxes[0]))
        self.assertEqual(boxes[0][keys.index("000002#2")].tolist(), [0, 0, 50, 50])


class Tars(Case):
    def test_tar_gz(self):
        members = []
        for i in range(40):
            data = encode(picture(i, 300, 200), "PNG" if i % 2 else "JPEG")
            members += [(f"{i:04d}.cls", str(i % 7).encode()), (f"{i:04d}.{'png' if i % 2 else 'jpg'}", data)]
        tar = write_tar(scratch / "packed.tar", members)
        raw = tar.read_bytes()
        middle = len(raw) // 2
        one, two = scratch / "packed.tar.gz", scratch / "members.tgz"
        one.write_bytes(gzip.compress(raw))
        two.write_bytes(gzip.compress(raw[:middle]) + gzip.compress(raw[middle:]))
        self.embed(scratch / "packed-tar", "--chunk", 8, tar)
        wanted = facts_of(scratch / "packed-tar")
        digest = myriops("info", "--format", "json", tar).json()["corpus"]
        for path in (one, two):
            self.assertEqual(myriops("info", "--format", "json", path).json()["corpus"], digest)
            first = None
            for ranks in RANKS:
                out = scratch / f"packed-{path.suffix}-{ranks}"
                self.embed(out, "--chunk", 8, "--threads", 3, path, ranks=ranks)
                found = facts_of(out)
                self.assertEqual((found[0], found[2]), (wanted[0], wanted[2]))
                self.assertEqual(found[1].tobytes(), wanted[1].tobytes())
                first = first or contents(out)
                self.assertEqual(contents(out), first)

    def test_img2dataset(self):
        root = folder("laion")
        for shard in range(4):
            members = []
            for i in range(3):
                key = f"{shard:05d}{i:04d}"
                members += [(f"{key}.jpg", encode(picture(shard * 10 + i))), (f"{key}.json", json.dumps({"caption": "a picture", "key": key}).encode()),
                            (f"{key}.txt", b"a picture")]
            write_tar(root / f"{shard:05d}.tar", members)
            (root / f"{shard:05d}.parquet").write_bytes(b"PAR1")
            if shard != 2:
                (root / f"{shard:05d}_stats.json").write_text('{"successes": 3}')
        result = myriops("info", "--format", "json", root)
        facts = result.json()
        self.assertEqual((facts["items"], facts["tars"], facts["unfinished"]), (9, 3, 1))
        self.assertIn("1 tars have no _stats.json", result.err)
        self.embed(scratch / "laion-emb", root, ranks=2)
        self.assertEqual(facts_of(scratch / "laion-emb")[0], [f"{s:05d}{i:04d}" for s in (0, 1, 3) for i in range(3)])
        other = scratch / "laion-2"
        shutil.copytree(root, other)
        self.embed(scratch / "laion-two", root, other)
        keys = facts_of(scratch / "laion-two")[0]
        self.assertEqual((len(keys), keys[0], keys[-1]), (18, "laion/000000000", "laion-2/000030002"))
        for file in root.glob("*_stats.json"):
            file.unlink()
        self.assertEqual(myriops("info", "--format", "json", root).json()["items"], 12, "a folder of tars without counts")

    def test_pipes_and_addresses(self):
        for operand in ("pipe:curl -s host/a.tar", "https://host/{000..001}.tar", "s3://bucket/a.tar"):
            for ranks in (None, 2):
                result = myriops("embed", "--out", scratch / "pipe", operand, ranks=ranks)
                self.check(result, FAILED, "copy it to a file")
                self.assertEqual(result.err.count("copy it to a file"), 1)


class ImageNet(Case):
    def test_names(self):
        root = folder("ILSVRC")
        (root / "LOC_synset_mapping.txt").write_text("n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\nn02123045 tabby\n")
        train = root / "Data/CLS-LOC/train"
        for i, wnid in enumerate(("n03126707", "n01440764", "n02012849", "n09999999")):
            (train / wnid).mkdir(parents=True)
            (train / wnid / f"{wnid}_{i}.JPEG").write_bytes(encode(picture(i)))
        result = myriops("embed", "--label-from-folder", "--out", scratch / "in", train)
        self.check(result, DONE, "no name for 1 of 4")
        keys, _, labels, _ = facts_of(scratch / "in")
        self.assertEqual(labels, [0, 1, 2, 3], "in the order of the wnids")
        self.assertEqual(json.loads((scratch / "in/manifest.json").read_text())["classes"],
                         ["tench, Tinca tinca", "crane (n02012849)", "crane (n03126707)", "n09999999"])
        words = scratch / "my-words.txt"
        words.write_text("n01440764\tfish\nn09999999\tthing\n")
        self.embed(scratch / "in-words", "--synsets", words, train)
        self.assertEqual(json.loads((scratch / "in-words/manifest.json").read_text())["classes"], ["fish", "n02012849", "n03126707", "thing"])
        self.assertEqual(facts_of(scratch / "in-words")[2], labels)
        words.write_text("fish n01440764\n")
        self.check(myriops("info", "--synsets", words, train), FAILED, "line 1")
        self.check(myriops("info", "--synsets", scratch / "nothing", train), FAILED, "no such file")

    def test_one_class_in_two_folders(self):
        root = folder("split")
        (root / "words.txt").write_text("n01440764\ttench\nn02123045\ttabby\n")
        for part in ("train", "val"):
            for wnid in ("n02123045", "n01440764"):
                (root / part / wnid).mkdir(parents=True)
                (root / part / wnid / f"{part}.jpg").write_bytes(encode(picture(3)))
        self.embed(scratch / "split-emb", "--label-from-folder", root / "train", root / "val")
        self.assertEqual(facts_of(scratch / "split-emb")[2], [0, 1, 0, 1])
        self.assertEqual(json.loads((scratch / "split-emb/manifest.json").read_text())["classes"], ["tench", "tabby"])


@unittest.skipUnless(shutil.which("strace"), "strace is missing")
@unittest.skipIf(SANITIZED, "strace and LeakSanitizer both trace")
class SharedFileSystem(Case):
    """What is asked of the file system: by whom, and how often."""

    def calls(self, out, *operands, ranks=3):
        """{process: lines of its system calls on names and locks} of an embedding run."""
        place = folder(f"{out}-calls")
        line = ["mpirun", "-n", str(ranks), "strace", "-f", "-ff", "-y", "--seccomp-bpf", "-o", str(place / "of"), "-e",
                "trace=openat,newfstatat,stat,lstat,getdents64,flock,fcntl", "-e", "signal=none", str(PROGRAM), "embed", "--quiet", "--threads", "2", "--chunk", "8", "--out",
                str(scratch / out), *map(str, operands)]
        run = subprocess.run(line, capture_output=True, env=environment(), cwd=scratch, timeout=240, stdin=subprocess.DEVNULL)
        if b"ptrace" in run.stderr:
            self.skipTest("strace may not trace here")
        self.assertEqual(run.returncode, 0, run.stderr.decode())
        return [file.read_text(errors="replace").splitlines() for file in place.iterdir()]

    def named(self, threads, call, path):
        """How often each thread made a call on the path, those that did."""
        counts = [sum(line.startswith(call) and str(path) in line for line in lines) for lines in threads]
        return sorted((n for n in counts if n > 0), reverse=True)

    def test_one_rank_scans_and_asks_for_sizes(self):
        some = pictures("scanned", 40)
        threads = self.calls("scanned-emb", some)
        self.assertEqual(self.named(threads, "getdents", f"<{some}>"), [2], "one pass: the names, and the end")
        by_name = [sum("scanned" in line and line.startswith(("newfstatat", "stat", "lstat")) and '.jpg"' in line for line in lines)
                   for lines in threads]
        self.assertEqual(sorted(n for n in by_name if n), [40], "sizes: once each, by one thread")
        opened = sum(line.startswith("openat") and '.jpg"' in line and "ENOENT" not in line for lines in threads for line in lines)
        self.assertEqual(opened, 40, "each picture is opened once, by whoever embeds it")

    def test_big_files_stay_open_and_are_not_locked(self):
        pixels = np.random.default_rng(1).integers(0, 256, (64, 24, 24, 3), dtype=np.uint8)
        for name, how in (("whole", {}), ("pieces", dict(chunks=(8, 24, 24, 3), compression="gzip"))):
            path = scratch / f"{name}.h5"
            with h5py.File(path, "w") as file:
                file.create_dataset("x", data=pixels, **how)
                file["y"] = np.arange(64)
            threads = self.calls(f"{name}-emb", path)
            for call in ("flock", "fcntl"):
                locks = [line for lines in threads for line in lines if line.startswith(call) and str(path) in line and "LK" in line.replace("F_GETFL", "")]
                self.assertEqual(locks, [])
            opened = sum(line.startswith("openat") and f'"{path}"' in line for lines in threads for line in lines)
            self.assertIn(opened, range(2, 3 + 3 * 2 + 1), "three times to enumerate; then once a thread, not once a picture")
        tar = write_tar(scratch / "big.tar", [(f"{i:03d}.jpg", encode(picture(i))) for i in range(48)])
        threads = self.calls("big-emb", tar)
        opened = sum(line.startswith("openat") and f'"{tar}"' in line for lines in threads for line in lines)
        self.assertIn(opened, range(2, 1 + 3 * 2 + 1))


class Digest(Case):
    """What earlier versions made goes on: over key, NUL, and offset, size and label as little-endian 64-bit numbers."""

    def digest(self, items):
        hash = hashlib.sha256()
        for key, offset, size, label in items:
            hash.update(key.encode() + b"\0" + struct.pack("<qqq", offset, size, label))
        return hash.hexdigest()

    def test_folders_and_tars(self):
        some = folder("digest")
        (some / "b").mkdir()
        items = [(name, (some / name).write_bytes(encode(picture(i))) and 0, (some / name).stat().st_size)
                 for i, name in enumerate(("a.jpg", "b/c.jpg"))]
        found = myriops("info", "--format", "json", some).json()["corpus"]
        self.assertEqual(found, self.digest([(*item, -1) for item in items]))
        found = myriops("info", "--format", "json", "--label-from-folder", some).json()["corpus"]
        self.assertEqual(found, self.digest([(*items[0], -1), (*items[1], 0)]))
        data = encode(picture(1))
        tar = write_tar(scratch / "digest.tar", [("x.jpg", data), ("x.cls", b"5")])
        self.assertEqual(myriops("info", "--format", "json", tar).json()["corpus"], self.digest([("x", 512, len(data), 5)]))

    def test_standard_input(self):
        some = pictures("stdin", 3)
        names = "".join(f"{some}/{i:05d}.jpg\n" for i in (2, 0))
        run = subprocess.run(command(["info", "--format", "json", "-"]), input=names.encode(), capture_output=True, env=environment())
        self.assertEqual(json.loads(run.stdout)["items"], 2, run.stderr.decode())


main()
