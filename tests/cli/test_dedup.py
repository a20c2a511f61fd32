"""dedup: groups of near duplicates, against all pairs by numpy."""
import time

from harness import *

RANKS = (1, 2, 3, 5)


def groups_of(rows, threshold, metric):
    """{least id: (ids, distances to it)} of the connected components of all pairs within a distance, in double."""
    rows = rows.astype(np.float64)
    if metric == "cosine":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    squared = (rows ** 2).sum(1)

    def distances(some):
        if metric == "cosine":
            return 1 - rows[some] @ rows.T
        return np.sqrt(np.maximum(squared[some, None] + squared[None, :] - 2 * rows[some] @ rows.T, 0))

    root = np.arange(len(rows))

    def find(i):
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for first in range(0, len(rows), 500):
        some = np.arange(first, min(first + 500, len(rows)))
        for a, b in zip(*np.nonzero(distances(some) <= threshold)):
            x, y = find(first + a), find(b)
            root[max(x, y)] = min(x, y)
    members = {}
    for i in range(len(rows)):
        members.setdefault(find(i), []).append(i)
    return {least: (ids, distances(np.array([least]))[0, ids]) for least, ids in members.items() if len(ids) > 1}


def read_groups(path):
    """{least id: (ids, distances)} of a file of groups, whose keys are ids; what the file promises is checked."""
    lines = path.read_text().splitlines()
    assert lines[0] == "group\tkeep\tdistance\tkey\tsource"
    groups, before = {}, None
    for line in lines[1:]:
        number, keep, distance, key, _ = line.split("\t")
        group = groups.setdefault(int(number), ([], []))
        assert (keep == "yes") == (not group[0]), "the one to keep comes first"
        group[0].append(int(key))
        group[1].append(float(distance))
    sizes = [len(ids) for ids, _ in groups.values()]
    assert list(groups) == list(range(1, len(groups) + 1)) and sizes == sorted(sizes, reverse=True), "the largest first"
    return {ids[0]: (ids, np.array(distances)) for ids, distances in groups.values()}


