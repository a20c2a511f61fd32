"""eval --labels: mAP, precision and votes of neighbours, against numpy."""
from harness import *

RANKS = (1, 2, 3, 5)
DEPTH = 100


def interval(values):
    """Wilson's 95 % interval of a mean of values in [0, 1], by how much they vary."""
    values = np.array(values, dtype=np.float64)
    z, n, p = 1.959963984540054, len(values), values.mean()
    spread = values.var(ddof=1) if n > 1 else 0
    if spread > 0:
        n *= min(max(p * (1 - p) / spread, 1), DEPTH)
    middle, half = (p + z * z / (2 * n)) / (1 + z * z / n), z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return p, min(max(middle - half, 0), p), max(min(middle + half, 1), p)


def winner(labels, weights):
    sums = {}
    for label, weight in zip(labels, weights):
        sums[label] = sums.get(label, 0) + weight
    return max(sums, key=lambda label: (sums[label], -list(labels).index(label)))


class Labels(Case):
    @classmethod
    def setUpClass(cls):
        some = folder("some")
        rng = np.random.default_rng(31)
        names = ["ant", "bee", "cat", "dog", "eel & <ray>"]
        for i in range(230):
            name = names[min(i * i // 9000, 4)]  # classes of different sizes
            (some / name).mkdir(exist_ok=True)
            image = np.array(picture(i % 23 if rng.random() < 0.7 else i, 96, 96)).astype(float) + rng.normal(0, 12, (96, 96, 3))
            (some / name / f"{i:03d}.jpg").write_bytes(encode(Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))))
        (some / "fox").mkdir()
        (some / "fox" / "alone.jpg").write_bytes(encode(picture(999)))
        cls.emb, cls.index = scratch / "emb", scratch / "idx"
        assert myriops("embed", "--quiet", "--label-from-folder", "--out", cls.emb, some).code == DONE
        assert myriops("index", "--quiet", "--shards", 3, "--out", cls.index, cls.emb).code == DONE
        keys, vectors = read_embeddings(cls.emb)
        cls.names = np.array([key.split("/")[0] for key in keys])
        away = 1 - vectors.astype(np.float64) @ vectors.astype(np.float64).T
        np.fill_diagonal(away, np.inf)
        cls.order = np.argsort(away, axis=1, kind="stable")[:, :DEPTH]
        cls.away = np.take_along_axis(away, cls.order, axis=1)

    def ask(self, *more, ranks=None, index=None):
        result = myriops("eval", "--quiet", "--labels", "--index", index or self.index, "--format", "json", *more, ranks=ranks)
        self.check(result, DONE)
        return result.json()

    def same(self, found, values):
        for name, wanted in zip(("mean", "low", "high"), interval(values)):
            self.assertAlmostEqual(found[name], wanted, places=6)

    def test_all_is_as_numpy_has_it(self):
        report = self.ask("--sample", 1000, "--exact", ranks=2)
        self.assertEqual((report["queries"], report["labelled"]), (231, 231))
        right = self.names[self.order] == self.names[:, None]
        others = np.array([(self.names == name).sum() - 1 for name in self.names])
        precision = np.cumsum(right, axis=1) / np.arange(1, DEPTH + 1)
        ap = np.array([(precision[i] * right[i]).sum() / min(others[i], DEPTH) if others[i] else np.nan for i in range(231)])
        self.same(report["map"], ap[~np.isnan(ap)])
        for k in (1, 10, 100):
            self.same(report["precision"][str(k)], precision[:, k - 1])
        taken_for = {}
        for k in (1, 10, 20):
            plain = np.array([winner(self.names[self.order[i, :k]], np.ones(k)) for i in range(231)])
            heavy = np.array([winner(self.names[self.order[i, :k]], np.exp(-self.away[i, :k] / 0.07)) for i in range(231)])
            self.same(report["knn_accuracy"][str(k)], plain == self.names)
            self.same(report["weighted_knn_accuracy"][str(k)], heavy == self.names)
            taken_for[k] = plain
        self.assertEqual([row["class"] for row in report["classes"]], sorted(set(self.names)))
        for row in report["classes"]:
            mine = self.names == row["class"]
            self.assertEqual((row["items"], row["queries"]), (mine.sum(), mine.sum()))
            self.assertAlmostEqual(row["accuracy"], (taken_for[10] == self.names)[mine].mean(), places=6)
            self.assertAlmostEqual(row["precision"], precision[mine, 9].mean(), places=6)
            if row["class"] == "fox":
                self.assertIsNone(row["map"], "there is no other to find")
            else:
                self.assertAlmostEqual(row["map"], ap[mine].mean(), places=6)
        wrong = [(a, b) for a, b in zip(self.names, taken_for[10]) if a != b]
        wanted = sorted(((-wrong.count(pair), *pair) for pair in set(wrong)))[:20]
        self.assertEqual([(-row["queries"], row["class"], row["taken_for"]) for row in report["confusions"]], wanted)
        worst = np.lexsort((np.arange(231), ap))[:24]
        self.assertEqual([row["id"] for row in report["worst"]], worst.tolist())

    def test_the_same_for_any_ranks(self):
        for more in (("--sample", 1000), ("--sample", 60), ("--exact", "--sample", 1000)):
            wanted = None
            for ranks in (None, *RANKS):
                found = self.ask(*more, ranks=ranks)
                found.pop("ms_per_query")
                wanted = wanted or found
                self.assertEqual(found, wanted, f"{ranks} ranks")
        self.assertTrue(20 <= self.ask("--sample", 60)["queries"] <= 110)

    def test_a_table_and_a_page(self):
        self.check(myriops("eval", "--labels", "--index", self.index, ranks=2), DONE, "mAP@100", "weighted kNN accuracy", "taken most often")
        result = myriops("eval", "--labels", "--index", self.index, "--format", "html", "--out", scratch / "worst.html", ranks=3)
        self.check(result, DONE, "mAP@100")
        page = (scratch / "worst.html").read_text()
        self.assertEqual((page.count("<section"), page.count("data:image/jpeg;base64,")), (24, 24 * 11))
        self.assertIn("eel &amp; &lt;ray&gt;", page)
        self.assertNotIn("<ray>", page)
        self.check(myriops("eval", "--labels", "--index", self.index, "--format", "json", "--out", scratch / "report.json", ranks=2), DONE)
        self.assertEqual(json.loads((scratch / "report.json").read_text())["queries"], 231)

    def test_few_items_and_many_ranks(self):
        some = folder("few")
        for i, name in enumerate(("a", "a", "b")):
            (some / name).mkdir(exist_ok=True)
            (some / name / f"{i}.jpg").write_bytes(encode(picture(i)))
        self.embed(scratch / "few-emb", "--label-from-folder", some)
        self.check(myriops("index", "--quiet", "--shards", 2, "--out", scratch / "few-idx", scratch / "few-emb"), DONE)
        report = self.ask(ranks=6, index=scratch / "few-idx")
        self.assertEqual(report["queries"], 3)
        self.assertAlmostEqual(report["precision"]["10"]["mean"], np.mean([0.1, 0.1, 0]), places=6)
        self.assertEqual([row["queries"] for row in report["classes"]], [2, 1])

    def test_labels_that_no_two_have(self):
        some = folder("lonely")
        for i in range(4):
            (some / f"class{i}").mkdir()
            (some / f"class{i}" / "one.jpg").write_bytes(encode(picture(i)))
        self.embed(scratch / "lonely-emb", "--label-from-folder", some)
        self.check(myriops("index", "--quiet", "--out", scratch / "lonely-idx", scratch / "lonely-emb"), DONE)
        out = scratch / "lonely.html"
        self.check(myriops("eval", "--labels", "--index", scratch / "lonely-idx", "--format", "html", "--out", out, ranks=2), DONE, "no item asked has a label that another has")
        self.assertIn("no item asked has a label that another has", out.read_text())
        self.assertIn("Nothing to show.", out.read_text())

    def test_what_is_said_when_it_cannot(self):
        rng = np.random.default_rng(32)
        bare = scratch / "bare-idx"
        self.check(myriops("index", "--quiet", "--out", bare, write_bin(scratch / "bare.fbin", rng.normal(size=(50, 4)).astype(np.float32))), DONE)
        self.check(myriops("eval", "--labels", "--index", bare, ranks=3), FAILED, "has a label")
        self.check(myriops("eval", "--exact", "--index", self.index, ranks=2), USAGE, "--labels")
        self.check(myriops("eval", "--labels", "--index", self.index, "--out", scratch / "x"), USAGE, "--format")
        out = scratch / "nowhere" / "x.html"
        self.check(myriops("eval", "--labels", "--index", self.index, "--format", "html", "--out", out, ranks=3), FAILED, "x.html")
        damaged = scratch / "damaged-idx"
        shutil.copytree(self.index, damaged)
        shard = damaged / json.loads((damaged / "index.json").read_text())["shards"][1]["file"]
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
        self.check(myriops("eval", "--labels", "--index", damaged, ranks=3), FAILED, shard.name)


if __name__ == "__main__":
    main()
