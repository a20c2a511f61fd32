"""Input that is missing, damaged or hostile: skipped and counted, or one clear error."""
import resource
import shutil
import struct
import zlib

from harness import *


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(side=100000):
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def bombs():
    """Small files that ask for much: {name: (bytes, a word of the reason)}."""
    flat = encode(picture(1, 64, 48))
    frame = flat.index(b"\xff\xc0")
    wide_jpeg = flat[:frame + 5] + struct.pack(">HH", 60000, 60000) + flat[frame + 9:]
    bits = 16382 | 16382 << 14
    webp = b"WEBPVP8L" + struct.pack("<I", 12) + b"\x2f" + struct.pack("<I", bits) + b"\0" * 7
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    tail = chunk(b"IDAT", zlib.compress(b"\0" * 8 * 25)) + chunk(b"IEND", b"")
    zeros = zlib.compress(b"\0" * (200 << 20), 9)
    progressive = bytes([0xff, 0xd8, 0xff, 0xc2, 0, 17, 8]) + struct.pack(">HH", 12288, 12288)
    progressive += bytes([3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0, 0xff, 0xda, 0, 12, 3, 1, 0, 2, 0, 3, 0, 0, 0, 0])
    scan_bomb = bytes([0xff, 0xd8, 0xff, 0xc2, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0, 0xff, 0xdb, 0, 67, 0]) + b"\1" * 64
    scan_bomb += bytes([0xff, 0xc4, 0, 20, 0, 1]) + b"\0" * 16
    scan_bomb += bytes([0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0, 0x7f]) * 2000 + b"\xff\xd9"
    return {"wide.png": (huge_png(60000), "60000 x 60000"), "wide.jpg": (wide_jpeg, "60000 x 60000"),
            "wide.webp": (b"RIFF" + struct.pack("<I", len(webp)) + webp, "16383 x 16383"),
            "profile.png": (head + chunk(b"iCCP", b"x\0\0" + zeros) + tail, "PNG"),
            "words.png": (head + chunk(b"zTXt", b"x\0\0" + zeros) + tail, "PNG"),
            "memory.jpg": (progressive, "9 bytes a pixel"), "scans.jpg": (scan_bomb, "scans")}


