"""Shards that overlap: an item may lie in two, and is found once, whatever is asked, added or taken out, by any number of ranks."""
import json

from harness import *

import numpy as np

SHARDS, SHARE = 6, 0.15
RANKS = (1, 2, 3)


def rows_of(n, seed):
    rng = np.random.default_rng(seed)
    return (1.5 * np.random.default_rng(0).normal(size=(40, 12))[rng.integers(0, 40, n)] + rng.normal(size=(n, 12))).astype("f4")


def index(place, *arguments, ranks=1):
    return myriops("index", "--quiet", "--out", place, "--format", "json", *arguments, ranks=ranks)


def manifest_of(place):
    return json.loads((place / "index.json").read_text())


def ids_of(place):
    """The ids of each shard."""
    found = []
    for shard in manifest_of(place)["shards"]:
        with h5py.File(place / shard["file"], "r") as file:
            found.append(file["id"][:])
    return found


class Overlap(Case):
    def ask(self, place, queries, *more, ranks=2):
        np.save(scratch / "queries.npy", queries)
        self.check(myriops("query", "--quiet", "--index", place, "-k", 10, "--ef-search", 400, "--vectors", scratch / "queries.npy", "--out",
                           scratch / "hits.hdf5", *more, ranks=ranks), DONE)
        with h5py.File(scratch / "hits.hdf5", "r") as file:
            return file["neighbors"][:], file["distances"][:]

    def check_counts(self, place, ids):
        """Each item in one shard or two; the manifest tells how many; no shard too full. Returns how many lie in two."""
        manifest, shards = manifest_of(place), ids_of(place)
        for found, entry in zip(shards, manifest["shards"]):
            self.assertTrue((np.diff(found) > 0).all())
            self.assertEqual(len(found), entry["items"])
        each, times = np.unique(np.concatenate(shards), return_counts=True)
        self.assertTrue(np.array_equal(each, np.sort(ids)))
        self.assertLessEqual(times.max(), 2)
        self.assertEqual((manifest["items"], manifest["copies"]), (len(ids), int((times == 2).sum())))
        with h5py.File(place / manifest["router_file"], "r") as router:
            if "part_items" in router and manifest["route_curve"]["points"]:
                self.assertEqual(router["part_items"][:].sum(), len(ids))
            if "copy_items" in router:
                self.assertEqual(router["copy_items"][:].sum(), (times == 2).sum())
        return each[times == 2]

    def assert_finds(self, place, rows, ids, queries, *more):
        away = np.square(queries[:, None].astype(float) - rows[None]).sum(2)
        right = ids[np.argsort(away, axis=1)[:, :10]]
        found, _ = self.ask(place, queries, *more)
        self.assertTrue(all(len(set(row)) == 10 for row in found), "an item twice, or too few")
        return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, right)])

    def test_built_asked_and_changed(self):
        place = folder("overlap")
        first, second, queries = rows_of(6000, 1), rows_of(2500, 2), rows_of(200, 3)
        np.save(place / "first.npy", first)
        np.save(place / "second.npy", second)
        self.check(index(place / "plain", "--shards", SHARDS, place / "first.npy"), DONE)
        plain = self.ask(place / "plain", queries)
        facts = {}
        for ranks in (1, 3, 4):
            idx = place / f"idx{ranks}"
            facts[ranks] = [index(idx, "--shards", SHARDS, "--overlap", SHARE, place / "first.npy", ranks=ranks).json()]
            twice = self.check_counts(idx, np.arange(6000))
            self.assertEqual(len(twice), 900)
            self.assertLessEqual(max(map(len, ids_of(idx))), 1.05 * 6900 / SHARDS)
            for more in ((), ("--query-batch", 7)):  # all shards: as if nothing overlapped
                found = self.ask(idx, queries, *more, ranks=ranks)
                self.assertTrue(np.array_equal(found[0], plain[0]) and np.array_equal(found[1], plain[1]))
            before = self.assert_finds(idx, first, np.arange(6000), queries, "--probe", "auto", "--recall", 0.95)
            self.assertGreater(before, 0.95)
            result = myriops("eval", "--index", idx, "--sample", 400, "--format", "json", ranks=ranks)
            self.check(result, DONE)
            facts[ranks].append(result.json()["recall"])
            self.assertGreater(result.json()["recall"]["10"]["mean"], 0.98)

            facts[ranks].append(index(idx, "--add", place / "second.npy", ranks=ranks).json())
            twice = self.check_counts(idx, np.arange(8500))
            self.assertTrue(0.5 * SHARE < np.mean(twice >= 6000) * len(twice) / 2500 < 2 * SHARE, "new items by the same rule")
            gone = np.union1d(twice[::2], np.arange(0, 8500, 5))
            (place / "gone.txt").write_text("".join(f"{i}\n" for i in gone) + "none\n")
            facts[ranks].append(index(idx, "--delete", place / "gone.txt", ranks=ranks).json())
            self.assertEqual([facts[ranks][3][name] for name in ("items", "deleted", "unknown")], [8500 - len(gone), len(gone), 1])
            kept = np.setdiff1d(np.arange(8500), gone)
            self.check_counts(idx, kept)
            self.assertGreater(self.assert_finds(idx, np.concatenate([first, second])[kept], kept, queries), 0.999)
            self.assertGreater(self.assert_finds(idx, np.concatenate([first, second])[kept], kept, queries, "--probe", "auto"), 0.95)
            info = myriops("info", "--format", "json", idx).json()
            self.assertEqual((info["items"], info["copies"]), (len(kept), facts[ranks][3]["copies"]))
            files = {path.name: path.read_bytes() for path in idx.iterdir()}
            facts[ranks].append(files)
            for one in facts[ranks][:4]:
                for name in ("out", "ranks", "threads", "seconds", "phases", "rank_imbalance", "sent_bytes"):
                    one.pop(name, None)
        self.assertEqual(facts[1], facts[3])
        self.assertEqual(facts[1], facts[4])

    def test_fewer_shards_are_asked(self):
        place = folder("fewer")
        np.save(place / "rows.npy", np.random.default_rng(1).normal(size=(6000, 8)).astype("f4"))
        shards = {}
        for share in (0, 0.2):
            self.check(index(place / f"{share}", "--shards", SHARDS, "--overlap", share, place / "rows.npy", ranks=2), DONE)
            curve = manifest_of(place / f"{share}")["route_curve"]["points"]
            shards[share] = next(point["shards"] for point in curve if point["recall"] >= 0.95)
        self.assertLess(shards[0.2], 0.9 * shards[0])

    def test_a_picture_goes_from_both_shards(self):
        place = folder("pictures")
        self.check(myriops("embed", "--out", place / "emb", pictures("overlapping", 24), ranks=2), DONE)
        self.check(index(place / "idx", "--shards", 3, "--overlap", 0.5, place / "emb"), DONE)
        twice = self.check_counts(place / "idx", np.arange(24))
        self.assertGreater(len(twice), 2)
        facts = index(place / "idx", "--add", place / "emb", ranks=3).json()
        self.assertEqual((facts["items"], facts["added"], facts["replaced"]), (24, 24, 24))
        self.check_counts(place / "idx", np.arange(24, 48))

    def test_shards_finished_before_are_kept(self):
        place = folder("resumed")
        np.save(place / "rows.npy", rows_of(5000, 4))
        build = ("--shards", SHARDS, "--overlap", SHARE, place / "rows.npy")
        wanted = index(place / "idx", *build).json()["digest"]
        (place / "idx/index.json").unlink()
        again = index(place / "idx", *build, ranks=2).json()
        self.assertEqual((again["digest"], again["kept_shards"]), (wanted, SHARDS))

    def test_where_it_makes_no_sense(self):
        place = folder("senseless")
        np.save(place / "rows.npy", rows_of(500, 5))
        self.check(index(place / "hash", "--shards", 4, "--partition", "hash", "--overlap", 0.1, place / "rows.npy", ranks=2), USAGE, "kmeans")
        self.check(index(place / "ip", "--shards", 4, "--metric", "ip", "--overlap", 0.1, place / "rows.npy", ranks=2), USAGE, "all shards")
        self.check(index(place / "much", "--overlap", 1.1, place / "rows.npy"), USAGE, "overlap")
        self.check(index(place / "one", "--shards", 1, "--overlap", 0.5, place / "rows.npy"), DONE)
        self.assertEqual(len(self.check_counts(place / "one", np.arange(500))), 0)
        np.save(place / "same.npy", np.ones((300, 12), "f4"))  # no boundary anywhere
        self.check(index(place / "same", "--shards", 4, "--overlap", 1, place / "same.npy", ranks=3), DONE)
        self.check_counts(place / "same", np.arange(300))
        np.save(place / "few.npy", rows_of(3, 6))
        self.check(index(place / "few", "--shards", 5, "--overlap", 1, place / "few.npy", ranks=2), DONE)
        self.check_counts(place / "few", np.arange(3))


