"""Usage, settings, output formats: what a person and a script see."""
import json
import re

from harness import *

import numpy as np

COMMANDS = ("embed", "import", "index", "query", "eval", "knn-graph", "dedup", "cluster", "export", "classify", "plan", "info")


class Usage(Case):
    def test_help_has_examples(self):
        self.check(myriops("--help"), DONE, *COMMANDS)
        self.check(myriops("--version"), DONE, "myriops 0.")
        for name in COMMANDS:
            self.check(myriops(name, "--help"), DONE, "usage:", "examples:", "--threads", "--quiet", f"myriops {name}")
        self.check(myriops("embed", "--help", ranks=3), DONE, "usage:")
        self.assertEqual(myriops("embed", "--help", ranks=3).out.count("usage:"), 1, "one rank speaks")

    def test_wrong_usage(self):
        for arguments in ((), ("dance",), ("embed",), ("embed", "--out", "x"), ("embed", "--ouch", "x"), ("query", "--index", "x"),
                          ("query", "x.jpg"), ("query", "--index", "x", "-k", "0", "y"), ("query", "--index", "x", "-k", "ten", "y"),
                          ("index", "--metric", "taxi", "--out", "x", "y"), ("eval",), ("eval", "--index", "x", "--probe", "abc"), ("classify", "x"), ("info",), ("index", "--out"),
                          ("query", "--index", "x", "--probe", "-1", "y"), ("embed", "--threads", "many", "--out", "x", "y")):
            for ranks in (None, 2):
                result = myriops(*arguments, ranks=ranks)
                self.check(result, USAGE)
                said = [line for line in result.err.splitlines() if line.startswith("myriops")]
                self.assertGreaterEqual(len(said), 1, str(result))

    def test_every_setting_is_in_the_settings_file(self):
        text = (SOURCE / "conf/myriops.conf").read_text()
        for name in COMMANDS:
            dump = myriops(name, "--dump-config", "--out", "x") if name in ("embed", "index") else myriops(name, "--dump-config")
            self.check(dump, DONE)
        flags = set(re.findall(r"--([A-Za-z-]+)", "".join(myriops(name, "--help").out.split("examples:")[0] for name in COMMANDS)))
        per_run = {"help", "conf", "out", "index", "vectors", "dump-config", "ef"}
        for flag in sorted(flags - per_run):
            self.assertRegex(text, rf"(?m)^; {flag} =", f"--{flag} is missing in conf/myriops.conf")

    def test_settings_are_layered(self):
        conf = scratch / "my.conf"
        conf.write_text("ef-search = 77\nk = 7\nthreads = 2\n")
        dump = lambda *flags, **env: myriops("query", "--conf", conf, *flags, "--dump-config", env=env).out
        self.assertRegex(dump(), r"(?m)^ef-search\s*=\s*77\b.*my\.conf")
        self.assertRegex(dump(), r"(?m)^probe\s*=\s*all\b.*default")
        self.assertRegex(dump(MYRIOPS_EF_SEARCH="88"), r"(?m)^ef-search\s*=\s*88\b.*MYRIOPS_EF_SEARCH")
        self.assertRegex(dump("--ef-search", "99", MYRIOPS_EF_SEARCH="88"), r"(?m)^ef-search\s*=\s*99\b.*command line")
        conf.write_text("ef-serch = 77\n")
        self.check(myriops("query", "--conf", conf, "--dump-config", ranks=2), USAGE, "ef-serch", "my.conf")
        conf.write_text("k = many\n")
        self.check(myriops("query", "--conf", conf, "--dump-config"), USAGE, "k = many")
        self.check(myriops("query", "--conf", scratch / "none.conf", "--dump-config"), FAILED, "none.conf")


