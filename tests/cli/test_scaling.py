"""bench/scaling: measured rows are checked before they count, and the simulation repeats them."""
import struct
import sys
import xml.etree.ElementTree

from harness import *

sys.path.insert(0, str(SOURCE / "bench/scaling"))
import model

RUN, SIMULATE = SOURCE / "bench/scaling/run.sh", SOURCE / "bench/scaling/simulate"
WAYS = ("scatter", "routed", "replicated")


def simulate(*args):
    run = subprocess.run([sys.executable, str(SIMULATE), *map(str, args)], capture_output=True, text=True, timeout=120)
    return Result(run.returncode, run.stdout, run.stderr)


class Scaling(Case):
    @classmethod
    def setUpClass(cls):
        rng = np.random.default_rng(5)
        rows = rng.integers(0, 256, (3000, 32)).astype(np.uint8)
        queries = np.clip(rows[::30].astype(int) + rng.integers(-9, 9, (100, 32)), 0, 255).astype(np.uint8)
        cls.data = folder("scaling-data")
        write_u8bin(cls.data / "base.u8bin", rows)
        write_u8bin(cls.data / "query.u8bin", queries)
        away = ((queries[:, None].astype(int) - rows[None].astype(int)) ** 2).sum(2)
        ids = np.argsort(away, axis=1, kind="stable")[:, :10].astype("<u4")
        (cls.data / "groundtruth.bin").write_bytes(struct.pack("<II", *ids.shape) + ids.tobytes() + np.take_along_axis(away, ids.astype(int), 1).astype("<f4").tobytes())

    def run_script(self, *args):
        run = subprocess.run([str(RUN), *map(str, args)], capture_output=True, text=True, timeout=240,
                             env=environment(MYRIOPS_PROGRAM=PROGRAM))
        return Result(run.returncode, run.stdout, run.stderr)

    def check_sent(self, rows):
        """Nothing where there is one rank; of an index, the half of the sample and of the rows that are not rank 0's."""
        for row in rows:
            sent, vector = row["sent_bytes"], 32 * 4
            if row["ranks"] == 1:
                self.assertEqual(sent, 0, row)
            elif row["task"] == "index":
                self.assertTrue(row["work"] * vector * 0.3 < sent < row["work"] * (vector + 200), row)
            elif row["task"] == "embed":  # numbers and lists of pictures, no vectors
                self.assertTrue(32 < sent < 64000, row)

    def test_strong_and_weak(self):
        out = scratch / "scaling"
        write_tar(scratch / "scaling.tar", [(f"{i:03}.jpg", encode(picture(i))) for i in range(6)])
        self.check(self.run_script("--vectors", self.data, "--pictures", scratch / "scaling.tar", "--out", out, "--shapes", "1x1,2x1",
                                   "--rounds", 1, "--shards", 3, "--floor", 0.9), DONE)
        document = json.loads((out / "scaling.json").read_text())
        self.assertEqual(len(document["rows"]), 2 * 2 * 3)
        for row in document["rows"]:
            self.assertTrue(row["valid"] and row["rate"] > 0 and row["efficiency"] > 0, row)
            self.assertLess(abs(sum(row["phases"].values()) - row["seconds"]), 0.3 * row["seconds"] + 0.2, row)
            self.assertTrue(1 <= row["imbalance"] <= row["ranks"] + 1e-6, row)
            if row["task"] == "query":
                self.assertGreaterEqual(row["recall"], 0.9, row)
        self.check_sent(document["rows"])
        self.assertEqual({row["work"] for row in document["rows"] if (row["task"], row["kind"]) == ("index", "weak")}, {1500, 3000})
        for name in ("embed", "index", "query"):
            xml.etree.ElementTree.parse(out / f"{name}.svg")
        self.assertIn("How Myriops scales", (out / "index.html").read_text())
        self.assertEqual(len((out / "scaling.csv").read_text().splitlines()), 13)
        self.assertFalse((out / "scratch").exists())

        costs = scratch / "measured.json"
        costs.write_text(myriops("plan", "--images", 3000, "--measure", "--vectors", self.data / "base.u8bin", "--format", "json").out)
        found = simulate("--costs", costs, "--validate", out / "scaling.json", "--out", scratch / "validated", "--within", "1e6")
        self.check(found, DONE)
        rows = json.loads((scratch / "validated/simulate.json").read_text())["validation"]
        self.assertEqual([(row["task"], row["kind"], row["ranks"]) for row in rows],
                         [(task, kind, ranks) for kind in ("strong", "weak") for task in ("embed", "index", "query") for ranks in (1, 2)])
        for row in rows:
            self.assertTrue(row["simulated"] > 0 and abs(row["simulated"] / row["rate"] - 1 - row["off"]) < 1e-9, row)
            self.assertIn(f"| {row['off']:+.0%} |", found.out)
        self.assertIn("Against what was measured", (scratch / "validated/index.html").read_text())
        self.check(simulate("--costs", costs, "--validate", out / "scaling.json", "--within", "0"), FAILED)
        self.assertEqual(document["settings"]["dim"], 32)

    def test_wrong_results_bear_no_numbers(self):
        out = scratch / "invalid"
        result = self.run_script("--vectors", self.data, "--out", out, "--shapes", "1x1", "--rounds", 1, "--shards", 2, "--floor", 1.01,
                                 "--kinds", "strong")
        self.check(result, FAILED)
        row = json.loads((out / "scaling.json").read_text())["rows"][-1]
        self.assertIn("invalid: recall", (out / "index.html").read_text())
        self.check_wrong(row)

    def test_a_part_of_the_vectors_is_checked_too(self):
        """A weak run that asks one shard of three finds too little, and says so in place of a rate."""
        out = scratch / "weak"
        result = self.run_script("--vectors", self.data, "--out", out, "--shapes", "1x1,1x2", "--rounds", 1, "--shards", 3, "--floor", 0.99,
                                 "--kinds", "weak", "--probe", 1)
        self.check(result, FAILED)
        rows = json.loads((out / "scaling.json").read_text())["rows"]
        row = next(row for row in rows if row["task"] == "query" and row["share"] < 1)
        self.check_wrong(row)

    def check_wrong(self, row):
        self.assertEqual((row["task"], row["valid"]), ("query", False))
        self.assertNotIn("rate", row)


