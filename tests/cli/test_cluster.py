"""cluster: k-means, against numpy."""
import time

from harness import *

RANKS = (1, 2, 3, 5)


def read_clusters(path):
    """(cluster from 0, distance) by key, and labels, of a file of clusters."""
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    assert lines[0] == ["cluster", "distance", "key", "source", "label"] and all(len(line) == 5 for line in lines)
    return {key: (int(cluster) - 1, float(distance)) for cluster, distance, key, _, _ in lines[1:]}, {line[2]: line[4] for line in lines[1:]}


def lloyd(rows, n, seed):
    """Mean squared distance of plain k-means."""
    rng = np.random.default_rng(seed)
    centres = rows[rng.choice(len(rows), n, replace=False)]
    for _ in range(30):
        squared = (rows ** 2).sum(1)[:, None] + (centres ** 2).sum(1) - 2 * rows @ centres.T
        nearest = squared.argmin(1)
        centres = np.array([rows[nearest == c].mean(0) if (nearest == c).any() else centres[c] for c in range(n)])
    return squared.min(1).mean()


class Cluster(Case):
    @classmethod
    def setUpClass(cls):
        rng = np.random.default_rng(21)
        centres = rng.normal(0, 3, (25, 24))
        cls.rows = (centres[rng.integers(0, 25, 9000)] + rng.normal(0, 1, (9000, 24))).astype(np.float32)
        cls.base = write_bin(scratch / "base.fbin", cls.rows)
        cls.index = scratch / "idx"
        assert myriops("index", "--quiet", "--shards", 4, "--out", cls.index, cls.base).code == DONE

    def run_cluster(self, out, *more, ranks=None):
        result = myriops("cluster", "--quiet", "--out", scratch / out, *more, ranks=ranks)
        self.check(result, DONE)
        return scratch / out

    def test_items_are_in_the_nearest_of_centres_that_are_means(self):
        for operands in (("--index", self.index), (self.base,)):
            path = self.run_cluster("all.tsv", "-K", 25, "--centroids", scratch / "centres.npy", *operands, ranks=3)
            found, _ = read_clusters(path)
            centres = np.load(scratch / "centres.npy").astype(np.float64)
            rows = self.rows.astype(np.float64)
            nearest = np.array([found[str(i)][0] for i in range(9000)])
            distances = np.array([found[str(i)][1] for i in range(9000)])
            away = np.sqrt(((rows[:, None, :] - centres[None, :, :]) ** 2).sum(2))
            self.assertTrue(np.allclose(distances, away[np.arange(9000), nearest], rtol=1e-5))
            self.assertTrue(np.allclose(distances, away.min(1), atol=1e-4))
            sizes = np.bincount(nearest, minlength=25)
            self.assertTrue((np.diff(sizes) <= 0).all(), "the largest first")
            means = np.array([rows[nearest == c].mean(0) for c in range(25)])
            self.assertLess(np.abs(means - centres).max(), 0.05, "but for the few that moved last")
            best = min(lloyd(rows, 25, seed) for seed in range(6))
            self.assertLess((distances ** 2).mean(), 1.25 * best)

    def test_same_bytes_for_any_ranks_and_threads(self):
        for operands in (("--index", self.index), (self.base,)):
            for kind in ("tsv", "json"):
                wanted = None
                for ranks, threads in ((None, 2), *((ranks, 1) for ranks in RANKS), (7, 1)):
                    path = self.run_cluster(f"same.{kind}", "-K", 40, "--format", kind, "--threads", threads,
                                            "--centroids", scratch / "same.npy", *operands, ranks=ranks)
                    found = path.read_bytes(), (scratch / "same.npy").read_bytes()
                    wanted = wanted or found
                    self.assertEqual(found, wanted, f"{kind}, {ranks} ranks")
        other = self.run_cluster("same.tsv", "-K", 40, "--seed", 2, self.base).read_bytes()
        self.assertNotEqual(other, self.run_cluster("same.tsv", "-K", 40, self.base).read_bytes())

    def test_examples(self):
        found, _ = read_clusters(self.run_cluster("all.tsv", "-K", 10, "--index", self.index))
        document = json.loads(self.run_cluster("all.json", "-K", 10, "--format", "json", "--index", self.index, ranks=2).read_text())
        self.assertEqual([cluster["cluster"] for cluster in document["clusters"]], list(range(1, 11)))
        self.assertIsNone(document["labels"])
        total = 0
        for cluster in document["clusters"]:
            members = sorted((distance, int(key)) for key, (c, distance) in found.items() if c + 1 == cluster["cluster"])
            total += sum(distance ** 2 for distance, _ in members)
            self.assertEqual(cluster["items"], len(members))
            self.assertAlmostEqual(cluster["mean_distance"], np.mean([distance for distance, _ in members]), places=4)
            self.assertTrue(np.allclose([item["distance"] for item in cluster["nearest"]], [distance for distance, _ in members[:10]], rtol=1e-5))
            drawn = [item["id"] for item in cluster["random"]]
            self.assertEqual(len(set(drawn)), 10)
            self.assertTrue(set(drawn) <= {item for _, item in members})
            self.assertEqual([item["key"] for item in cluster["random"]], [str(item) for item in drawn])
        self.assertAlmostEqual(document["mean_squared_distance"], total / 9000, places=3)

    def test_fewer_items_than_clusters_or_ranks(self):
        rows = np.array([[0, 0], [0, 0], [5, 5], [5, 5], [5, 5]], dtype=np.float32)
        base = write_bin(scratch / "few.fbin", rows)
        found, _ = read_clusters(self.run_cluster("few.tsv", "-K", 4, base, ranks=7))
        self.assertEqual([found[str(i)] for i in range(5)], [(1, 0), (1, 0), (0, 0), (0, 0), (0, 0)])
        document = json.loads(self.run_cluster("few.json", "-K", 100, "--format", "json", base, ranks=7).read_text())
        self.assertEqual([cluster["items"] for cluster in document["clusters"]], [3, 2, 0, 0, 0])
        self.assertEqual(len(document["clusters"][0]["nearest"]), 3, "fewer examples than wanted")
        found, _ = read_clusters(self.run_cluster("one.tsv", "-K", 1, base))
        self.assertEqual({cluster for cluster, _ in found.values()}, {0})

    def test_labels_and_a_page(self):
        if not (DATA / "cifar10").is_dir():
            self.skipTest("no CIFAR-10 here (MYRIOPS_DATA)")
        names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
        some = folder("cifar")
        with tarfile.open(DATA / "cifar10" / "cifar10-train-000000.tar") as tar:
            for member in tar:
                if member.name.endswith(".jpg") and int(member.name[-8:-4]) < 30:
                    (some / member.name.split("_")[0]).mkdir(exist_ok=True)
                    (some / member.name.split("_")[0] / member.name).write_bytes(tar.extractfile(member).read())
        self.embed(scratch / "cifar-emb", "--label-from-folder", some, ranks=2)
        path = self.run_cluster("cifar.tsv", "-K", 12, scratch / "cifar-emb", ranks=2)
        found, labels = read_clusters(path)
        self.assertEqual(len(found), 300)
        self.assertTrue(all(key.startswith(label + "/") for key, label in labels.items()))
        counts = np.zeros((12, 10))
        for key, (cluster, _) in found.items():
            counts[cluster, names.index(labels[key])] += 1

        def entropy(parts):
            share = parts[parts > 0] / 300
            return -(share * np.log(share)).sum()

        document = json.loads(self.run_cluster("cifar.json", "-K", 12, "--format", "json", scratch / "cifar-emb", ranks=3).read_text())
        self.assertAlmostEqual(document["labels"]["purity"], counts.max(1).sum() / 300, places=6)
        of_both = entropy(counts.sum(0)) + entropy(counts.sum(1))
        self.assertAlmostEqual(document["labels"]["nmi"], 2 * (of_both - entropy(counts.ravel())) / of_both, places=6)
        for c, cluster in enumerate(document["clusters"]):
            self.assertEqual([label["items"] for label in cluster["labels"]], sorted(counts[c][counts[c] > 0].astype(int), reverse=True)[:5])
            self.assertEqual(cluster["labels"][0]["items"], counts[c][names.index(cluster["labels"][0]["label"])])
        page = self.run_cluster("cifar.html", "-K", 12, "--format", "html", scratch / "cifar-emb", ranks=2).read_text()
        self.assertEqual((page.count("<section"), page.count("nearest to the centre")), (12, 12))
        self.assertEqual(page.count("data:image/jpeg;base64,"), sum(min(10, n) + min(10, n) for n in counts.sum(1)))
        self.assertIn("purity", page)
        self.assertNotIn("no picture", page)

    def test_whole_or_not_at_all(self):
        rng = np.random.default_rng(22)
        base = write_bin(scratch / "large.fbin", rng.normal(size=(60000, 96)).astype(np.float32))
        for victims in ("one", "all", "stopped"):
            out = folder(f"killed-{victims}")
            process = start("cluster", "--quiet", "-K", 900, "--threads", 1, "--out", out / "clusters.tsv", base, ranks=None if victims == "stopped" else 3)
            begun = time.monotonic()
            while not list(out.iterdir()) and time.monotonic() - begun < 60:
                time.sleep(0.02)
            self.assertIsNone(process.poll(), "it was still at work")
            if victims == "one":
                os.kill(max(ranks_of(process)), signal.SIGKILL)
                self.assertNotEqual(process.wait(timeout=60), 0)
            if victims == "stopped":
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(timeout=60), STOPPED)
                process.stdout.close()
            else:
                kill_all(process)
            self.assertFalse((out / "clusters.tsv").exists())

    def test_what_is_said_when_it_cannot(self):
        self.check(myriops("cluster", ranks=2), USAGE, "--index")
        self.check(myriops("cluster", "--index", self.index, self.base, ranks=2), USAGE, "one of the two")
        self.check(myriops("cluster", "-K", 3, "--out", scratch / "nowhere" / "x.tsv", self.base, ranks=3), FAILED, "x.tsv")
        self.check(myriops("cluster", "-K", 3, scratch / "none.fbin", ranks=2), FAILED, "none.fbin")
        bad = self.rows[:100].copy()
        bad[50, 3] = np.nan
        self.check(myriops("cluster", "-K", 3, "--out", scratch / "x.tsv", write_bin(scratch / "bad.fbin", bad), ranks=3), FAILED, "50")
        damaged = scratch / "damaged-idx"
        shutil.copytree(self.index, damaged)
        shard = damaged / json.loads((damaged / "index.json").read_text())["shards"][1]["file"]
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
        self.check(myriops("cluster", "--index", damaged, "--out", scratch / "x.tsv", ranks=3), FAILED, shard.name)
        self.assertEqual(list(scratch.glob("x.tsv*")), [])


if __name__ == "__main__":
    main()