class BadPictures(Case):
    """One bad picture among 39 good ones is listed with its reason; the rest is embedded."""

    def embed_with(self, name, data, word):
        good = pictures(f"with-{name}", 39)
        (good / name).write_bytes(data)
        out = scratch / f"out-{name}"
        result = myriops("embed", "--out", out, good, ranks=2)
        self.check(result, DONE, "39 of 40", "1 unusable")
        keys, vectors = read_embeddings(out)
        self.assertEqual(len(keys), 39)
        self.assertEqual(list(read_bad(out)), [name])
        self.assertIn(word, read_bad(out)[name])

    def test_zero_bytes(self):
        self.embed_with("zero.jpg", b"", "empty")

    def test_truncated_jpeg(self):
        data = encode(picture(1, 400, 300))
        self.embed_with("cut.jpg", data[: len(data) // 2], "ends early")

    def test_text_named_jpg(self):
        self.embed_with("text.jpg", b"this is no picture at all\n" * 20, "no picture")

    def test_png_that_declares_100000_squared(self):
        self.embed_with("huge.png", huge_png(), "100000 x 100000")

    def test_bombs(self):
        made = bombs()
        good = pictures("with-bombs", 40)
        for name, (data, _) in made.items():
            (good / name).write_bytes(data)
        out = scratch / "out-bombs"
        self.check(myriops("embed", "--out", out, "--max-bad", "0.5", good, ranks=2, timeout=60), DONE, "of 47")
        reasons = read_bad(out)
        for name, (_, word) in made.items():
            self.assertIn(word, reasons[name])

    def test_too_many_bad_pictures_fail_the_run(self):
        some = pictures("many-bad", 8)
        for i in range(2):
            (some / f"bad{i}.jpg").write_bytes(b"nothing")
        out = scratch / "out-many-bad"
        self.check(myriops("embed", "--out", out, some, ranks=2), FAILED, "2 of 10", "--max-bad")
        self.assertEqual(len(read_embeddings(out)[0]), 8)
        self.check(myriops("embed", "--out", out, "--max-bad", "0.5", some), DONE, "8 of 10")

    def test_query_by_a_bad_picture(self):
        some = pictures("for-query", 6)
        self.embed(scratch / "q-emb", some)
        self.check(myriops("index", "--out", scratch / "q-idx", scratch / "q-emb"), DONE)
        (scratch / "bad.jpg").write_bytes(b"nothing")
        result = myriops("query", "--index", scratch / "q-idx", "-k", 2, scratch / "bad.jpg", some / "00003.jpg", ranks=2)
        self.check(result, DONE, "bad.jpg", "skipped", "00003.jpg")
        self.check(myriops("query", "--index", scratch / "q-idx", scratch / "bad.jpg", ranks=2), FAILED, "none of 1")


class BadCorpora(Case):
    def test_missing_path(self):
        for ranks in (None, 3):
            result = myriops("embed", "--out", scratch / "none", scratch / "nowhere", ranks=ranks)
            self.check(result, FAILED, "nowhere")
            self.assertEqual(result.err.count("nowhere"), 1, "the error is printed once")
        self.assertFalse((scratch / "none").exists())

    def test_empty_folder(self):
        self.check(myriops("embed", "--out", scratch / "none", folder("empty"), ranks=2), FAILED, "empty")

    def test_tar_cut_in_the_middle(self):
        whole = write_tar(scratch / "whole.tar", [(f"{i:03d}.jpg", encode(picture(i))) for i in range(10)])
        data = whole.read_bytes()
        cut = scratch / "cut.tar"
        cut.write_bytes(data[: len(data) // 2])
        result = myriops("embed", "--out", scratch / "cut-out", cut, ranks=2)
        self.assertIn(result.code, (DONE, FAILED), str(result))
        self.assertIn("cut.tar", result.out + result.err + str(read_bad(scratch / "cut-out")), "the cut is told")

    def test_tar_with_scattered_keys(self):
        jpeg = encode(picture(1))
        bad = write_tar(scratch / "scattered.tar", [("a.jpg", jpeg), ("b.jpg", jpeg), ("a.cls", b"3")])
        self.check(myriops("embed", "--out", scratch / "none", bad, ranks=2), FAILED, "scattered.tar", "a")

    def test_key_met_twice(self):
        one = pictures("twice", 2)
        self.check(myriops("embed", "--out", scratch / "none", one / "00000.jpg", one / "00000.jpg"), FAILED, "00000.jpg")


class BadFolders(Case):
    def test_chunks_without_a_manifest(self):
        one, other = pictures("stray-a", 4), pictures("stray-b", 4)
        out = scratch / "stray"
        self.embed(out, one)
        (out / "manifest.json").unlink()
        self.check(myriops("embed", "--out", out, other, ranks=2), FAILED, "no manifest.json")

    def test_a_manifest_of_billions(self):
        out = scratch / "billions"
        self.embed(out, pictures("billions-pictures", 4))
        text = json.loads((out / "manifest.json").read_text())
        text.update(items=2**48, chunk_items=1, chunks=2**48)
        (out / "manifest.json").write_text(json.dumps(text))
        self.assertIn(myriops("info", out, timeout=20).code, (DONE, FAILED))

    def test_two_runs_at_once(self):
        some = pictures("two-runs", 200, size=(400, 300))
        out = scratch / "two-runs-out"
        first = start("embed", "--out", out, "--chunk", 32, "--threads", 1, some)
        second = myriops("embed", "--out", out, "--chunk", 32, "--threads", 1, some)
        self.assertEqual(first.wait(timeout=120), DONE)
        first.stdout.close()
        self.assertIn(second.code, (DONE, FAILED), str(second))
        if second.code == FAILED:
            self.assertIn("another run", second.err)
        self.assertEqual(len(read_embeddings(out)[0]), 200)


class BadModels(Case):
    def test_corrupt_onnx(self):
        models = folder("models")
        shutil.copy(SOURCE / "conf/models/efficientnet-lite0.conf", models)
        data = bytearray((SOURCE / "conf/models/efficientnet-lite0.onnx").read_bytes())
        data[len(data) // 2] ^= 1
        (models / "efficientnet-lite0.onnx").write_bytes(data)
        some = pictures("onnx", 2)
        result = myriops("embed", "--model", models / "efficientnet-lite0.conf", "--out", scratch / "none", some, ranks=2)
        self.check(result, FAILED, "SHA-256")
        card = (models / "efficientnet-lite0.conf").read_text()
        card = "\n".join(line for line in card.splitlines() if not line.startswith(("sha256", "labels")))
        (models / "bare.conf").write_text(card)
        (models / "efficientnet-lite0.onnx").write_bytes(data[: len(data) // 3])
        result = myriops("embed", "--model", models / "bare.conf", "--out", scratch / "none", some, ranks=2)
        self.check(result, FAILED, "efficientnet-lite0.onnx", "damaged")

    def test_missing_model(self):
        self.check(myriops("embed", "--model", "no-such", "--out", scratch / "none", scratch, ranks=2), FAILED, "no-such")


class BadIndexes(Case):
    @classmethod
    def setUpClass(cls):
        cls.pictures = pictures("index-pictures", 40)
        cls.index = scratch / "index"
        assert myriops("embed", "--quiet", "--out", scratch / "index-emb", cls.pictures).code == DONE
        assert myriops("index", "--quiet", "--shards", 2, "--out", cls.index, scratch / "index-emb").code == DONE

    def query(self, index, **more):
        return myriops("query", "--index", index, "-k", 3, self.pictures / "00000.jpg", ranks=2, **more)

    def damaged(self, name):
        path = scratch / name
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.index, path)
        return path

    def test_flipped_bytes(self):
        self.check(self.query(self.index), DONE)
        for pattern in ("shard-00000-*.h5", "shard-00001-*.h5", "router-*.h5"):
            for place in (0.1, 0.5, 0.9):
                path = self.damaged("flipped")
                file = next(path.glob(pattern))
                data = bytearray(file.read_bytes())
                data[int(len(data) * place)] ^= 0x10
                file.write_bytes(data)
                self.check(self.query(path), FAILED, file.name)

    def test_a_large_shard_is_checked_where_it_is_read(self):
        """Above 16 MiB. Few queries read little of it: they are right, or refused; many want it all."""
        rows = np.random.default_rng(8).integers(0, 256, (100000, 64)).astype(np.uint8)
        base, one, many = (write_u8bin(scratch / f"large-{n}.u8bin", rows[:n]) for n in (100000, 1, 2000))
        index, hits = scratch / "large-index", scratch / "large-hits.hdf5"
        self.check(myriops("index", "--quiet", "--shards", 1, "--ef-construction", 20, "--out", index, base), DONE)
        shard = next(index.glob("shard-*.h5"))
        data = bytearray(shard.read_bytes())
        self.assertGreater(len(data), 16 << 20)

        def ask(queries):
            return myriops("query", "--quiet", "--index", index, "-k", 10, "--vectors", queries, "--out", hits, ranks=2)

        def answer():
            with h5py.File(hits, "r") as file:
                return file["neighbors"][:].tolist()

        self.check(ask(one), DONE)
        right, n_refused = answer(), 0
        for place in np.linspace(5000, len(data) - 20000, 6).astype(int):
            data[place] ^= 4
            shard.write_bytes(data)
            data[place] ^= 4
            result = ask(one)
            if result.code == DONE:
                self.assertEqual(answer(), right)
            else:
                self.check(result, FAILED, shard.name, "damaged")
            n_refused += result.code != DONE
            result = ask(many)
            self.check(result, FAILED, shard.name, "damaged")
            self.assertEqual(result.err.count("damaged"), 1, str(result))
        self.assertLess(n_refused, 6)
        shard.write_bytes(data)
        self.check(ask(many), DONE)

    def test_damaged_manifest(self):
        text = (self.index / "index.json").read_text()
        for broken in (text[: len(text) // 2], text.replace('"dim": 1280', '"dim": -5'), text.replace('shard-00000', '../../etc/x'), ""):
            path = self.damaged("manifest")
            (path / "index.json").write_text(broken)
            self.check(self.query(path), FAILED, "index.json")

    def test_a_manifest_that_lies(self):
        """Valid JSON, valid checksums, other sizes than the shards have."""
        for old, new in (('"dim": 1280', '"dim": 65536'), ('"dim": 1280', '"dim": 16'), ('"M": 16', '"M": 8'), ('"cosine"', '"l2"')):
            path = self.damaged("lies")
            text = (path / "index.json").read_text()
            self.assertIn(old, text)
            (path / "index.json").write_text(text.replace(old, new))
            self.check(self.query(path), FAILED)
            self.check(myriops("eval", "--index", path, "--probe", 1, "--sample", 5, ranks=2), FAILED)

    def test_missing_shard(self):
        path = self.damaged("missing")
        next(path.glob("shard-00001-*.h5")).unlink()
        self.check(self.query(path), FAILED, "shard-00001")
        self.check(myriops("info", path), FAILED, "shard-00001")

    def test_no_index(self):
        self.check(self.query(folder("nothing")), FAILED, "no index here")

    def test_another_contract(self):
        models = folder("other-models")
        for name in ("efficientnet-lite0.onnx", "imagenet-1k-labels.txt"):
            shutil.copy(SOURCE / "conf/models" / name, models)
        card = (SOURCE / "conf/models/efficientnet-lite0.conf").read_text().replace("filter = bicubic", "filter = bilinear")
        (models / "efficientnet-lite0.conf").write_text(card)
        result = myriops("query", "--index", self.index, "--model", models / "efficientnet-lite0.conf", self.pictures / "00000.jpg", ranks=2)
        self.check(result, FAILED, "contract")
        result = myriops("embed", "--model", models / "efficientnet-lite0.conf", "--out", scratch / "index-emb", self.pictures, ranks=2)
        self.check(result, FAILED, "contract")

    def test_vectors_of_another_length(self):
        queries = write_u8bin(scratch / "short.u8bin", np.zeros((2, 16)))
        self.check(myriops("query", "--index", self.index, "--vectors", queries, ranks=2), FAILED, "16 values", "1280")


class BadOutput(Case):
    def test_read_only_folder(self):
        some = pictures("read-only", 4)
        for ranks in (None, 3):
            self.check(myriops("embed", "--out", "/proc/myriops", some, ranks=ranks), FAILED, "/proc/myriops")
        self.embed(scratch / "ro-emb", some)
        self.check(myriops("index", "--out", "/proc/myriops", scratch / "ro-emb", ranks=2), FAILED, "/proc/myriops")
        self.check(myriops("index", "--out", scratch / "ro-idx", scratch / "ro-emb"), DONE)
        result = myriops("query", "--index", scratch / "ro-idx", "--out", "/proc/hits.json", "--format", "json", some / "00000.jpg", ranks=2)
        self.check(result, FAILED, "/proc/hits.json")

    def full_disk(self, size):
        """A folder on a disk of its own of this size, or None where mounting is not allowed."""
        disk = folder("disk")
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk], capture_output=True)
        if mounted.returncode != 0:
            return None
        self.addCleanup(lambda: subprocess.run(["umount", disk], check=True))
        return disk

    def test_full_disk(self):
        some = pictures("full", 96)
        self.embed(scratch / "full-undisturbed", "--chunk", 32, some)
        disk = self.full_disk("300k")
        if disk:  # two chunks of 96 are more than it holds
            out = disk / "emb"
            self.check(myriops("embed", "--out", out, "--chunk", 32, some, ranks=2), FAILED, "chunk-00000", "No space left")
        else:  # a limit on the size of files, set once the program runs, stands for it
            out = scratch / "full-out"
            process = start("embed", "--out", out, "--chunk", 32, "--threads", 1, some)
            while process.poll() is None and not (out / "manifest.json").exists():
                pass
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20000, 20000))
            said = process.communicate()[0].decode()
            self.assertEqual(process.returncode, FAILED, said)
            self.assertIn("chunk-00000", said)
        self.assertEqual(list(out.glob("*.partial")), [])
        if disk:
            subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        self.embed(out, "--chunk", 32, some)
        self.assertEqual(contents(out), contents(scratch / "full-undisturbed"))

    def test_full_disk_under_an_index(self):
        some = pictures("full-index", 64)
        self.embed(scratch / "full-emb", some)
        disk = self.full_disk("200k")
        if not disk:
            self.skipTest("mounting a small disk is not allowed here")
        self.check(myriops("index", "--shards", 2, "--out", disk / "idx", scratch / "full-emb", ranks=2), FAILED, "shard-0000")
        self.assertEqual([path.name for path in (disk / "idx").iterdir() if path.name == "index.json" or path.suffix == ".partial"], [])
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        self.check(myriops("index", "--shards", 2, "--out", disk / "idx", scratch / "full-emb", ranks=2), DONE)

    def test_one_rank_alone_cannot_write(self):
        """A folder where one chunk's file should be: the rank that makes it fails, and all end with its sentence."""
        some = pictures("one-rank", 96)
        for ranks in (None, 2, 3):
            out = folder("one-rank-out")
            self.embed(out, "--chunk", 32, some, ranks=ranks)
            for chunk in out.glob("chunk-*.h5"):
                chunk.unlink()
            (out / "chunk-000001.h5").mkdir()
            result = myriops("embed", "--out", out, "--chunk", 32, some, ranks=ranks)
            self.check(result, FAILED, "chunk-000001.h5")
            (out / "chunk-000001.h5").rmdir()
            self.embed(out, "--chunk", 32, some, ranks=ranks)

    def test_closed_output(self):
        run = subprocess.run(f"{PROGRAM} embed --help > /dev/full", shell=True, capture_output=True, env=environment())
        self.assertEqual(run.returncode, FAILED)
        self.assertIn(b"standard output", run.stderr)


if __name__ == "__main__":
    main()