class AsIfNothingOverlapped(Case):
    """What is made of an index, with and without: the same."""

    @classmethod
    def setUpClass(cls):
        place = cls.place = folder("alike")
        rng = np.random.default_rng(21)
        rows = rows_of(5000, 22)
        rows[4000:4200] = rows[:200] + 0.05 * rng.normal(size=(200, 12)).astype("f4")  # near duplicates,
        rows[4200:4800] = rows[rng.integers(0, 4000, 600)]  # copies,
        rows[4800:4900] = rows[7]  # and many of one
        np.save(place / "rows.npy", rows)
        labels = rng.integers(0, 9, 5000)
        (place / "labels.txt").write_text("".join(f"class {i}\n" for i in labels))
        result = myriops("import", "--quiet", "--metric", "l2", "--model", "some", "--label-file", place / "labels.txt", "--out", place / "emb", place / "rows.npy")
        assert result.code == DONE, str(result)
        cls.n_copies = 5000 - len(np.unique(rows, axis=0))
        for name, share in (("plain", 0), ("twice", 0.3)):
            assert index(place / name, "--shards", SHARDS, "--overlap", share, place / "emb", ranks=2).code == DONE
        assert manifest_of(place / "twice")["copies"] == 1500

    def both(self, make):
        """What make(index, ranks) gives: without overlap by one rank, and with it by 1, 2, 3."""
        wanted = make(self.place / "plain", 1)
        for ranks in RANKS:
            self.assertEqual(make(self.place / "twice", ranks), wanted, f"{ranks} ranks")
        return wanted

    def test_graph_of_neighbours(self):
        def make(idx, ranks):
            self.check(myriops("knn-graph", "--quiet", "--index", idx, "-k", 12, "--exact", "--out", scratch / "graph.h5", ranks=ranks), DONE)
            with h5py.File(scratch / "graph.h5", "r") as file:
                return {name: file[name][:].tolist() for name in file}

        self.assertEqual(len(self.both(make)["neighbours"]), 5000)

    def test_files_for_other_programs(self):
        def make(to):
            def export(idx, ranks):
                out = folder("exported") / f"file.{to}"
                self.check(myriops("export", "--quiet", "--to", to, "--out", out, idx, *(("--queries", 300) if to == "hdf5" else ()), ranks=ranks), DONE)
                return contents(out.parent)
            return export

        for to in ("npy", "fbin", "tsv", "hdf5"):
            made = self.both(make(to))
            if to == "tsv":
                self.assertEqual(made["file.tsv"].count(b"\n"), 5001)

    def test_labels(self):
        def make(*more):
            def labels(idx, ranks):
                report = myriops("eval", "--quiet", "--labels", "--index", idx, "--exact", "--format", "json", *more, ranks=ranks).json()
                for name in ("seconds", "ranks", "threads", "ms_per_query", "probes_per_query"):
                    report.pop(name, None)
                return report
            return labels

        report = self.both(make("--sample", 5000))
        self.assertEqual(report["queries"], 5000)
        self.both(make("--sample", 400))

    def test_near_duplicates(self):
        def make(*more, kind="json"):
            def look(idx, ranks):
                result = myriops("dedup", "--quiet", "--index", idx, "--threshold", 0.8, "--format", kind, *more, ranks=ranks)
                self.check(result, DONE)
                if kind != "json":
                    return result.out
                report = result.json()
                for name in ("seconds", "ranks", "threads"):
                    report["summary"].pop(name)
                return report
            return look

        summary = self.both(make("--exact"))["summary"]
        self.assertEqual((summary["items"], summary["copies"]), (5000, self.n_copies))
        self.assertGreater(summary["groups"], 100)
        self.both(make("--exact", kind="tsv"))

        def count(idx, ranks):
            return make("--sample", 5000)(idx, ranks)["summary"]["sampled"]["pairs"]

        self.assertGreater(self.both(count), 200, "pairs are counted once")

    def test_clusters_are_refused(self):
        for ranks in RANKS:
            result = myriops("cluster", "--index", self.place / "twice", "-K", 5, "--out", scratch / "clusters.tsv", ranks=ranks)
            self.check(result, FAILED, "1500 of its items lie in two shards", "name the folder of embeddings")
            self.assertEqual(result.err.count("two shards"), 1, "told once")
            self.assertEqual(list(scratch.glob("clusters.tsv*")), [])
        self.check(myriops("cluster", "-K", 5, "--out", scratch / "clusters.tsv", self.place / "emb", ranks=2), DONE)


if __name__ == "__main__":
    main()
