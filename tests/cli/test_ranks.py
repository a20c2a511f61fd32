"""The same answers for any number of ranks and threads."""
import xml.etree.ElementTree

from harness import *

RANKS = (1, 2, 3, 5)


class Embedding(Case):
    def test_chunks_are_the_same_bytes(self):
        some = pictures("same", 50)
        (some / "bad.jpg").write_bytes(b"nothing")
        wanted = None
        for ranks, threads in ((None, 1), (1, 3), (2, 1), (3, 2), (5, 1)):
            out = scratch / f"same-{ranks}-{threads}"
            self.embed(out, "--chunk", 16, "--threads", threads, some, ranks=ranks)
            found = contents(out)
            self.assertEqual(len(found), 6, "four chunks, the manifest, the list of bad items")
            wanted = wanted or found
            self.assertEqual(found, wanted, f"{ranks} ranks, {threads} threads")

    def test_the_last_chunks_are_small(self):
        """Their sizes come from the corpus alone, so the bytes do too."""
        some = pictures("guided", 250, size=(40, 30))
        wanted = None
        for ranks in (None, 3):
            out = scratch / f"guided-{ranks}"
            self.embed(out, "--threads", 1, some, ranks=ranks)
            found = contents(out)
            wanted = wanted or found
            self.assertEqual(found, wanted)
        sizes = []
        for chunk in sorted(name for name in wanted if name.startswith("chunk-")):
            with h5py.File(scratch / "guided-None" / chunk, "r") as file:
                sizes.append(len(file["ordinal"]))
        self.assertEqual(sizes, [32] * 6 + [16] + [8] * 5 + [2])
        self.assertEqual(json.loads(wanted["manifest.json"])["schedule"], "guided")
        self.check(myriops("index", "--out", scratch / "guided-idx", scratch / "guided-3", ranks=2), DONE)

    def test_a_folder_of_one_size_goes_on_so(self):
        """As earlier versions began it: the manifest names no schedule."""
        some, out = pictures("begun", 100, size=(40, 30)), scratch / "begun-emb"
        self.embed(out, "--chunk", 32, "--threads", 1, some)
        wanted = contents(out)
        self.assertNotIn("schedule", json.loads(wanted["manifest.json"]))
        (out / "chunk-000001.h5").unlink()
        self.check(myriops("embed", "--out", out, "--threads", 1, some, ranks=2), DONE, "32 in this run")
        self.assertEqual(contents(out), wanted)

    def test_the_phases_add_up(self):
        """What threads did, waited for and lived without makes the time of the run, for every shape."""
        some = pictures("phases", 60)
        for ranks, threads in ((1, 1), (2, 1), (1, 3)):
            out = scratch / f"phases-{ranks}-{threads}"
            told = myriops("embed", "--quiet", "--threads", threads, "--format", "json", "--out", out, some, ranks=ranks).json()
            phases = told["thread_seconds"]
            self.assertEqual(set(phases), {"read", "prepare", "infer", "write", "wait", "other", "outside"})
            self.assertTrue(all(seconds >= -1e-6 for seconds in phases.values()), phases)
            self.assertAlmostEqual(sum(phases.values()), told["seconds"] * ranks * threads, delta=0.05 * told["seconds"] * ranks * threads + 0.1)

    def test_more_ranks_than_pictures(self):
        some = pictures("three", 3)
        result = myriops("embed", "--out", scratch / "three-emb", "--format", "json", some, ranks=8)
        self.check(result, DONE)
        self.assertEqual((result.json()["embedded"], result.json()["ranks"]), (3, 8))
        self.check(myriops("index", "--out", scratch / "three-idx", scratch / "three-emb", ranks=8), DONE)
        result = myriops("query", "--index", scratch / "three-idx", "-k", 5, "--format", "json", some / "00001.jpg", ranks=8)
        self.check(result, DONE)
        hits = result.json()["queries"][0]["hits"]
        self.assertEqual(len(hits), 3, "fewer than k hits is a normal answer")
        self.assertEqual(hits[0]["key"], "00001.jpg")
        self.check(myriops("eval", "--index", scratch / "three-idx", "--sample", 3, ranks=8), DONE, "recall@1")

    def test_half_precision(self):
        some = pictures("half", 12)
        self.embed(scratch / "half-emb", "--dtype", "f16", some, ranks=2)
        self.embed(scratch / "full-emb", some, ranks=2)
        _, half = read_embeddings(scratch / "half-emb")
        _, full = read_embeddings(scratch / "full-emb")
        self.assertEqual(half.dtype, np.float16)
        self.assertTrue(np.array_equal(half, full.astype(np.float16)))