class Simulation(Case):
    """On costs that are given, so that sums can be done by hand."""

    @classmethod
    def setUpClass(cls):
        cls.costs = scratch / "costs.json"
        cls.facts = {"images": 1e9, "dim": 128, "ef": 100, "bytes": {"index": 3e11},
                     "thread_seconds": {"picture": 0.01, "sizes": [8000, 40000], "insert": [5e-5, 5e-5], "search": [3e-5, 3e-5], "assign": 0}}
        cls.costs.write_text(json.dumps(cls.facts))

    def rows(self, *args):
        out = scratch / "simulated"
        shutil.rmtree(out, ignore_errors=True)
        self.check(simulate("--costs", self.costs, "--out", out, *args), DONE)
        return json.loads((out / "simulate.json").read_text())["rows"]

    def test_files(self):
        rows = self.rows("--items", "1e10", "--dim", 1280, "--network", "10gbe", "--ranks-per-node", 2)
        self.assertEqual([row["ranks"] for row in rows], [2 ** i for i in range(13)])
        self.assertEqual(rows[-1]["nodes"], 2048)
        for row in rows:
            self.assertTrue(all(row[way]["rate"] > 0 and row[way]["imbalance"] >= 1 for way in WAYS), row)
        self.assertTrue(all(a["embed"] < b["embed"] and a["index"] < b["index"] for a, b in zip(rows, rows[1:])))
        lines = (scratch / "simulated/simulate.csv").read_text().splitlines()
        self.assertEqual(len(lines), 14)
        names, last = lines[0].split(","), lines[-1].split(",")
        self.assertEqual(float(last[names.index("routed_qps")]), rows[-1]["routed"]["rate"])
        for name in ("query", "latency", "embed", "index"):
            svg = xml.etree.ElementTree.parse(scratch / f"simulated/{name}.svg").getroot()
            curves = svg.findall("{http://www.w3.org/2000/svg}polyline")
            self.assertEqual([len(curve.get("points").split()) for curve in curves], [13] * (3 if name in ("query", "latency") else 1))
            for curve in curves:
                for x, y in (map(float, point.split(",")) for point in curve.get("points").split()):
                    self.assertTrue(0 < x < 640 and 0 < y < 400, (name, x, y))
        self.assertIn("How Myriops would scale", (scratch / "simulated/index.html").read_text())

    def test_wrong_costs_are_told(self):
        wrong = scratch / "wrong.json"
        for text in ("", "[]", '{"dim": 128}'):
            wrong.write_text(text)
            found = simulate("--costs", wrong)
            self.assertEqual(found.code, 1)
            self.assertIn("wrong.json: not what myriops plan", found.err)
            self.assertNotIn("Traceback", found.err)
        self.check(simulate("--costs", self.costs, "--threads", 0), USAGE)

    def test_where_nothing_is_in_the_way_rates_are_as_visits(self):
        for row in self.rows("--network", "free", "--skew", 0, "--threads", 1):
            routed, scatter = row["routed"]["rate"], row["scatter"]["rate"]
            self.assertAlmostEqual(routed / scatter * row["visits"] / row["shards"], 1, delta=0.02, msg=str(row))
            searches = row["ranks"] / (3e-5 * row["visits"])  # a second, and nothing else
            self.assertTrue(0.9 * searches < routed <= searches, row)

    def test_copies_help(self):
        for skew in (0, 0.3):
            for row in self.rows("--skew", skew):
                replicated, routed = row["replicated"], row["routed"]
                self.assertGreaterEqual(replicated["rate"], routed["rate"] * 0.995, row)
                self.assertAlmostEqual(replicated["hosts"], max(1, row["ranks"] / 1000), delta=1e-3)
                if row["ranks"] > 1000:
                    self.assertEqual(row["replicated_shards"], 1000)
                else:
                    self.assertEqual(replicated["rate"], routed["rate"])

    def test_a_slow_network_bounds(self):
        free, slow = (self.rows("--dim", 1280, "--ranks-per-node", 8, "--network", name)[7]["routed"] for name in ("free", "10gbe"))
        self.assertGreater(free["rate"], 2 * slow["rate"])
        self.assertEqual((free["bound"], slow["bound"]), ("searches", "the line"))

    def test_nodes_share(self):
        """Two ranks of a node serve each other's shards: less imbalance than of ranks by themselves."""
        alone, together = (self.rows("--skew", 0.5, "--ranks-per-node", n)[8]["routed"]["imbalance"] for n in (1, 8))
        self.assertGreater(alone, together)

    def test_visits_find_their_hosts(self):
        """Query by query, each visit to the least busy of its hosts, gives the loads of the steady state."""
        rng, n_shards, machine, n = np.random.default_rng(3), 8, model.Machine(12, 1), 4000
        shares = model.popularity(n_shards, 1.0, rng)
        chance = model.visited(shares, 3)
        self.assertAlmostEqual(chance.sum(), 3)
        self.assertTrue((chance <= 1).all() and (np.argsort(chance) == np.argsort(shares)).all())
        of = model.hosting_nodes(n_shards, machine, chance)
        self.assertEqual(sorted(sum(of, [])), list(range(12)))
        most = max(chance[s] / len(of[s]) for s in range(n_shards))  # visits a host; no copy would be better elsewhere
        self.assertTrue(all(chance[s] / (len(of[s]) - 1) >= most for s in range(n_shards) if len(of[s]) > 1))
        loads = np.zeros(12)
        for asks in rng.integers(0, 12, n):
            for s in np.flatnonzero(rng.random(n_shards) < chance):
                loads[asks if asks in of[s] else min(of[s], key=lambda node: loads[node])] += 1
        _, node, served, own = model.spread(chance, of, 12, rng)
        self.assertTrue((own <= served).all())
        np.testing.assert_allclose(np.bincount(node, served, 12), loads / n, rtol=0.1)

    def test_wide_vectors_are_coded_along_axes(self):
        along, whole, narrow = model.Costs(self.facts), model.Costs(self.facts, axes=0), model.Costs(self.facts)
        along.stretch(1280)
        whole.stretch(1280)
        self.assertEqual((along.code_bytes(1280), whole.code_bytes(1280)), (192, 1280))
        self.assertLess(narrow.search(1e6), along.search(1e6))
        self.assertLess(along.search(1e6), 0.75 * whole.search(1e6))
        self.assertAlmostEqual(along.node_bytes, 300 + 192 - 128 + 4 * 1280)
        wide = along.search(1e6), along.insert(1e6), along.node_bytes
        along.stretch(512)
        self.assertTrue(narrow.search(1e6) < along.search(1e6) < wide[0])
        along.stretch(1280)
        np.testing.assert_allclose((along.search(1e6), along.insert(1e6), along.node_bytes), wide)


if __name__ == "__main__":
    main()