class Dedup(Case):
    @classmethod
    def setUpClass(cls):
        rng = np.random.default_rng(11)
        centres = rng.integers(30, 220, (200, 24))
        cls.rows = np.clip(centres[rng.integers(0, 200, 16000)] + rng.normal(0, 25, (16000, 24)), 0, 255).astype(np.uint8)
        for first in range(0, 3000, 30):  # chains: each a little way from the one before, far from the first
            for i in range(1, 1 + first % 7):
                step = np.zeros(24, dtype=int)
                step[rng.integers(0, 24, 3)] = 5
                place = (first * 5 + 4001 * i) % 16000
                cls.rows[place] = np.clip(cls.rows[(first * 5 + 4001 * (i - 1)) % 16000] + step, 0, 255)
        cls.rows[15000:15400] = cls.rows[3]  # one vector four hundred times
        cls.index = scratch / "idx"
        base = write_u8bin(scratch / "base.u8bin", cls.rows)
        assert myriops("index", "--quiet", "--shards", 6, "--out", cls.index, base).code == DONE
        cls.truth = groups_of(cls.rows, 9.0, "l2")

    def run_dedup(self, out, *more, ranks=None, index=None):
        result = myriops("dedup", "--quiet", "--index", index or self.index, "--out", scratch / out, *more, ranks=ranks)
        self.check(result, DONE)
        return scratch / out

    def same_groups(self, found, wanted, tolerance=1e-5):
        self.assertEqual({least: ids for least, (ids, _) in found.items()}, {least: ids for least, (ids, _) in wanted.items()})
        for least, (_, distances) in wanted.items():
            self.assertTrue(np.allclose(found[least][1], distances, atol=tolerance), f"group of {least}")

    def test_groups_are_those_of_all_pairs(self):
        self.assertGreater(len(self.truth), 60)
        self.assertTrue(any((distances > 9).any() for _, distances in self.truth.values()), "chains reach beyond the threshold")
        self.same_groups(read_groups(self.run_dedup("exact.tsv", "--threshold", 9, "--exact", ranks=2)), self.truth)
        self.same_groups(read_groups(self.run_dedup("walks.tsv", "--threshold", 9, ranks=3)), self.truth)

    def test_same_bytes_for_any_ranks_and_threads(self):
        for kind in ("tsv", "json"):
            wanted = None
            for ranks, threads in ((None, 2), *((ranks, 1) for ranks in RANKS), (8, 1)):
                found = self.run_dedup(f"same.{kind}", "--threshold", 9, "--format", kind, "--threads", threads, ranks=ranks).read_bytes()
                if kind == "json":
                    found = json.loads(found)
                    self.assertEqual(found["summary"].pop("ranks"), ranks or 1)
                    for name in ("seconds", "threads"):
                        found["summary"].pop(name)
                wanted = wanted or found
                self.assertEqual(found, wanted, f"{kind}, {ranks} ranks")

    def test_shards_that_cannot_hold_one_are_not_asked(self):
        result = myriops("dedup", "--index", self.index, "--threshold", 9, "--format", "json").json()
        self.assertLess(result["summary"]["probes_per_query"], 5)
        n_dropped = sum(len(ids) - 1 for ids, _ in self.truth.values())
        self.assertEqual((result["summary"]["groups"], result["summary"]["drop"], result["summary"]["items"]), (len(self.truth), n_dropped, 16000))
        self.assertEqual(result["summary"]["largest"], max(len(ids) for ids, _ in self.truth.values()))
        self.assertGreaterEqual(result["summary"]["copies"], 380)
        hashed = scratch / "hash-idx"
        self.check(myriops("index", "--quiet", "--shards", 3, "--partition", "hash", "--out", hashed, scratch / "base.u8bin"), DONE)
        self.same_groups(read_groups(self.run_dedup("hash.tsv", "--threshold", 9, "--exact", ranks=2, index=hashed)), self.truth)

    def test_what_walks_miss_is_told(self):
        summary = myriops("dedup", "--index", self.index, "--threshold", 9, "--sample", 16000, "--format", "json", ranks=2).json()["summary"]
        pairs = 0
        firsts = np.sort(np.unique(self.rows, axis=0, return_index=True)[1])
        rows = self.rows[firsts].astype(np.int64)
        for some in np.array_split(rows, 40):
            pairs += ((some ** 2).sum(1)[:, None] + (rows ** 2).sum(1) - 2 * some @ rows.T <= 81).sum()
        self.assertEqual(summary["sampled"]["pairs"], pairs - len(rows), "each pair from both sides")
        self.assertGreaterEqual(summary["sampled"]["found"], 0.99 * summary["sampled"]["pairs"])

    def test_cosine_and_rounded_vectors(self):
        rng = np.random.default_rng(12)
        rows = rng.normal(size=(1200, 40)).astype(np.float32)
        rows[600:900] = rows[:300] * rng.uniform(0.5, 3, (300, 1)) + rng.normal(0, 0.1, (300, 40))
        rows[1100] = rows[5] * 2
        base = write_bin(scratch / "cosine.fbin", rows.astype(np.float32))
        wanted = groups_of(rows, 0.01, "cosine")
        self.assertGreater(len(wanted), 100)
        for quantize in ("sq8", "sq8-f16", "none"):
            index = scratch / f"cosine-{quantize}"
            self.check(myriops("index", "--quiet", "--metric", "cosine", "--quantize", quantize, "--shards", 4, "--out", index, base), DONE)
            found = read_groups(self.run_dedup("cosine.tsv", "--threshold", 0.01, "--exact", ranks=3, index=index))
            if quantize != "sq8-f16":
                self.same_groups(found, wanted, 3e-6)
            else:
                self.assertGreater(len(set(found) & set(wanted)) / len(wanted), 0.97, "pairs at the threshold fall to either side")
        none = read_groups(self.run_dedup("equal.tsv", "--threshold", 0, ranks=2, index=scratch / "cosine-sq8"))
        self.assertEqual({least: ids for least, (ids, _) in none.items()}, {5: [5, 1100]})

    def test_many_copies_make_few_links(self):
        rng = np.random.default_rng(13)
        rows = rng.integers(0, 255, (101000, 16)).astype(np.uint8)
        rows[500:100500] = rows[0]
        index = scratch / "copies-idx"
        self.check(myriops("index", "--quiet", "--shards", 4, "--out", index, write_u8bin(scratch / "copies.u8bin", rows)), DONE)
        begun = time.monotonic()
        groups = read_groups(self.run_dedup("copies.tsv", "--threshold", 1, ranks=2, index=index))
        self.assertLess(time.monotonic() - begun, 100, "ten thousand million pairs would take hours")
        self.assertEqual(groups[0][0], [0, *range(500, 100500)])
        self.assertEqual(groups[0][1].max(), 0)

    def test_nothing_is_near(self):
        rng = np.random.default_rng(14)
        index = scratch / "lonely-idx"
        base = write_bin(scratch / "lonely.fbin", rng.normal(size=(7, 8)).astype(np.float32))
        self.check(myriops("index", "--quiet", "--shards", 2, "--out", index, base), DONE)
        for ranks in (None, 8):
            path = self.run_dedup("none.tsv", "--threshold", 0.001, ranks=ranks, index=index)
            self.assertEqual(path.read_text(), "group\tkeep\tdistance\tkey\tsource\n")
            self.assertEqual(myriops("dedup", "--index", index, "--threshold", 0.001, "--format", "json", ranks=ranks).json()["groups"], [])
            page = self.run_dedup("none.html", "--threshold", 0.001, "--format", "html", ranks=ranks, index=index)
            self.assertIn("0 groups of near duplicates", page.read_text())
        all_of_them = self.run_dedup("all.tsv", "--threshold", 100, ranks=8, index=index)
        self.assertEqual(read_groups(all_of_them)[0][0], list(range(7)))

    def test_a_page_of_pictures_and_what_to_delete(self):
        some = pictures("some", 30, kind="PNG")
        for i in (3, 11):  # the same picture as JPEG, and smaller
            picture(i).save(some / f"x{i:05d}.jpg", quality=95)
            (some / f"y{i:05d}.png").write_bytes(encode(picture(i).resize((120, 90), Image.BICUBIC), "PNG"))
        (some / "z\ttab.png").write_bytes(encode(picture(4), "PNG"))
        self.embed(scratch / "some-emb", "--label-from-folder", some)
        index = scratch / "some-idx"
        self.check(myriops("index", "--quiet", "--shards", 2, "--out", index, scratch / "some-emb"), DONE)
        path = self.run_dedup("some.tsv", "--threshold", 0.06, ranks=2, index=index)
        lines = [line.split("\t") for line in path.read_text().splitlines()[1:]]
        self.assertTrue(all(len(line) == 5 for line in lines))
        groups = {}
        for number, _, _, key, _ in lines:
            groups.setdefault(number, []).append(key)
        keys, vectors = read_embeddings(scratch / "some-emb")
        wanted = [[keys[i].replace("\t", "%09") for i in ids] for ids, _ in groups_of(vectors, 0.06, "cosine").values()]
        self.assertEqual(sorted(groups.values()), sorted(wanted))
        for alike in ({"00003.png", "x00003.jpg", "y00003.png"}, {"00004.png", "z%09tab.png"}):
            self.assertTrue(any(alike <= set(group) for group in wanted), str(wanted))
        self.assertTrue(all(line[4].endswith(line[3]) for line in lines))
        page = self.run_dedup("some.html", "--threshold", 0.06, "--format", "html", "--groups", 1, ranks=2, index=index).read_text()
        self.assertEqual(page.count("data:image/jpeg;base64,"), max(map(len, wanted)))
        self.assertEqual((page.count("<section"), page.count("Group 1: keep"), page.count("Group 2")), (1, 2, 0), "name and heading")
        self.assertIn(f"{len(wanted)} groups of near duplicates", page)
        self.assertIn("the 1 largest are shown", page)
        self.assertNotIn("<script", page)
        (scratch / "keys.txt").write_text("".join(line[3] + "\n" for line in lines if line[1] == "no" and "%" not in line[3]))
        self.check(myriops("index", "--quiet", "--delete", scratch / "keys.txt", "--out", index), DONE)
        kept = next(group[0] for group in wanted if "z%09tab.png" in group)
        left = self.run_dedup("some.tsv", "--threshold", 0.06, index=index).read_text().splitlines()[1:]
        self.assertEqual([line.split("\t")[3] for line in left], [kept, "z%09tab.png"])

    def wait_for_work(self, out, process):
        begun = time.monotonic()
        while not list(out.glob("*.partial")) and time.monotonic() - begun < 60:
            time.sleep(0.02)
        self.assertTrue(list(out.glob("*.partial")) and process.poll() is None, "it was still at work")

    def test_whole_or_not_at_all(self):
        rng = np.random.default_rng(15)
        base = write_bin(scratch / "large.fbin", rng.normal(size=(30000, 64)).astype(np.float32))
        self.check(myriops("index", "--quiet", "--shards", 3, "--ef-construction", 40, "--out", scratch / "large-idx", base), DONE)
        arguments = ("dedup", "--quiet", "--index", scratch / "large-idx", "--threshold", 5, "--exact", "--threads", 1)
        for victims in ("one", "all", "term"):
            out = folder(f"killed-{victims}")
            (out / "groups.tsv").write_text("of an earlier run")
            process = start(*arguments, "--out", out / "groups.tsv", ranks=None if victims == "term" else 3)
            self.wait_for_work(out, process)
            if victims == "one":
                os.kill(max(ranks_of(process)), signal.SIGKILL)
                self.assertNotEqual(process.wait(timeout=60), 0)
            if victims == "term":
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(timeout=60), STOPPED)
                self.assertEqual([file.name for file in out.iterdir()], ["groups.tsv"], "nothing temporary is left")
                process.stdout.close()
            else:
                kill_all(process)
            self.assertEqual((out / "groups.tsv").read_text(), "of an earlier run")
            self.check(myriops("dedup", "--quiet", "--index", self.index, "--threshold", 5, "--out", out / "groups.tsv"), DONE)
            self.assertEqual([file.name for file in out.iterdir()], ["groups.tsv"], "nor by the next run, of killed ones")
            self.assertNotEqual((out / "groups.tsv").read_bytes(), b"of an earlier run")

    def test_what_is_said_when_it_cannot(self):
        self.check(myriops("dedup", ranks=2), USAGE, "--index")
        self.check(myriops("dedup", "--index", self.index, ranks=2), USAGE, "--threshold")
        self.check(myriops("dedup", "--index", self.index, "--threshold", -1), USAGE, "threshold")
        self.check(myriops("dedup", "--index", self.index, "--threshold", 1, "--out", scratch / "nowhere" / "x.tsv", ranks=3), FAILED, "x.tsv")
        product = scratch / "ip-idx"
        self.check(myriops("index", "--quiet", "--metric", "ip", "--out", product, scratch / "base.u8bin"), DONE)
        self.check(myriops("dedup", "--index", product, "--threshold", 1, "--out", scratch / "x.tsv", ranks=2), FAILED, "inner product")
        damaged = scratch / "damaged-idx"
        shutil.copytree(self.index, damaged)
        shard = damaged / json.loads((damaged / "index.json").read_text())["shards"][2]["file"]
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
        self.check(myriops("dedup", "--index", damaged, "--threshold", 1, "--out", scratch / "x.tsv", ranks=3), FAILED, shard.name)
        self.assertEqual(list(scratch.glob("x.tsv*")), [])


if __name__ == "__main__":
    main()
