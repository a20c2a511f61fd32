"""What cannot be used: the list of it, and trying it again."""
import time

from harness import *

CHUNK = 8


def broken(data):
    """As long as it was, but no picture any more."""
    return data[:20] + bytes(len(data) - 20)


def rows(out):
    lines = (out / "bad.tsv").read_text().splitlines()
    assert lines[0] == "chunk\tkey\tsource\treason", lines[0]
    return [line.split("\t") for line in lines[1:]]


class BadList(Case):
    def make(self, name, bad):
        some = pictures(name, 60, size=(80, 60))
        whole = {}
        for i in bad:
            path = some / f"{i:05d}.jpg"
            whole[i] = path.read_bytes()
            path.write_bytes(broken(whole[i]))
        return some, whole

    def run_embed(self, out, some, *more, ranks=None, code=DONE):
        result = myriops("embed", "--format", "json", "--threads", 1, "--chunk", CHUNK, "--max-bad", 0.5, "--out", out, *more, some, ranks=ranks)
        self.check(result, code)
        return result

    def test_the_list(self):
        bad = (3, 4, 17, 59)
        some, _ = self.make("list", bad)
        odd = "a\tname\\of\nits own.jpg"
        (some / odd).write_bytes(b"\xff\xd8\xff")
        wanted = None
        for ranks in (None, 2, 3):
            out = scratch / f"list-{ranks}"
            self.run_embed(out, some, ranks=ranks)
            wanted = wanted or (out / "bad.tsv").read_bytes()
            self.assertEqual((out / "bad.tsv").read_bytes(), wanted)
        found = rows(out)
        self.assertEqual([row[1] for row in found], [f"{i:05d}.jpg" for i in bad] + ["a\\x09name\\x5Cof\\x0Aits own.jpg"])
        reasons = read_bad(out)
        for chunk, key, source, reason in found[:-1]:
            self.assertEqual(reason, reasons[key])
            self.assertEqual(source, str(some / key))
            with h5py.File(out / f"chunk-{int(chunk):06d}.h5", "r") as file:
                self.assertIn(key.encode(), file["bad/key"][:])
        told = myriops("embed", "--chunk", CHUNK, "--max-bad", 0.5, "--out", out, some)
        self.check(told, DONE, f"{out}/bad.tsv")
        self.check(myriops("embed", "--chunk", CHUNK, "--max-bad", 0.01, "--out", out, some), FAILED, f"{out}/bad.tsv")

    def test_a_list_only_where_something_is_bad(self):
        some, whole = self.make("none", (5,))
        out = scratch / "none-out"
        self.run_embed(out, some)
        self.assertTrue((out / "bad.tsv").exists())
        (some / "00005.jpg").write_bytes(whole[5])
        self.run_embed(out, some, "--retry-bad")
        self.assertFalse((out / "bad.tsv").exists())

    def test_only_what_is_bad_is_tried_again(self):
        for dtype in ("f32", "f16"):
            bad = (0, 9, 10, 15, 33, 34, 59)
            some, whole = self.make(f"retry-{dtype}", bad)
            out, anew = scratch / f"retry-out-{dtype}", scratch / f"retry-anew-{dtype}"
            self.assertEqual(self.run_embed(out, some, "--dtype", dtype, ranks=2).json()["bad"], 7)
            before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
            again = self.run_embed(out, some, "--dtype", dtype).json()
            self.assertEqual((again["before"], again["bad"]), (60, 7), "without being asked nothing is tried again")
            for i in (0, 10, 34, 59):
                (some / f"{i:05d}.jpg").write_bytes(whole[i])
            good = (some / "00001.jpg").read_bytes()  # beside a bad one: were it tried again, it would be bad now
            (some / "00001.jpg").write_bytes(broken(good))
            again = self.run_embed(out, some, "--dtype", dtype, "--retry-bad", ranks=3).json()
            (some / "00001.jpg").write_bytes(good)
            self.assertEqual((again["before"], again["bad"], again["embedded"]), (53, 3, 57))
            self.run_embed(anew, some, "--dtype", dtype)
            self.assertEqual(contents(out), contents(anew), "as if they had never been bad")
            after = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
            same = {name for name in before if name.startswith("chunk-") and before[name] == after[name]}
            self.assertEqual(same, {f"chunk-{i:06d}.h5" for i in range(8)} - {f"chunk-{i // CHUNK:06d}.h5" for i in bad})
            self.assertEqual([row[1] for row in rows(out)], ["00009.jpg", "00015.jpg", "00033.jpg"])

    def test_mended_pictures_have_other_sizes(self):
        some, whole = self.make("mended", (2, 11, 30))
        (some / "00030.jpg").write_bytes(b"")
        (some / "00002.jpg").write_bytes(whole[2][:100])
        out, anew = scratch / "mended-out", scratch / "mended-anew"
        self.run_embed(out, some, ranks=2)
        (some / "00002.jpg").write_bytes(whole[2])
        (some / "00030.jpg").write_bytes(whole[30])
        (some / "00011.jpg").write_bytes(b"as bad as before, and shorter")
        self.check(myriops("embed", "--threads", 1, "--chunk", CHUNK, "--out", out, some), FAILED, "another corpus")
        good = (some / "00001.jpg").read_bytes()
        (some / "00001.jpg").write_bytes(encode(picture(99, 80, 60)))  # what was good must be what it was
        self.check(myriops("embed", "--threads", 1, "--chunk", CHUNK, "--retry-bad", "--out", out, some), FAILED, "another corpus")
        (some / "00001.jpg").write_bytes(good)
        again = self.run_embed(out, some, "--retry-bad", ranks=3).json()
        self.assertEqual((again["before"], again["bad"]), (57, 1))
        self.run_embed(anew, some)
        self.assertEqual(contents(out), contents(anew))

    def test_what_another_rank_has_made_is_what_counts(self):
        """A chunk that comes while it is made here too, with one item fewer: a moment's failure of the other's disk."""
        some, whole = self.make("twice", (59,))
        out, other = folder("twice-out"), scratch / "twice-other"
        self.run_embed(other, some)
        (some / "00059.jpg").write_bytes(whole[59])
        process = start("embed", "--threads", 1, "--chunk", CHUNK, "--backend", "openblas", "--out", out, some)
        while process.poll() is None and not (out / "chunk-000000.h5").exists():
            time.sleep(0.002)
        shutil.copy(other / "chunk-000007.h5", out / "coming")
        (out / "coming").rename(out / "chunk-000007.h5")
        said = process.stdout.read().decode()
        process.stdout.close()
        self.assertEqual(process.wait(), DONE, said)
        self.assertEqual((out / "chunk-000007.h5").read_bytes(), (other / "chunk-000007.h5").read_bytes())
        self.assertEqual((out / "bad.tsv").read_bytes(), (other / "bad.tsv").read_bytes())
        self.assertEqual(json.loads((out / "manifest.json").read_text())["bad"], 1)

    def test_in_a_folder_that_is_not_finished(self):
        some, whole = self.make("half", (2, 50))
        out, anew = scratch / "half-out", scratch / "half-anew"
        self.run_embed(out, some)
        (out / "chunk-000003.h5").unlink()
        for i in whole:
            (some / f"{i:05d}.jpg").write_bytes(whole[i])
        again = self.run_embed(out, some, "--retry-bad", ranks=2).json()
        self.assertEqual((again["before"], again["bad"]), (60 - CHUNK - 2, 0))
        self.run_embed(anew, some)
        self.assertEqual(contents(out), contents(anew))

    def test_a_damaged_chunk_is_made_again_whole(self):
        some, whole = self.make("damaged", (2,))
        out, anew = scratch / "damaged-out", scratch / "damaged-anew"
        self.run_embed(out, some)
        data = bytearray((out / "chunk-000000.h5").read_bytes())
        data[len(data) // 2] ^= 1
        (out / "chunk-000000.h5").write_bytes(data)
        self.run_embed(out, some, "--retry-bad")
        self.run_embed(anew, some)
        self.assertEqual(contents(out), contents(anew))


if __name__ == "__main__":
    main()