class Index(Case):
    @classmethod
    def setUpClass(cls):
        rng = np.random.default_rng(3)
        centres = rng.integers(30, 220, (40, 32))
        cls.rows = np.clip(centres[rng.integers(0, 40, 6000)] + rng.normal(0, 18, (6000, 32)), 0, 255).astype(np.uint8)
        cls.queries = np.clip(cls.rows[::60].astype(int) + rng.integers(-9, 9, (100, 32)), 0, 255).astype(np.uint8)
        cls.base = write_u8bin(scratch / "base.u8bin", cls.rows)
        cls.asked = write_u8bin(scratch / "asked.u8bin", cls.queries)

    def build(self, shards, ranks, *more):
        out = scratch / f"idx-{shards}-{ranks}"
        self.check(myriops("index", "--quiet", "--shards", shards, "--out", out, *more, self.base, ranks=ranks), DONE)
        return out

    def ask(self, index, ranks, *more):
        hits = scratch / "hits.hdf5"
        self.check(myriops("query", "--quiet", "--index", index, "-k", 10, "--vectors", self.asked, "--out", hits, *more, ranks=ranks), DONE)
        with h5py.File(hits, "r") as file:
            return file["neighbors"][:], file["distances"][:]

    def test_digest_and_hits_do_not_depend_on_ranks(self):
        for shards in (1, 4):
            digests, answers = set(), []
            for ranks in RANKS:
                index = self.build(shards, ranks)
                digests.add(myriops("info", "--format", "json", index).json()["digest"])
                answers.append(self.ask(index, ranks))
            self.assertEqual(len(digests), 1, f"{shards} shards")
            for neighbours, distances in answers[1:]:
                self.assertTrue(np.array_equal(neighbours, answers[0][0]))
                self.assertTrue(np.array_equal(distances, answers[0][1]))

    def test_an_index_is_served_by_any_number_of_ranks(self):
        index = self.build(6, 2)
        wanted = self.ask(index, 1)
        for ranks in (None, 2, 4, 8):
            found = self.ask(index, ranks)
            self.assertTrue(np.array_equal(found[0], wanted[0]) and np.array_equal(found[1], wanted[1]), f"{ranks} ranks")

    def test_hits_are_the_nearest(self):
        neighbours, distances = self.ask(self.build(4, 3), 3)
        truth = ((self.queries[:, None, :].astype(np.int64) - self.rows[None, :, :].astype(np.int64)) ** 2).sum(2)
        exact = np.sort(truth, axis=1)[:, :10]
        found = np.take_along_axis(truth, neighbours.astype(np.int64), axis=1)
        self.assertTrue(np.allclose(np.sqrt(found), distances, rtol=1e-6), "distances are Euclidean")
        self.assertTrue((np.diff(distances, axis=1) >= 0).all())
        recall = (found <= exact[:, -1:]).mean()
        self.assertGreaterEqual(recall, 0.99)

    def test_fewer_probes_ask_fewer_shards(self):
        index = self.build(8, 2)
        all_ids, _ = self.ask(index, 2)
        one_ids, _ = self.ask(index, 2, "--probe", 2)
        overlap = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(all_ids, one_ids)])
        self.assertGreater(overlap, 0.7)
        result = myriops("query", "--index", index, "--vectors", self.asked, "--probe", 2, "--format", "json", ranks=2)
        self.assertAlmostEqual(result.json()["probes_per_query"], 2, delta=0.01)

    def test_auto_visits_the_shards_that_promise_something(self):
        rng = np.random.default_rng(4)  # one cloud: of separate ones each lies in a shard, and one visit finds all
        self.rows, self.queries = (np.clip(128 + 25 * rng.normal(size=(n, 10)), 0, 255).astype(np.uint8) for n in (6000, 100))
        self.base, self.asked = write_u8bin(scratch / "cloud.u8bin", self.rows), write_u8bin(scratch / "cloud-asked.u8bin", self.queries)
        index = self.build(8, 3)
        curve = json.loads((index / "index.json").read_text())["route_curve"]["points"]
        self.assertTrue(all(a["recall"] <= b["recall"] and a["shards"] <= b["shards"] for a, b in zip(curve, curve[1:])))
        self.assertGreater(curve[-1]["recall"], 0.99)
        truth = ((self.queries[:, None, :].astype(np.int64) - self.rows[None, :, :].astype(np.int64)) ** 2).sum(2)
        probes = []
        for wish in (0.8, 0.95, 0.99):
            more = ("--probe", "auto", "--recall", wish)
            neighbours, _ = self.ask(index, 2, *more)
            self.assertTrue(np.array_equal(self.ask(index, 3, *more)[0], neighbours))
            found = np.take_along_axis(truth, neighbours.astype(np.int64), axis=1)
            self.assertGreaterEqual((found <= np.sort(truth, axis=1)[:, 9:10]).mean(), wish)
            result = myriops("query", "--index", index, "--vectors", self.asked, "--format", "json", *more, ranks=2)
            probes.append(result.json()["probes_per_query"])
        self.assertTrue(1 <= probes[0] < probes[1] < probes[2] < 8, probes)
        chart = scratch / "shards.svg"
        result = myriops("eval", "--index", index, "--probe", "auto", "--recall", 0.9, "--out", chart, ranks=2)
        self.check(result, DONE)
        self.assertIn("shards, of 8", result.out)
        self.assertEqual(xml.etree.ElementTree.parse(chart).getroot().tag, "{http://www.w3.org/2000/svg}svg")
        self.assertEqual(myriops("eval", "--index", index, "--format", "json").json()["route_curve"],
                         [{"recall": p["recall"], "shards": p["shards"]} for p in curve])
        one = self.build(1, 1)
        self.check(myriops("eval", "--index", one, "--probe", "auto"), DONE)
        self.check(myriops("eval", "--index", one, "--out", chart), FAILED, "no curve")

    def test_any_batch_gives_the_same_hits(self):
        index = self.build(4, 2)
        wanted = self.ask(index, 1)
        for ranks, batch in ((1, 1), (2, 1), (3, 7), (2, 64)):
            found = self.ask(index, ranks, "--query-batch", batch)
            self.assertTrue(np.array_equal(found[0], wanted[0]) and np.array_equal(found[1], wanted[1]), (ranks, batch))
        facts = myriops("query", "--index", index, "--vectors", self.asked, "--query-batch", 1, "--format", "json", ranks=2).json()
        self.assertEqual(facts["batches"], 100)
        self.assertTrue(0 < facts["batch_p50_ms"] <= facts["batch_p99_ms"])

    def test_every_rank_reads_its_slice(self):
        index, out = self.build(4, 2), scratch / "slices-hits.hdf5"
        wanted = self.ask(index, 1)
        files = [scratch / f"slices{end}" for end in (".npy", ".fvecs", ".hdf5")]
        np.save(files[0], self.queries.astype("<f4"))
        rows = np.empty((len(self.queries), 33), "<f4")
        rows[:, 0].view("<u4")[:] = 32
        rows[:, 1:] = self.queries
        rows.tofile(files[1])
        with h5py.File(files[2], "w") as file:
            file["test"] = self.queries.astype("<f4")
        for path in files:
            self.check(myriops("query", "--quiet", "--index", index, "-k", 10, "--vectors", path, "--out", out, ranks=3), DONE)
            with h5py.File(out, "r") as file:
                self.assertTrue(np.array_equal(file["neighbors"][:], wanted[0]) and np.array_equal(file["distances"][:], wanted[1]), path)
        few = write_u8bin(scratch / "slices-few.u8bin", self.queries[:2])
        for more in ((), ("--query-batch", 1)):
            result = myriops("query", "--index", index, "-k", 10, "--vectors", few, "--format", "json", *more, ranks=5)
            self.check(result, DONE)
            self.assertEqual([[hit["id"] for hit in query["hits"]] for query in result.json()["queries"]], wanted[0][:2].tolist())
        spoilt = self.queries.astype("<f4")
        spoilt[77, 5] = np.nan  # on rank 2 of 3
        result = myriops("query", "--index", index, "--vectors", write_bin(scratch / "spoilt.fbin", spoilt), ranks=3)
        self.check(result, FAILED, "vector 77 ")
        self.assertEqual(result.err.count("vector 77 "), 1)

    def test_copies_of_the_most_visited(self):
        index, traffic = self.build(3, 2), scratch / "traffic.json"
        traffic.unlink(missing_ok=True)
        wanted = self.ask(index, 1)
        more = ("--probe", 1, "--traffic", traffic)
        few = self.ask(index, 2, *more)
        visits = json.loads(traffic.read_text())["visits"]
        self.assertEqual(sum(visits), 100)
        for ranks in (4, 5, 6, 8):
            found = self.ask(index, ranks, "--traffic", traffic)
            self.assertTrue(np.array_equal(found[0], wanted[0]) and np.array_equal(found[1], wanted[1]), f"{ranks} ranks")
            self.assertTrue(np.array_equal(self.ask(index, ranks, *more)[0], few[0]), f"{ranks} ranks")
        self.assertEqual(sum(json.loads(traffic.read_text())["visits"]), 100 + 4 * (3 * 100 + 100))
        traffic.write_text("{}")
        result = myriops("query", "--index", index, "--vectors", self.asked, "--traffic", traffic, ranks=2)
        self.check(result, FAILED, "no file of visits")
        other = self.build(4, 2)
        traffic.write_text(json.dumps({"index": "0" * 64, "visits": [1]}))  # of another index: as if there were none
        self.ask(other, 2, "--traffic", traffic)
        self.assertEqual(json.loads(traffic.read_text())["visits"], [100] * 4)

    def test_folders_with_other_classes(self):
        """The same class has one label, whatever number each folder gave it."""
        emb = []
        for name, classes in (("first", ("cat", "dog")), ("second", ("apple", "cat"))):
            root = folder(f"classes-{name}")
            for i, label in enumerate(classes):
                (root / label).mkdir()
                (root / label / f"{name}.jpg").write_bytes(encode(picture(len(emb) * 10 + i)))
            emb.append(scratch / f"classes-{name}-emb")
            self.embed(emb[-1], "--label-from-folder", root)
        self.check(myriops("index", "--shards", 2, "--out", scratch / "classes", *emb, ranks=2), DONE)
        classes = json.loads((scratch / "classes/index.json").read_text())["classes"]
        self.assertEqual(classes, ["cat", "dog", "apple"])
        result = myriops("query", "--index", scratch / "classes", "-k", 4, "--format", "json", scratch / "classes-first/cat")
        labels = {hit["key"]: classes[hit["label"]] for hit in result.json()["queries"][0]["hits"]}
        self.assertEqual(labels, {"cat/first.jpg": "cat", "dog/first.jpg": "dog", "apple/second.jpg": "apple", "cat/second.jpg": "cat"})

    def test_hash_partition(self):
        index = self.build(5, 3, "--partition", "hash")
        facts = myriops("info", "--format", "json", index).json()
        self.assertEqual((facts["partition"], facts["items"], len(facts["shards"])), ("hash", 6000, 5))
        self.assertTrue(np.array_equal(self.ask(index, 2)[0][:, 0], self.ask(self.build(1, 1), 1)[0][:, 0]))

    def test_cosine_of_bare_vectors(self):
        index = scratch / "cosine"
        self.check(myriops("index", "--metric", "cosine", "--out", index, self.base, ranks=2), DONE)
        neighbours, distances = self.ask(index, 2)
        unit = self.rows / np.linalg.norm(self.rows, axis=1, keepdims=True)
        asked = self.queries / np.linalg.norm(self.queries, axis=1, keepdims=True)
        truth = 1 - asked @ unit.T
        self.assertTrue(np.allclose(np.take_along_axis(truth, neighbours.astype(np.int64), axis=1), distances, atol=1e-5))
        self.assertGreater((distances <= np.sort(truth, axis=1)[:, 9:10] + 1e-6).mean(), 0.98)

    def test_inner_product(self):
        rows = ((self.rows.astype(float) - 128) * np.linspace(0.1, 3, self.rows.shape[1])).astype("<f4")
        queries = rows[:300] - 20
        base, asked = write_bin(scratch / "product-base.fbin", rows), write_bin(scratch / "product-asked.fbin", queries)
        truth = -(queries.astype(float) @ rows.astype(float).T)
        answers = []
        for ranks in (1, 3):
            index = scratch / f"product-{ranks}"
            self.check(myriops("index", "--metric", "ip", "--shards", 3, "--out", index, base, ranks=ranks), DONE)
            hits = scratch / "product.hdf5"
            self.check(myriops("query", "--quiet", "--index", index, "-k", 10, "--vectors", asked, "--out", hits, ranks=ranks), DONE)
            with h5py.File(hits, "r") as file:
                answers.append((file["neighbors"][:], file["distances"][:]))
        neighbours, distances = answers[0]
        self.assertTrue(np.array_equal(neighbours, answers[1][0]) and np.array_equal(distances, answers[1][1]))
        self.assertTrue(np.allclose(np.take_along_axis(truth, neighbours.astype(np.int64), axis=1), distances, rtol=1e-6))
        self.assertGreater((distances <= np.sort(truth, axis=1)[:, 9:10] * (1 - 1e-6)).mean(), 0.98)
        self.assertEqual(myriops("info", "--format", "json", index).json()["metric"], "ip")
        self.check(myriops("query", "--index", index, "--vectors", asked, "--probe", 2, ranks=2), FAILED, "--probe all")

    def test_too_little_memory_is_told_before_it_is_taken(self):
        out = scratch / "heavy"
        result = myriops("index", "--shards", 4, "--memory", 0.0005, "--out", out, self.base, ranks=2)
        self.check(result, FAILED, "need", "more hosts", "myriops plan")
        self.assertEqual(result.err.count("more hosts"), 1)
        self.assertFalse((out / "index.json").exists())
        self.check(myriops("index", "--quiet", "--shards", 4, "--memory", 0.1, "--out", out, self.base, ranks=2), DONE)

    def test_more_neighbours_than_items(self):
        few = write_u8bin(scratch / "few.u8bin", self.rows[:7])
        self.check(myriops("index", "--shards", 3, "--out", scratch / "few", few, ranks=2), DONE)
        result = myriops("query", "--index", scratch / "few", "-k", 50, "--vectors", few, "--format", "json", ranks=3)
        self.check(result, DONE)
        for query in result.json()["queries"]:
            self.assertEqual(len(query["hits"]), 7)
            self.assertEqual(query["hits"][0]["distance"], 0)


if __name__ == "__main__":
    main()