class Surroundings(Case):
    def test_ranks_that_do_not_know_of_each_other_are_refused(self):
        """Each would do the whole work, into the same folder."""
        result = myriops("info", SOURCE, env={"SLURM_STEP_ID": 0, "SLURM_STEP_NUM_TASKS": 4})
        self.check(result, FAILED, "4 ranks", "--mpi=pmix")
        self.check(myriops("info", SOURCE, env={"PMI_SIZE": 3}), FAILED, "3 ranks", "another MPI")
        base = write_u8bin(scratch / "alone.u8bin", np.zeros((10, 8)))
        for env in ({"SLURM_STEP_ID": 0, "SLURM_STEP_NUM_TASKS": 1}, {"PMI_SIZE": 1}):
            self.check(myriops("index", "--quiet", "--out", scratch / "alone", base, env=env), DONE)
        self.check(myriops("index", "--quiet", "--out", scratch / "alone", base, ranks=2, env={"SLURM_STEP_ID": 0, "SLURM_STEP_NUM_TASKS": 1}), DONE)

    def test_more_threads_than_processors_are_told_of(self):
        base = write_u8bin(scratch / "crowded.u8bin", np.zeros((10, 8)))
        result = myriops("index", "--threads", 300, "--out", scratch / "crowded", base, ranks=2)
        self.check(result, DONE)
        self.assertEqual(result.err.count("2 ranks x 300 threads"), 1, str(result))

    def test_rank_0_has_the_say(self):
        """What only rank 0's environment says is everybody's, threads may differ, and none waits for another."""
        base = write_u8bin(scratch / "say.u8bin", np.random.default_rng(1).integers(0, 256, (300, 8)))
        self.check(myriops("index", "--out", scratch / "say", base), DONE)
        arguments = f"{PROGRAM} query --index {scratch}/say --vectors {base} --format json"
        for k, first, second in ((200, "env MYRIOPS_K=200 {}", "{}"), (7, "env MYRIOPS_K=7 {}", "{} --threads 3"),
                                 (5, "{} -k 5 --threads 1", "{} -k 5")):
            line = f"mpirun -n 1 {first.format(arguments)} : -n 1 {second.format(arguments)}"
            run = subprocess.run(line, shell=True, capture_output=True, text=True, env=environment(), timeout=60)
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertEqual(json.loads(run.stdout)["k"], k)

    def test_names_of_any_bytes(self):
        """Names that are no UTF-8 keep their place: classes, keys, JSON."""
        root = folder("bytes")
        for i, name in enumerate((b"a", b"caf\xe9", b"z")):
            os.mkdir(os.path.join(os.fsencode(root), name))
            for j in range(4):
                with open(os.path.join(os.fsencode(root), name, b"%d.jpg" % j), "wb") as file:
                    file.write(encode(picture(10 * i + j)))
        self.check(myriops("embed", "--label-from-folder", "--out", scratch / "bytes-emb", root, ranks=2), DONE)
        self.check(myriops("index", "--out", scratch / "bytes-idx", scratch / "bytes-emb"), DONE)
        self.assertEqual(json.loads((scratch / "bytes-idx/index.json").read_text())["classes"], ["a", "caf%E9", "z"])
        result = myriops("query", "--index", scratch / "bytes-idx", "-k", 12, "--format", "json", root, ranks=2)
        self.check(result, DONE)
        answers = result.json()["queries"]
        self.assertEqual([len(answer["hits"]) for answer in answers], [12] * 12)
        self.assertEqual(answers[4]["hits"][0]["key"], "caf%E9/0.jpg")
        result = myriops("classify", "--format", "json", "efficientnet-lite0", root)
        self.assertEqual(len(result.json()["pictures"]), 12)
        self.check(myriops("info", scratch / "bytes-emb"), DONE)


