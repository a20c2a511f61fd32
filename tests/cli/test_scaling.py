"""bench/scaling: measured rows are checked before they count, and the simulation repeats them."""
import struct
import sys
import xml.etree.ElementTree

from harness import *

RUN, SIMULATE = SOURCE / "bench/scaling/run.sh", SOURCE / "bench/scaling/simulate"


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

        costs = scratch / "costs.json"
        costs.write_text(myriops("plan", "--images", 3000, "--measure", "--vectors", self.data / "base.u8bin", "--format", "json").out)
        for more in (("--validate", out / "scaling.json"), ("--items", "1e9", "--out", scratch / "simulated.json"), ("--dim", 1280, "--network", "10gbe")):
            run = subprocess.run([sys.executable, str(SIMULATE), "--costs", str(costs), *map(str, more)], capture_output=True, text=True, timeout=120)
            self.assertEqual(run.returncode, 0, run.stderr)
        rows = json.loads((scratch / "simulated.json").read_text())["rows"]
        self.assertEqual([row["ranks"] for row in rows], [1, 4, 16, 64, 256, 1024, 4096])
        self.assertTrue(all(a["embed"] < b["embed"] and a["routed"] < b["routed"] for a, b in zip(rows, rows[1:])))
        self.assertTrue(all(row["routed"] > row["scattered"] for row in rows))

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


if __name__ == "__main__":
    main()
