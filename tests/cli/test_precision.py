"""bf16, int8 and auto from the command line: calibrate, embed, classify, bench; what does not fit is refused."""
import pathlib
import shutil

import numpy as np
from harness import DATA, DONE, FAILED, SOURCE, USAGE, Case, folder, main, myriops, pictures, read_embeddings, scratch

CARDS = SOURCE / "conf" / "models"


def own_card(name):
    """A copy of the default card in a folder of its own, not calibrated."""
    path = folder(name)
    for file in ("efficientnet-lite0.conf", "efficientnet-lite0.onnx", "imagenet-1k-labels.txt"):
        shutil.copy(CARDS / file, path)
    return path / "efficientnet-lite0.conf"


def open_network(path):
    """A convolution and a global pool; height and width of the picture are left open."""
    import onnx
    from onnx import helper, numpy_helper

    weights = np.random.default_rng(1).standard_normal((8, 3, 3, 3)).astype(np.float32)
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
              for name, shape in (("image", ["n", 3, "height", "width"]), ("embedding", ["n", 8, 1, 1]))]
    nodes = [helper.make_node("Conv", ["image", "weights"], ["features"]),
             helper.make_node("GlobalAveragePool", ["features"], ["embedding"])]
    graph = helper.make_graph(nodes, "open", values[:1], values[1:], [numpy_helper.from_array(weights, "weights")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def worst_cosine(a, b):
    return (a * b).sum(1).min()


class Precision(Case):
    @classmethod
    def setUpClass(cls):
        cls.pictures = pictures("pictures", 24)
        cls.card = own_card("card")

    def test_1_without_a_calibration(self):
        self.check(myriops("embed", "--quiet", "--model", self.card, "--precision", "int8", "--out", folder("none"), self.pictures),
                   FAILED, "calibration", "myriops calibrate")
        result = myriops("embed", "--quiet", "--model", self.card, "--precision", "auto", "--out", folder("auto"), self.pictures)
        self.check(result, DONE)
        self.assertEqual(myriops("info", "--format", "json", scratch / "auto").json().get("precision", "f32"), "f32")

    def test_2_calibrate_and_embed(self):
        result = myriops("calibrate", "--quiet", "--format", "json", "--pictures", "12", self.card, self.pictures)
        self.check(result, DONE)
        facts = result.json()
        self.assertEqual(facts["pictures"], 12)
        self.assertGreater(facts["layers"], facts["wide"])
        self.assertGreaterEqual(facts["cosine"]["int8"], 0.99)
        told = myriops("info", "--format", "json", "--seconds", "0.3", self.card).json()["precisions"]
        self.assertTrue(told["int8"]["calibrated"])
        self.assertEqual(told["int8"]["cosine"], facts["cosine"]["int8"])
        self.assertEqual(told["int8"]["images_per_s"] is not None, told["int8"]["computed_in"] == "int8")
        out = {}
        for precision in ("f32", "bf16", "int8", "auto"):
            path = folder(f"emb-{precision}")
            more = ["--cosine", "0.98"] if precision == "auto" else []
            self.check(myriops("embed", "--quiet", "--model", self.card, "--precision", precision, *more, "--out", path, self.pictures), DONE)
            out[precision] = read_embeddings(path)[1]
        for precision in ("bf16", "int8"):
            print(f"{precision}: worst cosine {worst_cosine(out['f32'], out[precision]):.5f}")
        # Twelve of them were calibrated on; drawings of a few flat colours are harder than photos.
        # Blocks, which need AMX, round less often than layers do.
        in_blocks = "amx_bf16" in pathlib.Path("/proc/cpuinfo").read_text()
        self.assertGreaterEqual(worst_cosine(out["f32"], out["bf16"]), 0.995 if in_blocks else 0.98)
        self.assertGreaterEqual(worst_cosine(out["f32"], out["int8"]), 0.98)
        # auto is one of them, and goes on in what it chose.
        chosen = myriops("info", "--format", "json", scratch / "emb-auto").json()["precision"]
        self.assertTrue(np.array_equal(out["auto"], out[chosen]))
        next((scratch / "emb-auto").glob("chunk-*.h5")).unlink()
        again = myriops("embed", "--quiet", "--format", "json", "--model", self.card, "--precision", "auto", "--cosine", "0.98",
                        "--out", scratch / "emb-auto", self.pictures)
        self.check(again, DONE)
        self.assertEqual(again.json()["precision"], chosen)
        self.assertTrue(np.array_equal(read_embeddings(scratch / "emb-auto")[1], out[chosen]))
        # Another precision does not go on where one was begun.
        first = myriops("info", "--format", "json", scratch / "emb-int8").json()["precision"]
        if first != "f32":
            self.check(myriops("embed", "--quiet", "--model", self.card, "--out", scratch / "emb-int8", self.pictures),
                       FAILED, "begun in " + first)

    def test_3_a_calibration_of_another_model(self):
        path = self.card.parent / "efficientnet-lite0.calibration.json"
        good = path.read_text()
        for damaged, word in ((good.replace('"model": "', '"model": "0'), "another model"), (good[: len(good) // 2], "no calibration")):
            path.write_text(damaged)
            self.check(myriops("bench", "cnn", "--model", self.card, "--precision", "int8", "--seconds", "0"), FAILED, word)
            self.check(myriops("embed", "--quiet", "--model", self.card, "--precision", "int8", "--out", folder("other"), self.pictures),
                       FAILED, word)
        path.write_text(good)

    def test_ranks_and_backends(self):
        out = {}
        for ranks, precision in ((1, "bf16"), (3, "bf16")):
            path = folder(f"ranks-{ranks}")
            self.embed(path, "--model", self.card, "--precision", precision, "--chunk", "5", self.pictures, ranks=ranks)
            out[ranks] = read_embeddings(path)
        self.assertEqual(out[1][0], out[3][0])
        self.assertTrue(np.array_equal(out[1][1], out[3][1]))
        # The OpenBLAS backend has f32 only, and says so.
        result = myriops("embed", "--format", "json", "--model", self.card, "--precision", "bf16", "--backend", "openblas", "--out",
                         folder("plain"), self.pictures)
        self.check(result, DONE, "no bf16 on this processor and backend; computing in f32")
        self.assertEqual(result.json()["precision"], "f32")

    def test_classify_in_bf16(self):
        photos = DATA / "photos" / "photos-000000.tar"
        if not photos.exists():
            self.skipTest(f"{photos} is not there")
        result = myriops("classify", "--format", "json", "--precision", "bf16", "efficientnet-lite0", photos)
        self.check(result, DONE)
        self.assertGreater(result.json()["top1"], 0.8)

    def test_bench(self):
        result = myriops("bench", "cnn", "--format", "json", "--seconds", "0.1", "--threads", "2", "--batch", "2", "--precision", "bf16")
        self.check(result, DONE)
        facts = result.json()
        self.assertGreater(facts["images_per_s"], 0)
        self.assertEqual((facts["threads"], facts["batch"], facts["precision"]), (2, 2, "bf16"))
        model, answers = CARDS / "efficientnet-lite0.onnx", folder("bench") / "answers.f32"
        values = np.random.default_rng(1).uniform(-1, 1, (3, 3, 224, 224)).astype(np.float32)
        values.tofile(answers.parent / "input.f32")
        self.check(myriops("bench", "cnn", "--model", model, "--seconds", "0", "--threads", "1", "--input", answers.parent / "input.f32",
                           "--tensor", "embedding", "--out", answers), DONE)
        self.assertEqual(np.fromfile(answers, np.float32).shape, (3 * 1280,))

    def test_bench_tells_what_each_step_takes(self):
        more = ("--seconds", "0.1", "--threads", "1", "--batch", "1", "--per-node")
        facts = myriops("bench", "cnn", "--format", "json", *more).json()
        steps, sums = facts["profile"]["steps"], facts["profile"]["operators"]
        self.assertGreater(len(steps), 10)
        self.assertTrue(all(step["ms"] >= 0 and step["operator"] and step["by"] for step in steps))
        for parts in (steps, sums):
            self.assertAlmostEqual(sum(part["share"] for part in parts), 1, places=4)
        self.assertEqual(sum(part["steps"] for part in sums), len(steps))
        self.assertIn("Conv", [part["operator"] for part in sums])
        self.check(myriops("bench", "cnn", *more), DONE, "Conv", "a batch of one thread")
        self.assertNotIn("roofline", facts)
        facts = myriops("bench", "cnn", "--roofline", "--format", "json", *more).json()
        limits = facts["roofline"]
        self.assertAlmostEqual(limits["of_peak"], limits["gflops"] / limits["peak_gflops"], places=6)
        self.assertGreater(limits["bandwidth_gb_s"] * limits["bytes"] * limits["ms_of_flops"], 0)
        self.assertGreater(max(step["gflops"] for step in facts["profile"]["steps"]), 0)
        self.check(myriops("bench", "cnn", "--roofline", *more), DONE, "% of the best", "GFLOP/s", "from memory")

    def test_bench_of_an_open_size(self):
        model = open_network(folder("open") / "open.onnx")
        facts = [myriops("bench", "cnn", "--model", model, "--seconds", "0", "--threads", "1", "--format", "json", *size).json()
                 for size in ((), ("--size", "112"))]
        self.assertEqual(facts[0]["flops_per_image"], 2 * 8 * 27 * 222 * 222)
        self.assertEqual(facts[1]["flops_per_image"], 2 * 8 * 27 * 110 * 110)
        self.check(myriops("bench", "cnn", "--model", model, "--size", "0"), USAGE, "size")
        self.check(myriops("bench", "cnn", "--model", model, "--size", "16384"), FAILED, "too large")

    def test_bench_refuses(self):
        self.check(myriops("bench"), USAGE, "bench cnn")
        self.check(myriops("bench", "tea"), USAGE, "bench cnn")
        self.check(myriops("bench", "cnn", "--precision", "auto"), USAGE, "one precision")
        (folder("short") / "input.f32").write_bytes(b"12345")
        self.check(myriops("bench", "cnn", "--input", scratch / "short" / "input.f32"), FAILED, "no whole number")
        self.check(myriops("bench", "cnn", "--model", "/nowhere.onnx"), FAILED, "nowhere.onnx")
        self.check(myriops("calibrate", "efficientnet-lite0"), USAGE, "pictures")


if __name__ == "__main__":
    main()