class Answers(Case):
    @classmethod
    def setUpClass(cls):
        cls.root = folder("labelled")
        for label in ("red", "blue"):
            (cls.root / label).mkdir()
            for i in range(8):
                image = picture(i)
                image.paste((200, 20, 20) if label == "red" else (20, 20, 200), (0, 0, 130, 120))
                (cls.root / label / f"{i}.png").write_bytes(encode(image, "PNG"))
        cls.embeddings, cls.index = scratch / "answers-emb", scratch / "answers-idx"
        assert myriops("embed", "--label-from-folder", "--out", cls.embeddings, cls.root, ranks=2).code == DONE
        assert myriops("index", "--shards", 2, "--out", cls.index, cls.embeddings, ranks=2).code == DONE

    def ask(self, *more, ranks=2):
        result = myriops("query", "--index", self.index, "-k", 4, *more, self.root / "red/3.png", self.root / "blue/5.png", ranks=ranks)
        self.check(result, DONE)
        return result

    def test_table(self):
        lines = self.ask().out.splitlines()
        self.assertEqual(len(lines), 10)
        self.assertRegex(lines[1], r"^\s+1\s+0\.0000\d\s+red/3\.png$")

    def test_tsv(self):
        rows = [line.split("\t") for line in self.ask("--format", "tsv").out.splitlines()]
        self.assertEqual(len(rows), 8)
        self.assertEqual([row[1] for row in rows[:4]], ["1", "2", "3", "4"])
        self.assertEqual(rows[0][4], "red/3.png")

    def test_json(self):
        answer = self.ask("--format", "json").json()
        first = answer["queries"][1]["hits"][0]
        self.assertEqual((first["key"], first["label"]), ("blue/5.png", 0))
        self.assertLess(abs(first["distance"]), 1e-6)
        self.assertEqual(answer["ranks"], 2)

    def test_html_is_self_contained(self):
        page = scratch / "hits.html"
        self.ask("--format", "html", "--out", page)
        text = page.read_text()
        self.assertEqual(text.count("data:image/jpeg;base64,"), 2 * 5)
        self.assertNotRegex(text, r'(src|href)="(?!data:)')
        self.assertIn("red/3.png", text)

    def test_html_of_pictures_in_a_tar(self):
        tar = write_tar(scratch / "sheet.tar", [(f"{i:02d}.jpg", encode(picture(i))) for i in range(6)])
        self.embed(scratch / "sheet-emb", tar)
        self.check(myriops("index", "--out", scratch / "sheet-idx", scratch / "sheet-emb"), DONE)
        result = myriops("query", "--index", scratch / "sheet-idx", "-k", 3, "--format", "html", tar)
        self.check(result, DONE)
        self.assertEqual(result.out.count("data:image/jpeg;base64,"), 6 * 4)

    def test_eval_knows_the_labels(self):
        result = myriops("eval", "--index", self.index, "--sample", 16, "--format", "json", "-k", 5, ranks=3)
        self.check(result, DONE)
        facts = result.json()
        self.assertEqual([(depth, one["mean"]) for depth, one in facts["recall"].items()], [("1", 1), ("10", 1)])
        self.assertGreaterEqual(facts["distances_per_query"], facts["hops_per_query"])
        self.assertGreaterEqual(facts["hops_per_query"], 2)  # one in each shard at least
        self.assertGreater(result.json()["labels"]["knn_accuracy"], 0.9)

    def test_a_recall_is_wished_for(self):
        place = folder("wish")
        rng = np.random.default_rng(8)
        centres = rng.normal(size=(60, 16))
        rows = (centres[rng.integers(0, 60, 9000)] + rng.normal(size=(9000, 16))).astype("f4")
        base, queries = rows[:8000], rows[8000:]
        np.save(place / "base.npy", base)
        np.save(place / "query.npy", queries)
        ef = {}
        for ranks in (1, 3):
            self.check(myriops("index", "--out", place / f"idx{ranks}", "--shards", 2, place / "base.npy", ranks=ranks), DONE)
        curves = [json.loads((place / f"idx{ranks}/index.json").read_text())["recall_curve"] for ranks in (1, 3)]
        self.assertEqual(*curves)
        self.assertEqual([p["ef"] for p in curves[0]["points"]], sorted(p["ef"] for p in curves[0]["points"]))
        away = np.square(queries[:, None].astype(float) - base[None]).sum(2)
        bounds = np.sort(away, axis=1)[:, 9] * (1 + 1e-6)
        for wish in (0.8, 0.95, 0.99):
            result = myriops("query", "--index", place / "idx1", "--vectors", place / "query.npy", "--recall", wish, "--format",
                             "json", ranks=2)
            self.check(result, DONE)
            ids = np.array([[int(hit["key"].split(":")[-1]) if "key" in hit else hit["id"] for hit in one["hits"]]
                            for one in result.json()["queries"]])
            recall = (np.take_along_axis(away, ids, 1) <= bounds[:, None]).mean()
            self.assertGreaterEqual(recall, wish - 0.02)
            ef[wish] = result.json()["ef"]
        self.assertLess(ef[0.8], ef[0.99])
        facts = myriops("eval", "--index", place / "idx3", "--recall", 0.95, "--sample", 300, "--format", "json").json()
        self.assertGreater(facts["recall"]["10"]["mean"], 0.93)
        manifest = json.loads((place / "idx1/index.json").read_text())
        del manifest["recall_curve"]
        (place / "idx1/index.json").write_text(json.dumps(manifest))
        self.check(myriops("query", "--index", place / "idx1", "--vectors", place / "query.npy", "--recall", 0.9, ranks=2),
                   FAILED, "--ef-search")
        self.check(myriops("query", "--index", place / "idx1", "--vectors", place / "query.npy", "--recall", 1.5), USAGE)

    def test_info(self):
        facts = myriops("info", "--format", "json", self.embeddings, ranks=2).json()
        self.assertEqual((facts["kind"], facts["items"], facts["embedded"], facts["dim"], facts["classes"]), ("embeddings", 16, 16, 1280, 2))
        facts = myriops("info", "--format", "json", self.index).json()
        self.assertEqual((facts["kind"], facts["items"], len(facts["shards"])), ("index", 16, 2))
        facts = myriops("info", "--format", "json", "efficientnet-lite0").json()
        self.assertEqual((facts["kind"], facts["operators"]["Conv"], facts["card"]["resize_to"]), ("model", 49, 256))
        self.assertEqual((facts["network"]["batch"], sorted(facts["precisions"])), (8, ["bf16", "f32", "int8"]))
        self.assertLess(facts["network"]["arena_bytes_of_1"], facts["network"]["arena_bytes"])
        self.assertAlmostEqual(facts["network"]["weights_bytes"] / (4 * facts["parameters"]), 0.8, delta=0.25)  # without the classifier
        for name, one in facts["precisions"].items():
            measured = one["computed_in"] == name and one.get("calibrated") is not False
            self.assertEqual(one["images_per_s"] is not None, measured, name)
            self.assertGreater((one["images_per_s"] or 1) * (one["weights_bytes"] or 1), 0)
        self.assertEqual(facts["precisions"]["f32"]["computed_in"], "f32")
        facts = myriops("info", "--format", "json", "--seconds", 0, "--batch", 2, "--backend", "openblas", "efficientnet-lite0").json()
        self.assertEqual((facts["network"]["backend"], facts["precisions"]["bf16"]["computed_in"]), ("openblas", "f32"))
        self.assertIsNone(facts["precisions"]["f32"]["images_per_s"])
        self.check(myriops("info", "--backend", "abacus", "efficientnet-lite0"), USAGE, "abacus", "openblas")
        self.check(myriops("info", "--seconds", 0, "efficientnet-lite0"), DONE, "computed_in", "calibrated true")
        facts = myriops("info", "--format", "json", "--label-from-folder", self.root).json()
        self.assertEqual((facts["kind"], facts["items"], facts["classes"], facts["labelled"]), ("corpus", 16, 2, 16))
        vectors = write_u8bin(scratch / "info.u8bin", np.zeros((5, 12)))
        facts = myriops("info", "--format", "json", vectors).json()
        self.assertEqual((facts["kind"], facts["vectors"], facts["dim"], facts["element"]), ("vectors", 5, 12, "u8"))
        self.check(myriops("info", self.index), DONE, "digest", "shards")

    def test_classify(self):
        result = myriops("classify", "efficientnet-lite0", self.root / "red/1.png", ranks=2)
        self.check(result, DONE)
        shares = [float(share) for share in re.findall(r"(?m)^\s+([\d.]+) %", result.out)]
        self.assertEqual(len(shares), 5)
        self.assertEqual(shares, sorted(shares, reverse=True))
        best = myriops("classify", "--format", "json", "--top", 1000, "efficientnet-lite0", self.root / "red/1.png").json()
        self.assertAlmostEqual(sum(entry["probability"] for entry in best["pictures"][0]["classes"]), 1, delta=1e-3)

    def test_progress_lines_tell_rate_and_time_left(self):
        some = pictures("progress", 300, size=(400, 300))
        result = myriops("embed", "--out", scratch / "progress-emb", "--threads", 1, some)
        self.check(result, DONE)
        if "embedding" in result.err:  # a fast machine may be done before the first line
            self.assertRegex(result.err, r"embedding\s+[\d,]+ / 300 images\s+[\d.]+ %\s+[\d.,]+/s")
        self.assertEqual(myriops("embed", "--quiet", "--out", scratch / "progress-quiet", some).err, "")

    def test_lists(self):
        listed = scratch / "some.txt"
        listed.write_text("".join(f"{path}\n" for path in sorted(self.root.glob("*/*.png"))[:5]))
        self.embed(scratch / "list-emb", listed, ranks=2)
        self.assertEqual(len(read_embeddings(scratch / "list-emb")[0]), 5)


if __name__ == "__main__":
    main()
