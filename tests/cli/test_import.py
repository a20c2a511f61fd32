"""myriops import: vectors made elsewhere become an embedding folder, the same bytes for any number of ranks, and bad input is told apart."""
import time

from harness import *


def rows_of(n, dim=24, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(20, dim))[rng.integers(0, 20, n)] + 0.5 * rng.normal(size=(n, dim))).astype("f4")


def unit(rows):
    return rows / np.linalg.norm(rows.astype("f8"), axis=1, keepdims=True)


def run(out, *arguments, ranks=None):
    return myriops("import", "--quiet", "--format", "json", "--out", out, *arguments, ranks=ranks)


def all_of(path, name):
    parts = []
    for chunk in sorted(pathlib.Path(path).glob("chunk-*.h5")):
        with h5py.File(chunk, "r") as file:
            parts.append(file[name][:])
    return np.concatenate(parts)


class Import(Case):
    def test_files_in_order_the_same_for_any_ranks(self):
        place = folder("ranks")
        rows = rows_of(700)
        np.save(place / "a.npy", rows[:300])
        write_bin(place / "b.fbin", rows[300:450])
        with h5py.File(place / "c.hdf5", "w") as file:
            file.create_dataset("features", data=rows[450:], chunks=(32, 24), compression="gzip")
            file.create_dataset("labels", data=np.arange(250))
        (place / "keys.txt").write_text("".join(f"picture {i}\n" for i in range(700)))
        (place / "labels.txt").write_text("".join("cat\n" if i % 3 else "dog\n" if i % 2 else "\n" for i in range(700)))
        wanted = None
        for ranks in (None, 2, 3, 25):
            out = place / f"emb-{ranks}"
            result = run(out, "--model", "clip", "--chunk", 64, "--keys", place / "keys.txt", "--label-file", place / "labels.txt",
                         place / "a.npy", place / "b.fbin", place / "c.hdf5", ranks=ranks)
            self.check(result, DONE)
            self.assertEqual((result.json()["imported"], result.json()["bad"], result.json()["dtype"]), (700, 0, "f32"))
            found = contents(out)
            self.assertEqual(len(found), 12)
            wanted = wanted or found
            self.assertEqual(found, wanted, f"{ranks} ranks")
        keys, vectors = read_embeddings(place / "emb-None")
        self.assertEqual(keys, [f"picture {i}" for i in range(700)])
        np.testing.assert_allclose(vectors, unit(rows), atol=2e-7)
        names = json.loads((place / "emb-2" / "manifest.json").read_text())["classes"]
        self.assertEqual(names, ["cat", "dog"])
        self.assertEqual(all_of(place / "emb-2", "label").tolist(), [0 if i % 3 else 1 if i % 2 else -1 for i in range(700)])
        sources = [text.decode() for text in all_of(place / "emb-2", "source")]
        self.assertEqual((sources[0], sources[449], sources[699]), (str(place / "a.npy"), str(place / "b.fbin"), str(place / "c.hdf5")))

    def test_types(self):
        place = folder("types")
        rows = rows_of(50)
        whole = np.clip(rows * 20, -100, 100).round()
        cases = {"half.npy": rows.astype("f2"), "single.npy": rows, "double.npy": rows.astype("f8"), "bytes.npy": whole.astype("i1")}
        for name, values in cases.items():
            np.save(place / name, values)
        write_bin(place / "signed.i8bin", whole.astype("i1"))
        write_bin(place / "unsigned.u8bin", np.abs(whole).astype("u1"))
        np.concatenate([np.full((50, 1), 24, "i4").view("f4"), rows], axis=1).tofile(place / "some.fvecs")
        with h5py.File(place / "half.h5", "w") as file:
            file["train"] = rows.astype("f2")
        wanted = {**cases, "signed.i8bin": whole, "unsigned.u8bin": np.abs(whole), "some.fvecs": rows, "half.h5": rows.astype("f2")}
        for name, values in wanted.items():
            out = place / (name + "-emb")
            self.check(run(out, "--metric", "l2", place / name), DONE)
            keys, found = read_embeddings(out)
            self.assertEqual(found.dtype, np.float16 if "half" in name else np.float32, name)
            self.assertTrue(np.array_equal(found, values.astype(found.dtype)), name)
            self.assertEqual(keys, [str(i) for i in range(50)])
        self.check(run(place / "f16", "--metric", "l2", "--dtype", "f16", place / "single.npy"), DONE)
        self.assertTrue(np.array_equal(read_embeddings(place / "f16")[1], rows.astype("f2")))
        self.check(run(place / "normal", "--metric", "l2", "--normalise", place / "single.npy"), DONE)
        np.testing.assert_allclose(read_embeddings(place / "normal")[1], unit(rows), atol=2e-7)

    def test_unit_vectors_keep_their_bits(self):
        place = folder("unit")
        for name, rows in (("f4", unit(rows_of(200)).astype("f4")), ("f2", unit(rows_of(200)).astype("f2"))):
            np.save(place / f"{name}.npy", rows)
            self.check(run(place / name, place / f"{name}.npy"), DONE)
            self.assertTrue(np.array_equal(read_embeddings(place / name)[1], rows), name)

    def test_bad_vectors_are_listed(self):
        place = folder("bad")
        rows = rows_of(400)
        rows[3, 5] = np.nan
        rows[4, 0] = np.inf
        rows[77] = 0
        np.save(place / "rows.npy", rows)
        result = run(place / "emb", "--chunk", 50, place / "rows.npy", ranks=3)
        self.check(result, DONE)
        self.assertEqual((result.json()["imported"], result.json()["bad"]), (397, 3))
        bad = read_bad(place / "emb")
        self.assertEqual(sorted(bad), ["3", "4", "77"])
        self.assertIn("value 5 is NaN", bad["3"])
        self.assertIn("value 0 is infinite", bad["4"])
        self.assertIn("zero", bad["77"])
        self.assertNotIn(77, all_of(place / "emb", "ordinal"))
        self.check(run(place / "l2", "--metric", "l2", place / "rows.npy"), DONE)
        self.assertEqual(sorted(read_bad(place / "l2")), ["3", "4"])
        rows[:100] = 0
        np.save(place / "many.npy", rows)
        self.check(run(place / "many", place / "many.npy", ranks=2), FAILED, "--max-bad")
        self.check(run(place / "many", "--max-bad", 1, place / "many.npy"), DONE)
        self.check(myriops("index", "--quiet", "--out", place / "idx", place / "emb"), DONE)

    def test_wrong_input_is_told(self):
        place = folder("wrong")
        rows = rows_of(60)
        np.save(place / "rows.npy", rows)
        np.save(place / "narrow.npy", rows[:, :8])
        whole = (place / "rows.npy").read_bytes()
        (place / "cut.npy").write_bytes(whole[:-10])
        (place / "huge.npy").write_bytes(whole.replace(b"(60, 24)", b"(3000000000, 24)")[:len(whole)])
        with open(place / "large.fbin", "wb") as file:  # three thousand million values, said by a header alone
            np.array([3_000_000_000, 1], dtype="u4").tofile(file)
            file.truncate(1000)
        with h5py.File(place / "two.hdf5", "w") as file:
            file["first"] = rows
            file["second"] = rows
        (place / "torn.hdf5").write_bytes((place / "two.hdf5").read_bytes()[:3000])
        with h5py.File(place / "claims.hdf5", "w") as file:
            file.create_dataset("train", (3_000_000_000, 24), "f4", chunks=(1024, 24))
        empty = folder("wrong/empty")
        cases = [([place / "cut.npy"], "what the file holds"), ([place / "huge.npy"], "3000000000"), ([place / "large.fbin"], "3000000000"),
                 ([place / "rows.npy", place / "narrow.npy"], "vectors of 8 values"), ([place / "two.hdf5"], "first second"),
                 (["--dataset-name", "third", place / "two.hdf5"], "no dataset 'third'"), ([place / "torn.hdf5"], "damaged"),
                 ([place / "claims.hdf5"], "larger than the file"), ([empty], "no .npy files"), ([place / "none.npy"], "no such")]
        for i, (arguments, words) in enumerate(cases):
            out = place / f"out{i}"
            self.check(run(out, *arguments, ranks=2 if i % 2 else None), FAILED, words)
            self.assertFalse(out.exists(), "nothing is begun")
        self.check(run(place / "second", "--dataset-name", "second", place / "two.hdf5"), DONE)
        for text, words in (("a\n" * 60, "same key 'a'"), ("".join(f"{i}\n" for i in range(59)), "59 lines of keys for 60"),
                            ("\n".join(str(i) if i != 7 else "" for i in range(60)), "row 7 has an empty key"),
                            ("".join(f"{i}\n" if i else "0\0x\n" for i in range(60)), "NUL byte")):
            (place / "keys.txt").write_text(text)
            self.check(run(place / "keyed", "--keys", place / "keys.txt", place / "rows.npy", ranks=2), FAILED, words)
        (place / "labels.txt").write_text("1\n" * 61)
        self.check(run(place / "labelled", "--label-file", place / "labels.txt", place / "rows.npy"), FAILED, "61 lines of labels")
        self.check(myriops("import", place / "rows.npy"), USAGE, "--out")
        self.check(myriops("import", "--out", place / "x"), USAGE, "no vectors")

    def test_keys_with_a_header(self):
        place = folder("header")
        np.save(place / "rows.npy", rows_of(3))
        (place / "keys.tsv").write_bytes(b"label\tkey\tother\tsource\n7\tone\t-\ta.jpg\n\ttab\\there\t-\tb.jpg\r\n9\tback\\\\slash\t-\t\xff.jpg")
        self.check(run(place / "emb", "--keys", place / "keys.tsv", place / "rows.npy"), DONE)
        self.assertEqual(read_embeddings(place / "emb")[0], ["one", "tab\there", "back\\slash"])
        self.assertEqual(all_of(place / "emb", "label").tolist(), [7, -1, 9])
        self.assertEqual(all_of(place / "emb", "source").tolist(), [b"a.jpg", b"b.jpg", b"\xff.jpg"])

    def test_goes_on_and_refuses_what_differs(self):
        place = folder("resume")
        np.save(place / "rows.npy", rows_of(300))
        np.save(place / "other.npy", rows_of(300, seed=2))
        out, arguments = place / "emb", ("--model", "clip", "--chunk", 32)
        self.check(run(out, *arguments, place / "rows.npy", ranks=2), DONE)
        wanted = contents(out)
        (out / "chunk-000002.h5").unlink()
        (out / "chunk-000005.h5").write_bytes(wanted["chunk-000005.h5"][:-100])
        (out / "chunk-000001.h5.partial").write_bytes(b"half")
        result = run(out, *arguments, place / "rows.npy", ranks=3)
        self.check(result, DONE)
        self.assertEqual(result.json()["before"], 300 - 64)
        self.assertEqual(contents(out), wanted)
        self.check(run(out, *arguments, place / "other.npy"), FAILED, "other vectors")
        self.check(run(out, "--model", "clop", "--chunk", 32, place / "rows.npy"), FAILED, "'clip'", "'clop'")
        self.check(run(out, *arguments, "--metric", "ip", place / "rows.npy"), FAILED, "ip")
        self.check(run(out, "--model", "clip", "--chunk", 64, place / "rows.npy"), FAILED, "--chunk 32")
        self.check(run(out, *arguments, "--dtype", "f16", place / "rows.npy"), FAILED, "--dtype f32")
        self.assertEqual(contents(out), wanted)
        shutil.copy(place / "rows.npy", place / "copy.npy")
        self.check(run(out, *arguments, place / "copy.npy"), DONE)
        self.assertEqual(contents(out).keys(), wanted.keys())

    def test_killed_midway_goes_on(self):
        place = folder("killed")
        np.save(place / "rows.npy", rows_of(40000, 64))
        arguments = ("import", "--quiet", "--out", place / "emb", "--chunk", 32, place / "rows.npy")
        process = start(*arguments, ranks=2)
        deadline = time.time() + 60
        while time.time() < deadline and len(list((place / "emb").glob("chunk-*.h5"))) < 40:
            time.sleep(0.01)
        kill_all(process)
        done = len(list((place / "emb").glob("chunk-*.h5")))
        self.assertLess(done, 1250, "it was killed midway")
        self.check(myriops("index", "--out", place / "idx", place / "emb"), FAILED, "has not finished")
        self.check(myriops(*arguments, ranks=3), DONE)
        self.check(myriops("import", "--quiet", "--out", place / "whole", "--chunk", 32, place / "rows.npy"), DONE)
        self.assertEqual(contents(place / "emb"), contents(place / "whole"))

    def test_unlike_vectors_are_not_compared(self):
        place = folder("unlike")
        for name, seed in (("a", 1), ("b", 2)):
            np.save(place / f"{name}.npy", rows_of(200, seed=seed))
        for name, more in (("named-a", ("--model", "clip")), ("named-b", ("--model", "clip")), ("other-b", ("--model", "dino")),
                           ("plain-a", ()), ("plain-b", ()), ("ip-b", ("--model", "clip", "--metric", "ip"))):
            self.check(run(place / name, *more, place / f"{name[-1]}.npy"), DONE)
        join = lambda *names: myriops("index", "--quiet", "--out", place / ("idx-" + "-".join(names)), *(place / name for name in names))
        self.check(join("named-a", "named-b"), DONE)
        for other in ("other-b", "plain-b", "ip-b"):
            self.check(join("named-a", other), FAILED, "contract")
        self.check(join("plain-a", "plain-b"), FAILED, "contract")
        some = pictures("unlike/pictures", 1)
        self.check(myriops("query", "--index", place / "idx-named-a-named-b", some), FAILED, "clip", "--vectors")

    def test_clip_features_are_asked_by_text_features(self):
        place = folder("clip/img_emb").parent
        rows = rows_of(2400, 32)
        halves = unit(rows).astype("f2")
        for i in range(12):  # in numeric order, not in that of the names
            np.save(place / "img_emb" / f"img_emb_{i}.npy", halves[200 * i:200 * i + 200])
        result = run(place / "emb", "--model", "clip-vit-b32", place, ranks=2)
        self.check(result, DONE)
        self.assertEqual((result.json()["imported"], result.json()["dtype"]), (2400, "f16"))
        self.assertTrue(np.array_equal(read_embeddings(place / "emb")[1], halves))
        self.check(myriops("index", "--quiet", "--shards", 3, "--out", place / "idx", place / "emb", ranks=2), DONE)
        text = (7 * (rows[::80] + 0.3 * rows_of(30, 32, seed=5))).astype("f2")  # of any length
        np.save(place / "text.npy", text)
        hits = myriops("query", "--index", place / "idx", "--ef-search", 300, "--vectors", place / "text.npy", "--format", "json", ranks=2)
        self.check(hits, DONE)
        away = 1 - unit(text) @ halves.astype("f8").T  # halves are as they were given: of length 1 but for rounding
        for query, distances in zip(hits.json()["queries"], away):
            self.assertEqual([int(hit["key"]) for hit in query["hits"]], np.argsort(distances, kind="stable")[:10].tolist())
            np.testing.assert_allclose([hit["distance"] for hit in query["hits"]], np.sort(distances)[:10], atol=2e-3)
        np.save(place / "wide.npy", np.zeros((2, 48), "f4"))
        self.check(myriops("query", "--index", place / "idx", "--vectors", place / "wide.npy"), FAILED, "48 values, the index has 32")


if __name__ == "__main__":
    main()
