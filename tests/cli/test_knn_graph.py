"""knn-graph: the nearest others of every item, against numpy."""
import re
import time

from harness import *

RANKS = (1, 2, 3, 5)


def read_graph(path):
    with h5py.File(path, "r") as file:
        return {name: file[name][:] for name in file}, dict(file.attrs)


def truth_of(rows, k, metric):
    """(distances, ids) of the k nearest others of every row, by (distance, id), in double."""
    rows = rows.astype(np.float64)
    if metric == "cosine":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        all_pairs = 1 - rows @ rows.T
    else:
        all_pairs = np.sqrt(((rows[:, None, :] - rows[None, :, :]) ** 2).sum(2))
    np.fill_diagonal(all_pairs, np.inf)
    order = np.argsort(all_pairs, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(all_pairs, order, axis=1), order


class KnnGraph(Case):
    @classmethod
    def setUpClass(cls):
        rng = np.random.default_rng(5)
        centres = rng.integers(30, 220, (30, 24))
        cls.rows = np.clip(centres[rng.integers(0, 30, 2400)] + rng.normal(0, 18, (2400, 24)), 0, 255).astype(np.uint8)
        cls.rows[900:920] = cls.rows[7]  # one item and twenty copies of it
        cls.index = scratch / "idx"
        base = write_u8bin(scratch / "base.u8bin", cls.rows)
        assert myriops("index", "--quiet", "--shards", 5, "--out", cls.index, base).code == DONE

    def run_graph(self, out, *more, ranks=None, index=None):
        result = myriops("knn-graph", "--quiet", "--index", index or self.index, "--out", scratch / out, *more, ranks=ranks)
        self.check(result, DONE)
        return result

    def test_exact_is_the_true_graph(self):
        self.run_graph("exact.h5", "--exact", "-k", 12, ranks=2)
        graph, facts = read_graph(scratch / "exact.h5")
        distances, ids = truth_of(self.rows, 12, "l2")
        self.assertTrue(np.array_equal(graph["ids"], np.arange(2400)))
        self.assertTrue(np.array_equal(graph["neighbours"], ids), "whole numbers: ties too are decided alike")
        self.assertTrue(np.allclose(graph["distances"], distances, rtol=1e-6))
        self.assertEqual((graph["ids"].dtype, graph["neighbours"].dtype, graph["distances"].dtype), (np.int64, np.int64, np.float32))
        self.assertEqual((facts["k"], facts["metric"].decode(), facts["contract"].decode()), (12, "l2", ""))
        self.assertEqual(facts["index_digest"].decode(), myriops("info", "--format", "json", self.index).json()["digest"])
        self.assertNotIn("key", graph)

    def test_an_item_is_left_out_and_its_copies_are_not(self):
        self.run_graph("copies.h5", "-k", 6)
        graph, _ = read_graph(scratch / "copies.h5")
        self.assertFalse((graph["neighbours"] == graph["ids"][:, None]).any())
        copies = {7, *range(900, 920)}
        for item in copies:
            self.assertTrue(set(graph["neighbours"][item]) <= copies - {item})
            self.assertTrue((graph["distances"][item] == 0).all())

    def test_walks_find_it(self):
        result = self.run_graph("walks.h5", "-k", 10, "--format", "json", "--sample", 300, ranks=3).json()
        graph, _ = read_graph(scratch / "walks.h5")
        distances, _ = truth_of(self.rows, 10, "l2")
        true_recall = (graph["distances"] <= distances[:, -1:] * (1 + 1e-6)).mean()
        self.assertGreater(true_recall, 0.99)
        self.assertLessEqual(result["recall"]["low"] - 0.005, true_recall)
        self.assertLessEqual(true_recall, result["recall"]["high"] + 0.005)
        self.assertEqual((result["items"], result["short_rows"], result["mean_degree"]), (2400, 0, 10))
        self.assertAlmostEqual(result["mean_nearest"], graph["distances"][:, 0].mean(), places=3)

    def test_same_bytes_for_any_ranks_and_threads(self):
        for name, more in (("walks", ()), ("exact", ("--exact",)), ("routed", ("--probe", "auto", "--recall", 0.9))):
            wanted = None
            for ranks, threads in ((None, 2), *((ranks, 1) for ranks in RANKS)):
                self.run_graph("same.h5", "-k", 5, "--threads", threads, *more, ranks=ranks)
                found = (scratch / "same.h5").read_bytes()
                wanted = wanted or found
                self.assertEqual(found, wanted, f"{name}, {ranks} ranks")

    def test_more_neighbours_than_items_and_more_ranks_too(self):
        small = scratch / "small-idx"
        base = write_bin(scratch / "small.fbin", np.array([[0, 0], [1, 0], [0, 3]], dtype=np.float32))
        self.check(myriops("index", "--quiet", "--shards", 2, "--out", small, base), DONE)
        result = self.run_graph("small.h5", "-k", 4, "--format", "json", ranks=5, index=small).json()
        graph, _ = read_graph(scratch / "small.h5")
        self.assertEqual(graph["neighbours"].tolist(), [[1, 2, -1, -1], [0, 2, -1, -1], [0, 1, -1, -1]])
        self.assertTrue(np.isinf(graph["distances"][:, 2:]).all())
        self.assertEqual((result["short_rows"], result["mean_degree"]), (3, 2))
        alone = scratch / "one-idx"
        self.check(myriops("index", "--quiet", "--out", alone, write_bin(scratch / "one.fbin", np.ones((1, 2), np.float32))), DONE)
        self.run_graph("one.h5", "-k", 1, ranks=2, index=alone)
        self.assertEqual(read_graph(scratch / "one.h5")[0]["neighbours"].tolist(), [[-1]])

    def test_ids_with_gaps(self):
        keys = scratch / "gone.txt"
        gone = [*range(0, 300), 1500, 2399]
        keys.write_text("".join(f"{i}\n" for i in gone))
        index = scratch / "gaps-idx"
        shutil.copytree(self.index, index)
        self.check(myriops("index", "--quiet", "--delete", keys, "--out", index), DONE)
        self.run_graph("gaps.h5", "--exact", "-k", 3, ranks=3, index=index)
        graph, _ = read_graph(scratch / "gaps.h5")
        left = np.setdiff1d(np.arange(2400), gone)
        _, places = truth_of(self.rows[left], 3, "l2")
        self.assertTrue(np.array_equal(graph["ids"], left))
        self.assertTrue(np.array_equal(graph["neighbours"], left[places]))

    def test_pictures_have_keys(self):
        some = pictures("some", 40)
        self.embed(scratch / "some-emb", some)
        self.check(myriops("index", "--quiet", "--shards", 3, "--out", scratch / "some-idx", scratch / "some-emb"), DONE)
        self.run_graph("some.h5", "-k", 5, ranks=2, index=scratch / "some-idx")
        graph, facts = read_graph(scratch / "some.h5")
        keys, vectors = read_embeddings(scratch / "some-emb")
        self.assertEqual([key.decode() for key in graph["key"]], keys)
        self.assertEqual((facts["metric"].decode(), facts["model"].decode()), ("cosine", "efficientnet-lite0"))
        distances, _ = truth_of(vectors, 5, "cosine")
        self.assertTrue(np.allclose(graph["distances"], distances, atol=2e-6))
        info = myriops("info", "--format", "json", scratch / "some.h5").json()
        self.assertEqual((info["kind"], info["items"], info["neighbours"]), ("graph of neighbours", 40, 5))
        self.check(myriops("query", "--quiet", "--index", scratch / "some-idx", "-k", 3, "--out", scratch / "hits.hdf5", some / "00001.jpg"), DONE)
        info = myriops("info", "--format", "json", scratch / "hits.hdf5").json()
        self.assertEqual((info["kind"], info["queries"], info["neighbours"]), ("answers", 1, 3))

    def wait_for_work(self, out, process):
        begun = time.monotonic()
        while not list(out.glob("*.partial")) and time.monotonic() - begun < 60:
            time.sleep(0.02)
        self.assertTrue(list(out.glob("*.partial")) and process.poll() is None, "it was still at work")

    def test_whole_or_not_at_all(self):
        rng = np.random.default_rng(6)
        base = write_bin(scratch / "large.fbin", rng.normal(size=(30000, 96)).astype(np.float32))
        self.check(myriops("index", "--quiet", "--shards", 3, "--ef-construction", 40, "--out", scratch / "large-idx", base), DONE)
        arguments = ("knn-graph", "--quiet", "--index", scratch / "large-idx", "--exact", "--threads", 1)
        for victims in ("one", "all", "term"):
            out = folder(f"killed-{victims}")
            (out / "graph.h5").write_text("of an earlier run")
            process = start(*arguments, "--out", out / "graph.h5", ranks=None if victims == "term" else 3)
            self.wait_for_work(out, process)
            if victims == "one":
                os.kill(max(ranks_of(process)), signal.SIGKILL)
                self.assertNotEqual(process.wait(timeout=60), 0)
            if victims == "term":
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(timeout=60), STOPPED)
                self.assertEqual([file.name for file in out.iterdir()], ["graph.h5"], "nothing temporary is left")
                process.stdout.close()
            else:
                kill_all(process)
            self.assertEqual((out / "graph.h5").read_text(), "of an earlier run")
            self.check(myriops("knn-graph", "--quiet", "--index", self.index, "-k", 2, "--out", out / "graph.h5"), DONE)
            self.assertEqual([file.name for file in out.iterdir()], ["graph.h5"], "nor by the next run, of killed ones")
            self.assertNotEqual((out / "graph.h5").read_bytes(), b"of an earlier run")

    def test_a_page_to_look_at(self):
        """Pictures beside their nearest others, the same page for any ranks."""
        place = folder("page")
        for i in range(30):
            (place / f"{i:02}.png").write_bytes(encode(picture(i // 2, 60 + i % 2, 50), "PNG"))
        self.check(myriops("embed", "--quiet", "--out", scratch / "page-emb", place), DONE)
        self.check(myriops("index", "--quiet", "--shards", 2, "--out", scratch / "page-idx", scratch / "page-emb"), DONE)
        pages = []
        for ranks in (None, 2, 5):
            out = scratch / f"page-{ranks}.html"
            self.check(myriops("knn-graph", "--index", scratch / "page-idx", "-k", 3, "--format", "html", "--out", out, ranks=ranks), DONE, "items and their neighbours")
            pages.append(out.read_text())
        self.assertEqual(pages[0], pages[1])
        self.assertEqual(pages[0], pages[2])
        n = int(re.search(r"(\d+) of 30 items, each beside its 3 nearest others", pages[0]).group(1))
        self.assertGreater(n, 12)
        self.assertEqual(pages[0].count("data:image/jpeg"), n * 4)
        self.assertNotIn('<main class="bare">', pages[0])
        self.check(myriops("knn-graph", "--index", scratch / "page-idx", "--format", "html", "--out", scratch / "no" / "page.html", ranks=2), FAILED, "page.html")

    def test_a_page_of_bare_vectors(self):
        """No boxes where pictures would be, and a word why; labels as frames."""
        np.save(scratch / "bare.npy", np.random.default_rng(5).normal(size=(40, 6)).astype("f4"))
        (scratch / "bare.txt").write_text("".join(f"{name}\n" for name in "ab" * 20))
        self.check(myriops("import", "--quiet", "--label-file", scratch / "bare.txt", "--out", scratch / "bare-emb", scratch / "bare.npy"), DONE)
        self.check(myriops("index", "--quiet", "--out", scratch / "bare-idx", scratch / "bare-emb"), DONE)
        out = scratch / "bare.html"
        self.check(myriops("knn-graph", "--index", scratch / "bare-idx", "-k", 3, "--sample", 40, "--format", "html", "--out", out, ranks=2), DONE, "40 items and their neighbours")
        page = out.read_text()
        self.assertEqual((page.count("<section"), page.count("<img"), page.count('<main class="bare">')), (40, 0, 1))
        self.assertIn(".bare .none{display:none}", page)
        self.assertIn("no pictures to show: imported vectors have none", page)
        self.assertIn("Item 40", page)
        self.assertTrue(10 < page.count('<li class="match">') < 110, "neighbours with the item's label are marked")

    def test_what_is_said_when_it_cannot(self):
        self.check(myriops("knn-graph", "--out", scratch / "x.h5", ranks=2), USAGE, "--index")
        self.check(myriops("knn-graph", "--index", self.index, ranks=2), USAGE, "--out")
        self.check(myriops("knn-graph", "--index", self.index, "--format", "tsv", "--out", scratch / "x.tsv", ranks=2), USAGE, "HDF5")
        self.check(myriops("knn-graph", "--index", self.index, "--out", scratch / "x.html"), USAGE, "--format html")
        self.check(myriops("knn-graph", "--index", self.index, "--format", "html", "--out", scratch / "x.h5"), USAGE, ".html")
        self.assertEqual(list(scratch.glob("x.*")), [])
        self.check(myriops("knn-graph", "--index", self.index, "--out", scratch / "nowhere" / "x.h5", ranks=3), FAILED, "x.h5")
        self.check(myriops("knn-graph", "--index", scratch / "none", "--out", scratch / "x.h5", ranks=2), FAILED, "none")
        damaged = scratch / "damaged-idx"
        shutil.copytree(self.index, damaged)
        shard = damaged / json.loads((damaged / "index.json").read_text())["shards"][1]["file"]
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
        self.check(myriops("knn-graph", "--index", damaged, "--out", scratch / "x.h5", ranks=3), FAILED, shard.name)
        self.assertFalse((scratch / "x.h5").exists())


if __name__ == "__main__":
    main()
