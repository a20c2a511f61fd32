"""myriops export: NumPy, h5py and Parquet readers see what was embedded; the same bytes for any number of ranks; whole or not at all."""
import json
import re
import time

from harness import *
import parquet_reader


def rows_of(n, dim=24, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(20, dim))[rng.integers(0, 20, n)] + 0.5 * rng.normal(size=(n, dim))).astype("f4")


def unit(rows):
    return rows / np.linalg.norm(rows.astype("f8"), axis=1, keepdims=True)


def run(to, out, *arguments, ranks=None, **more):
    return myriops("export", "--quiet", "--to", to, "--out", out, "--format", "json", *arguments, ranks=ranks, **more)


def tree(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def read_keys(path):
    return [line.split("\t") for line in path.read_text(errors="surrogateescape").splitlines()]


def parquet_python():
    """A Python that has pyarrow and fastparquet, or None."""
    place = BUILD / "parquet-oracle"
    python = place / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", place], check=True, capture_output=True, timeout=120)
            subprocess.run([python, "-m", "pip", "install", "-q", "pyarrow", "fastparquet"], check=True, capture_output=True, timeout=300)
        subprocess.run([python, "-c", "import pyarrow.parquet, fastparquet"], check=True, capture_output=True, timeout=120)
    except (subprocess.SubprocessError, OSError):
        shutil.rmtree(place, ignore_errors=True)
        return None
    return python


class Export(Case):
    @classmethod
    def setUpClass(cls):
        place = cls.place = folder("stock")
        cls.n = 1000
        rows = rows_of(cls.n)
        rows[17, 3] = np.nan
        rows[500:640] = 0  # two blocks of 64 are bad as a whole
        np.save(place / "rows.npy", rows)
        cls.keys = [f"dir/p\u00e9ople {i}%.jpg" for i in range(cls.n)]
        cls.keys[5] = "tab\there\nand\\there"
        cls.labels = ["" if i % 7 == 0 else "dog" if i % 2 else "cat" for i in range(cls.n)]
        escaped = [key.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n") for key in cls.keys]
        (place / "keys.tsv").write_text("key\tsource\tlabel\n" + "".join(
            f"{key}\tsource {i}\t{label}\n" for i, (key, label) in enumerate(zip(escaped, cls.labels))))
        for name, more in (("emb", ()), ("half", ("--dtype", "f16")), ("l2", ("--metric", "l2"))):
            result = myriops("import", "--quiet", "--model", "some", "--max-bad", 1, "--chunk", 64, "--keys", place / "keys.tsv",
                             *more, "--out", place / name, place / "rows.npy")
            assert result.code == DONE, str(result)
        cls.good = np.setdiff1d(np.arange(cls.n), np.concatenate([[17], np.arange(500, 640)]))
        cls.vectors = read_embeddings(place / "emb")[1]
        assert cls.vectors.shape == (len(cls.good), 24)
        for shards in (1, 3):
            result = myriops("index", "--quiet", "--shards", shards, "--out", place / f"idx{shards}", place / "emb", ranks=2)
            assert result.code == DONE, str(result)

    def check_names(self, path, n_columns=3):
        table = read_keys(path)
        self.assertEqual(table[0][:3], ["key", "source", "label"])
        self.assertTrue(all(len(line) == n_columns for line in table))
        self.assertEqual([re.sub(r"\\(.)", lambda m: {"t": "\t", "n": "\n"}.get(m[1], m[1]), line[0]) for line in table[1:]],
                         [self.keys[i] for i in self.good])
        self.assertEqual([line[1] for line in table[1:]], [f"source {i}" for i in self.good])
        self.assertEqual([line[2] for line in table[1:]], [self.labels[i] for i in self.good])
        return table[1:]

    def test_npy_and_fbin(self):
        for source in ("emb", "idx1", "idx3"):
            for to in ("npy", "fbin"):
                wanted = None
                for ranks in (None, 2, 3):
                    place = folder(f"{to}-{source}-{ranks}")
                    out = place / f"out.{to}"
                    result = run(to, out, self.place / source, ranks=ranks)
                    self.check(result, DONE)
                    self.assertEqual((result.json()["vectors"], result.json()["files"]), (len(self.good), 2))
                    wanted = wanted or contents(place)
                    self.assertEqual(contents(place), wanted, (source, to, ranks))
                    self.assertEqual(sorted(wanted), [f"out.{to}", f"out.{to}.tsv"], "nothing else is left")
                if to == "npy":
                    found = np.load(out)
                else:
                    self.assertEqual(np.fromfile(out, "u4", 2).tolist(), [len(self.good), 24])
                    found = np.fromfile(out, "f4", offset=8).reshape(-1, 24)
                self.assertTrue(np.array_equal(found, self.vectors), (source, to))
                self.check_names(place / f"out.{to}.tsv")

    def test_half_precision(self):
        out = folder("halves") / "out.npy"
        self.check(run("npy", out, self.place / "half"), DONE)
        self.assertEqual(np.load(out).dtype, np.float16)
        self.assertTrue(np.array_equal(np.load(out), read_embeddings(self.place / "half")[1]))
        self.check(run("npy", out, "--dtype", "f32", self.place / "half", ranks=2), DONE)
        self.assertEqual(np.load(out).dtype, np.float32)
        self.check(run("npy", out, "--dtype", "f16", self.place / "emb", ranks=2), DONE)
        self.assertTrue(np.array_equal(np.load(out), self.vectors.astype("f2")))
        np.save(out.parent / "large.npy", np.full((3, 2), 1e5, "f4"))
        before = out.read_bytes()
        self.check(run("npy", out, "--dtype", "f16", "--metric", "l2", out.parent / "large.npy", ranks=2), FAILED, "too large for half")
        self.assertEqual(out.read_bytes(), before)
        self.assertFalse(list(out.parent.glob("*.partial")))

    def test_tsv(self):
        for ranks in (None, 3):
            out = folder("tsv") / "out.tsv"
            self.check(run("tsv", out, self.place / "idx3", ranks=ranks), DONE)
            self.check_names(out)
            self.check(run("tsv", out, "--values", self.place / "emb", ranks=ranks), DONE)
            table = self.check_names(out, 27)
            self.assertTrue(np.array_equal(np.array([line[3:] for line in table], "f4"), self.vectors))

    def test_clip_retrieval(self):
        wanted = None
        for ranks in (None, 2, 5):
            out = scratch / f"clip-{ranks}"
            self.check(run("clip-retrieval", out, self.place / "emb", ranks=ranks), DONE)
            wanted = wanted or tree(out)
            self.assertEqual(tree(out), wanted, ranks)
        self.check_names(out / "keys.tsv")
        parts = sorted((out / "img_emb").iterdir())
        self.assertEqual([part.name for part in parts], [f"img_emb_{i:02d}.npy" for i in range(14)], "blocks of bad rows make no part")
        loaded = [np.load(part) for part in parts]
        self.assertTrue(all(part.dtype == np.float16 for part in loaded))
        found = np.concatenate(loaded)
        np.testing.assert_allclose(found.astype("f4"), self.vectors, atol=5e-4)
        np.testing.assert_allclose(np.linalg.norm(found.astype("f8"), axis=1), 1, atol=5e-4)
        wanted_rows = {"image_path": [f"source {i}" for i in self.good], "key": [self.keys[i] for i in self.good],
                       "caption": [self.labels[i] or None for i in self.good],
                       "label": [{"": None, "cat": 0, "dog": 1}[self.labels[i]] for i in self.good]}
        at = 0
        for part, rows in zip(sorted((out / "metadata").iterdir()), loaded):
            table = parquet_reader.read(part)
            self.assertEqual(table, {name: values[at:at + len(rows)] for name, values in wanted_rows.items()}, part.name)
            at += len(rows)
        self.assertEqual(at, len(self.good))
        self.check(run("clip-retrieval", out, self.place / "emb"), FAILED, "not an empty folder")
        self.assertEqual(tree(out), wanted)
        self.check(run("clip-retrieval", str(folder("clip-l2")) + "/", self.place / "l2", ranks=2), DONE)
        first = np.load(scratch / "clip-l2" / "img_emb" / "img_emb_00.npy")
        np.testing.assert_allclose(np.linalg.norm(first.astype("f8"), axis=1), 1, atol=5e-4)
        self.check(myriops("import", "--quiet", "--out", scratch / "clip-back", "--keys", out / "keys.tsv", out), DONE)
        self.assertEqual(read_embeddings(scratch / "clip-back")[0], [self.keys[i] for i in self.good])

    def test_parquet_is_read_by_others(self):
        python = parquet_python()
        if not python:
            self.skipTest("pyarrow and fastparquet cannot be had from PyPI here")
        place = folder("parquet")
        n = 60000  # pages by the dozen, and keys that are no UTF-8
        np.save(place / "rows.npy", rows_of(n, 2))
        (place / "keys.tsv").write_bytes(b"key\tsource\tlabel\n" + b"".join(b"key-%d-%s\t\xff%d\t%s\n" % (i, b"x" * (i % 50), i, b"" if i % 5 else b"%d" % i)
                                                                            for i in range(n)))
        self.check(myriops("import", "--quiet", "--metric", "l2", "--chunk", n, "--keys", place / "keys.tsv", "--out", place / "emb", place / "rows.npy"), DONE)
        self.check(run("clip-retrieval", place / "out", place / "emb"), DONE)
        file = place / "out" / "metadata" / "metadata_0.parquet"
        code = """if True:
            import json, sys, pyarrow.parquet, fastparquet
            table = pyarrow.parquet.read_table(sys.argv[1])
            frame = fastparquet.ParquetFile(sys.argv[1]).to_pandas()
            both = [table.to_pydict(), {name: [None if missing else value for value, missing in zip(frame[name], frame[name].isna())] for name in frame}]
            print(json.dumps([both[0], {name: [int(v) if name == 'label' and v is not None else v for v in values] for name, values in both[1].items()},
                              [str(field.type) for field in table.schema]]))"""
        run_ = subprocess.run([python, "-c", code, file], capture_output=True, text=True, timeout=300)
        self.assertEqual(run_.returncode, 0, run_.stderr)
        arrow, fast, types = json.loads(run_.stdout)
        wanted = {"image_path": [f"%FF{i}" for i in range(n)], "key": ["key-%d-%s" % (i, "x" * (i % 50)) for i in range(n)],
                  "caption": [None] * n, "label": [None if i % 5 else i for i in range(n)]}
        self.assertTrue(arrow == wanted, "pyarrow")
        self.assertTrue(fast == wanted, "fastparquet")
        self.assertTrue(parquet_reader.read(file) == wanted, "our own reader")
        self.assertEqual(types, ["string", "string", "string", "int32"])

    def test_hdf5_is_ann_benchmarks(self):
        for source, distance in (("emb", "angular"), ("l2", "euclidean"), ("idx3", "angular")):
            wanted = None
            for ranks in (None, 2, 3):
                out = folder("ann") / "out.hdf5"
                self.check(run("hdf5", out, "--queries", 70, self.place / source, ranks=ranks), DONE)
                wanted = wanted or out.read_bytes()
                self.assertEqual(out.read_bytes(), wanted, (source, ranks))
                self.assertEqual(len(list(out.parent.iterdir())), 1)
            with h5py.File(out, "r") as file:
                train, test, neighbors, distances = (file[name][:] for name in ("train", "test", "neighbors", "distances"))
                facts = dict(file.attrs)
            n = 859 if distance == "angular" else 999  # zeros have no angle
            self.assertEqual((facts["distance"], facts["type"], facts["point_type"], facts["dimension"]), (distance, "dense", "float", 24))
            self.assertEqual((train.dtype, test.dtype, neighbors.dtype, distances.dtype), ("f4", "f4", "i4", "f4"))
            self.assertEqual((train.shape, test.shape, neighbors.shape, distances.shape), ((n - 70, 24), (70, 24), (70, 100), (70, 100)))
            stored = read_embeddings(self.place / ("l2" if source == "l2" else "emb"))[1]
            np.testing.assert_allclose(np.sort(np.concatenate([train, test])[:, 0]), np.sort(stored[:, 0]), atol=1e-6)
            at = 0
            for row in stored:
                at += at < len(train) and np.allclose(train[at], row, atol=1e-6)
            self.assertEqual(at, len(train), "what is left keeps its order")
            a, b = test.astype("f8"), train.astype("f8")
            away = 1 - unit(a) @ unit(b).T if distance == "angular" else np.sqrt(np.square(a[:, None] - b[None]).sum(2))
            np.testing.assert_allclose(distances, np.sort(away, axis=1)[:, :100], atol=2e-6)
            np.testing.assert_allclose(np.take_along_axis(away, neighbors.astype(int), axis=1), distances, atol=2e-6)
            self.check(myriops("bench", "ann", "--dataset", out, "--ef", "100", "--format", "json"), DONE)
        self.check(run("hdf5", out, "--queries", 859, self.place / "emb", ranks=2), USAGE, "too few")
        np.save(out.parent / "few.npy", rows_of(9))
        self.check(run("hdf5", out, "--queries", 3, "--metric", "l2", out.parent / "few.npy", ranks=3), DONE)
        with h5py.File(out, "r") as file:
            self.assertEqual(file["neighbors"].shape, (3, 6))
        self.check(run("hdf5", out, "--queries", 3, "--metric", "ip", out.parent / "few.npy"), FAILED, "inner products")

    def test_there_and_back_gives_the_same_hits(self):
        place = folder("round")
        some = pictures("round/pictures", 60)
        self.embed(place / "emb", "--chunk", 16, some, ranks=2)
        self.check(run("npy", place / "out.npy", place / "emb", ranks=3), DONE)
        self.check(myriops("import", "--quiet", "--chunk", 16, "--keys", place / "out.npy.tsv", "--out", place / "back", place / "out.npy", ranks=2), DONE)
        answers = []
        for name in ("emb", "back"):
            idx = place / f"idx-{name}"
            self.check(myriops("index", "--quiet", "--shards", 2, "--out", idx, place / name), DONE)
            result = myriops("query", "--index", idx, "--vectors", place / "out.npy", "--format", "json", ranks=2)
            self.check(result, DONE)
            answers.append(result.json()["queries"])
        self.assertEqual(answers[0], answers[1])
        self.assertEqual([query["hits"][0]["key"] for query in answers[1]], [f"{i:05d}.jpg" for i in range(60)])

    def test_changed_index(self):
        place = folder("changed")
        np.save(place / "rows.npy", rows_of(20000, 4))
        (place / "gone.txt").write_text("".join(f"{i}\n" for i in range(0, 20000, 3)))
        self.check(myriops("index", "--quiet", "--shards", 3, "--out", place / "idx", place / "rows.npy", ranks=2), DONE)
        self.check(myriops("index", "--quiet", "--out", place / "idx", "--delete", place / "gone.txt"), DONE)
        kept = [i for i in range(20000) if i % 3]
        for ranks in (1, 3):
            self.check(run("npy", place / "out.npy", place / "idx", ranks=ranks), DONE)
            self.assertTrue(np.array_equal(np.load(place / "out.npy"), np.load(place / "rows.npy")[kept]))
            self.assertEqual([line[0] for line in read_keys(place / "out.npy.tsv")[1:]], [str(i) for i in kept])

    def test_killed_midway_leaves_nothing_half(self):
        place = folder("killed")
        np.save(place / "rows.npy", rows_of(60000, 64))
        self.check(myriops("import", "--quiet", "--chunk", 64, "--out", place / "emb", place / "rows.npy"), DONE)
        for to, name, files in (("clip-retrieval", "out", "out.partial/img_emb/*.npy"), ("npy", "out.npy", "out.npy.partial")):
            process = start("export", "--quiet", "--to", to, "--out", place / name, place / "emb", ranks=2)
            deadline = time.time() + 60
            while time.time() < deadline and process.poll() is None and not list(place.glob(files)):
                time.sleep(0.005)
            self.assertIsNone(process.poll(), "it was to be killed midway")
            kill_all(process)
            self.assertFalse((place / name).exists(), to)
            self.check(run(to, place / name, place / "emb", ranks=2), DONE)
            self.assertFalse(list(place.glob("*.partial")))
        process = start("export", "--quiet", "--to", "npy", "--out", place / "stopped.npy", place / "emb")
        while process.poll() is None and not (place / "stopped.npy.partial").exists():
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        out = process.communicate(timeout=60)[0].decode()
        self.assertEqual(process.returncode, STOPPED, out)
        self.assertFalse(list(place.glob("stopped*")))

    def test_wrong_use_and_damage(self):
        place = folder("wrong")
        self.check(myriops("export", "--out", "x.npy", self.place / "emb"), USAGE, "--to")
        self.check(myriops("export", "--to", "npy", self.place / "emb"), USAGE, "--out")
        self.check(myriops("export", "--to", "npy", "--out", "x.npy"), USAGE, "nothing to export")
        self.check(run("npy", "x.bin", self.place / "emb"), USAGE, ".npy")
        self.check(run("fbin", "x.fbin", "--dtype", "f16", self.place / "emb"), USAGE, "half precision")
        self.check(run("npy", "x.npy", self.place / "idx1", self.place / "idx3"), USAGE, "the only input")
        self.check(run("npy", "x.npy", place / "none", ranks=2), FAILED, "no such")
        self.check(run("npy", place / "none" / "x.npy", self.place / "emb", ranks=2), FAILED, "No such file")
        shutil.copytree(self.place / "emb", place / "emb")
        shutil.copytree(self.place / "idx3", place / "idx")
        chunk, shard = place / "emb" / "chunk-000005.h5", next((place / "idx").glob("shard*.h5"))
        for path in (chunk, shard):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
            for to, name in (("npy", "x.npy"), ("clip-retrieval", "x"), ("hdf5", "x.hdf5")):
                self.check(run(to, place / name, path.parent, ranks=3), FAILED, path.name, "damaged")
                self.assertEqual(sorted(file.name for file in place.iterdir()), ["emb", "idx"])


if __name__ == "__main__":
    main()
