"""myriops index --add and --delete: what was put in and not taken out is found, by any number of ranks, or nothing changes."""
import json

from harness import *

import numpy as np


def rows_of(n, seed):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(40, 12))[rng.integers(0, 40, n)] + rng.normal(size=(n, 12))).astype("f4")


def index(place, *arguments, ranks=1):
    return myriops("index", "--out", place, "--format", "json", *arguments, ranks=ranks)


class Change(Case):
    def found(self, place, queries, ranks=1):
        """Ids of the ten nearest of each query."""
        np.save(scratch / "queries.npy", queries)
        result = myriops("query", "--index", place, "--vectors", scratch / "queries.npy", "--ef-search", 400, "--format", "json",
                         ranks=ranks)
        self.check(result, DONE)
        return [[int(hit["key"]) for hit in one["hits"]] for one in result.json()["queries"]]

    def assert_finds(self, place, rows, ids, queries):
        away = np.square(queries[:, None].astype(float) - rows[None]).sum(2)
        right = ids[np.argsort(away, axis=1)[:, :10]]
        found = np.array(self.found(place, queries))
        self.assertGreater(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, right)]), 0.995)

    def test_vectors_come_and_go(self):
        place = folder("vectors")
        first, second, queries = rows_of(3000, 1), rows_of(1500, 2), rows_of(50, 3)
        np.save(place / "first.npy", first)
        np.save(place / "second.npy", second)
        gone = np.concatenate([np.arange(0, 3000, 3), np.arange(3000, 4500, 7)])
        (place / "gone.txt").write_text("".join(f"{i}\n" for i in gone) + "987654\n\n")
        digests = []
        for ranks in (1, 3, 5):
            idx = place / f"idx{ranks}"
            self.check(index(idx, "--shards", 4, place / "first.npy", ranks=ranks), DONE)
            added = index(idx, "--add", place / "second.npy", ranks=ranks).json()
            self.assertEqual((added["items"], added["added"], added["replaced"], added["shards"]), (4500, 1500, 0, 4))
            deleted = index(idx, "--delete", place / "gone.txt", ranks=ranks).json()
            self.assertEqual((deleted["items"], deleted["deleted"], deleted["unknown"]), (4500 - len(gone), len(gone), 1))
            digests.append((added["digest"], deleted["digest"]))
            manifest = json.loads((idx / "index.json").read_text())
            self.assertEqual(sorted(path.name for path in idx.glob("*.h5")),
                             sorted([shard["file"] for shard in manifest["shards"]] + [manifest["router_file"]]))
            self.assertGreater(manifest["recall_curve"]["queries"], 100)
        self.assertEqual(digests[0], digests[1])
        self.assertEqual(digests[0], digests[2])
        kept = np.setdiff1d(np.arange(4500), gone)
        self.assert_finds(place / "idx3", np.concatenate([first, second])[kept], kept, queries)
        self.assertEqual(self.found(place / "idx1", queries, ranks=2), self.found(place / "idx5", queries))
        self.check(myriops("eval", "--index", place / "idx1", "--sample", 200, ranks=2), DONE, "recall@10")

    def test_f16_stays_f16(self):
        place = folder("halves")
        first, second = rows_of(2000, 7), rows_of(500, 8)
        np.save(place / "first.npy", first)
        np.save(place / "second.npy", second)
        sizes = {}
        for name in ("sq8", "sq8-f16", "none"):
            self.check(index(place / name, "--shards", 2, "--quantize", name, place / "first.npy", ranks=2), DONE)
            self.check(index(place / name, "--add", place / "second.npy", ranks=3), DONE)
            self.assertEqual(json.loads((place / name / "index.json").read_text())["quantize"], name)
            sizes[name] = sum(path.stat().st_size for path in (place / name).glob("shard*"))
            self.assert_finds(place / name, np.concatenate([first, second]), np.arange(2500), rows_of(40, 9))
        self.assertLess(sizes["sq8-f16"], sizes["sq8"] - 2500 * 12)  # two bytes a value less, but for page alignment
        one = np.concatenate([first, second])[:1].astype("f2").astype("f4")
        np.save(place / "one.npy", one)
        hit = myriops("query", "--index", place / "sq8-f16", "--vectors", place / "one.npy", "--format", "json").json()["queries"][0]["hits"][0]
        self.assertEqual((hit["key"], hit["distance"]), ("0", 0.0))

    def test_wide_vectors(self):
        """Codes along axes: the same bytes for any ranks, what is near is found, also after a change."""
        place = folder("wide")
        rng = np.random.default_rng(5)
        directions = rng.normal(size=(30, 300))
        make = lambda n: (rng.normal(size=(n, 30)) @ directions + 0.3 * rng.normal(size=(n, 300))).astype("f4")
        first, second, queries = make(2500), make(600), make(40)
        np.save(place / "first.npy", first)
        np.save(place / "second.npy", second)
        digests = set()
        for name, ranks, axes in (("a", 1, -1), ("b", 3, -1), ("c", 2, 0)):
            self.check(index(place / name, "--shards", 2, "--axes", axes, place / "first.npy", ranks=ranks), DONE)
            self.assert_finds(place / name, first, np.arange(2500), queries)
            digests.add(json.loads((place / name / "index.json").read_text())["digest"])
        self.assertEqual(len(digests), 2)
        sizes = [sum(path.stat().st_size for path in (place / name).glob("shard*")) for name in "ac"]
        self.assertLess(sizes[0], sizes[1] - 2500 * 150 + 2 * 128 * 300 * 4)  # codes of 128 bytes, not 320; axes
        self.check(index(place / "b", "--add", place / "second.npy", ranks=2), DONE)
        self.assert_finds(place / "b", np.concatenate([first, second]), np.arange(3100), queries)
        self.check(index(place / "d", "--metric", "ip", "--axes", 64, place / "first.npy"), USAGE, "--axes")

    def test_the_router_follows(self):
        """A third of the index becomes something else, queries with it: shards are chosen by what is there now."""
        place = folder("routed")
        rng = np.random.default_rng(11)
        centres = [2 * rng.normal(size=(60, 12)) for _ in range(2)]
        make = lambda which, n: (centres[which][rng.integers(0, 60, n)] + rng.normal(size=(n, 12))).astype("f4")
        first, second = make(0, 6000), 0.6 * make(1, 3000)
        np.save(place / "first.npy", first)
        np.save(place / "second.npy", second)
        (place / "gone.txt").write_text("".join(f"{i}\n" for i in range(0, 6000, 2)))
        self.check(index(place / "idx", "--shards", 8, place / "first.npy", ranks=2), DONE)
        before = json.loads((place / "idx/index.json").read_text())
        self.check(index(place / "idx", "--add", "--delete", place / "gone.txt", place / "second.npy", ranks=3), DONE)
        after = json.loads((place / "idx/index.json").read_text())
        self.assertNotEqual(after["route_curve"], before["route_curve"])
        self.assertGreater(after["route_curve"]["queries"], 900)
        self.assertFalse((place / "idx" / before["router_file"]).exists())
        kept = np.concatenate([np.arange(1, 6000, 2), np.arange(6000, 9000)])
        with h5py.File(place / "idx" / after["router_file"], "r") as router:
            self.assertEqual(router["part_items"][:].sum(), len(kept))
        rows, queries = np.concatenate([first, second])[kept], np.concatenate([make(0, 300), 0.6 * make(1, 300)])
        away = np.square(queries[:, None].astype(float) - rows[None]).sum(2)
        right = kept[np.argsort(away, axis=1)[:, :10]]
        np.save(place / "queries.npy", queries)
        for wish in (0.9, 0.95, 0.99):
            result = myriops("query", "--index", place / "idx", "--vectors", place / "queries.npy", "--probe", "auto", "--recall", wish,
                             "--format", "json", ranks=2)
            found = [[int(hit["key"]) for hit in one["hits"]] for one in result.json()["queries"]]
            self.assertGreaterEqual(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, right)]), wish)
            self.assertLess(result.json()["probes_per_query"], 7.5)

    def test_all_go_and_come_again(self):
        place = folder("empty")
        rows = rows_of(400, 4)
        np.save(place / "rows.npy", rows)
        (place / "all.txt").write_text("".join(f"{i}\n" for i in range(400)))
        self.check(index(place / "idx", "--shards", 3, place / "rows.npy"), DONE)
        self.assertEqual(index(place / "idx", "--delete", place / "all.txt", ranks=2).json()["items"], 0)
        self.assertEqual(set(sum(self.found(place / "idx", rows[:3]), [])), set())
        again = index(place / "idx", "--add", "--delete", place / "all.txt", place / "rows.npy", ranks=2).json()
        self.assertEqual((again["items"], again["unknown"]), (400, 400))
        self.assert_finds(place / "idx", rows, np.arange(400), rows_of(20, 5))

    def test_a_picture_takes_the_place_of_its_older_self(self):
        place = folder("pictures")
        some = pictures("changing", 12)
        more = pictures("coming", 18)
        for name, source in (("emb", some), ("more", more)):
            self.check(myriops("embed", "--out", place / name, source, ranks=2), DONE)
        self.check(index(place / "idx", "--shards", 2, place / "emb"), DONE)
        facts = index(place / "idx", "--add", place / "emb", ranks=3).json()
        self.assertEqual((facts["items"], facts["added"], facts["replaced"]), (12, 12, 12))
        facts = index(place / "idx", "--add", place / "more").json()
        self.assertEqual(facts["items"], 12 + 18 - facts["replaced"])
        hits = myriops("query", "--index", place / "idx", "-k", 1, "--format", "json", more / "00017.jpg").json()["queries"][0]["hits"]
        self.assertIn("00017", hits[0]["key"])
        self.assertLess(hits[0]["distance"], 1e-4)

    def test_nothing_changes_where_it_cannot(self):
        place = folder("refused")
        np.save(place / "rows.npy", rows_of(300, 6))
        np.save(place / "wide.npy", np.zeros((5, 13), "f4"))
        np.save(place / "nan.npy", np.full((5, 12), np.nan, "f4"))
        self.check(index(place / "idx", "--shards", 2, place / "rows.npy"), DONE)
        before = {path.name: path.read_bytes() for path in (place / "idx").iterdir()}
        self.check(index(place / "idx", "--add", place / "wide.npy", ranks=3), FAILED, "13")
        self.check(index(place / "idx", "--add", place / "nan.npy", ranks=3), FAILED)
        self.check(index(place / "idx", "--delete", place / "nothing.txt", ranks=2), FAILED, "nothing.txt")
        self.check(index(place / "nowhere", "--add", place / "rows.npy", ranks=2), FAILED, "no index here")
        self.check(index(place / "idx", "--add"), USAGE, "--add")
        self.check(index(place / "idx", "--delete", place / "x", place / "rows.npy"), USAGE, "--add")
        after = {path.name: path.read_bytes() for path in (place / "idx").iterdir()}
        self.assertEqual(before, after)


if __name__ == "__main__":
    main()
