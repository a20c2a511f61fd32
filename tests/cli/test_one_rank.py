"""What is wrong with one rank alone, or with one file: all ranks end, soon, with one error, and nothing else is changed."""
from harness import *

LIMIT_S = 60
SHORT = BUILD / "tests/short_of_memory.so"


def ours(said):
    """Lines that Myriops wrote, among those of mpirun."""
    return [line for line in said.splitlines() if line.startswith("myriops")]


class OneRank(Case):
    def check_single(self, result, code, *words):
        self.check(result, code, *words)
        self.assertEqual(len(ours(result.err)), 1, str(result))


class StartedUnlike(OneRank):
    """Ranks with different arguments, or surroundings: refused before any work, and the difference named."""

    @classmethod
    def setUpClass(cls):
        cls.base = write_u8bin(scratch / "unlike.u8bin", np.random.default_rng(1).integers(0, 256, (300, 8)))

    def unlike(self, *parts, env=None):
        """parts: arguments of rank 0, of rank 1, ..., each with its environment in front."""
        line = ["mpirun"]
        for i, part in enumerate(parts):
            line += ([":"] if i else []) + ["-n", "1", *map(str, part)]
        run = subprocess.run(line, capture_output=True, text=True, timeout=LIMIT_S, cwd=scratch, stdin=subprocess.DEVNULL,
                             env=environment(**(env or {})))
        return Result(run.returncode, run.stdout, run.stderr)

    def index(self, *more, base=None):
        return [PROGRAM, "index", "--quiet", "--out", scratch / "unlike-idx", *more, base or self.base]

    def refused(self, result, *words):
        self.check_single(result, USAGE, "not started alike", "rank 0", *words)
        self.assertFalse((scratch / "unlike-idx").exists())

    def test_options(self):
        self.refused(self.unlike(self.index("--shards", 2), self.index("--shards", 3)), "shards", "'2'", "'3'", "rank 1")
        self.refused(self.unlike(self.index(), self.index(), self.index("--M", 8)), "M is '16'", "'8' on rank 2")

    def test_operands(self):
        self.refused(self.unlike(self.index(), self.index(base="/nowhere")), str(self.base), "/nowhere")
        self.refused(self.unlike(self.index(), self.index("/more")), "1 operand,", "rank 1 2")

    def test_commands(self):
        self.refused(self.unlike(self.index(), [PROGRAM, "query", "--index", "x", "y.jpg"]), "'index'", "'query'")
        self.refused(self.unlike(self.index(), [PROGRAM]), "'index'", "'none'")

    def test_settings_files(self):
        for name, text in (("one.conf", "ef-construction = 50\n"), ("two.conf", "ef-construction = 60\n")):
            (scratch / name).write_text(text)
        parts = [["env", f"MYRIOPS_CONF={scratch / name}", *self.index()] for name in ("one.conf", "two.conf")]
        self.refused(self.unlike(self.index("--conf", scratch / "one.conf"), self.index("--conf", scratch / "two.conf")), "one.conf")
        self.refused(self.unlike(*parts), "one.conf", "two.conf")

    def test_environments(self):
        self.refused(self.unlike(["env", "MYRIOPS_M=8", *self.index()], ["env", "MYRIOPS_M=12", *self.index()]), "MYRIOPS_M", "'8'", "'12'")
        self.refused(self.unlike(self.index(), ["env", "MYRIOPS_M=12", *self.index()]), "MYRIOPS_M", "'16'", "'12'")

    def test_what_was_not_passed_on_is_rank_0s_word(self):
        result = self.unlike(["env", "MYRIOPS_M=8", "MYRIOPS_THREADS=2", *self.index("--format", "json")], self.index("--format", "json"))
        self.check(result, DONE)
        alone = myriops(*self.index("--M", 8, "--shards", 2, "--format", "json")[1:])
        self.check(alone, DONE)
        self.assertEqual(result.json()["digest"], alone.json()["digest"])
        shutil.rmtree(scratch / "unlike-idx")


@unittest.skipIf(SANITIZED, "sanitizers take malloc for themselves")
class OutOfMemory(OneRank):
    """A rank's own allocations fail from the n-th on: at the start, in the middle, at the end of its work."""

    def run_short(self, rank, first, *args, ranks=3):
        count = scratch / "count"
        result = myriops(*args, ranks=ranks, timeout=LIMIT_S,
                         env={"LD_PRELOAD": SHORT, "SHORT_RANK": rank, "SHORT_FROM": first, "SHORT_COUNT": count})
        return result, int(count.read_text())

    def everywhere(self, rank, args, before, after, n_places=6):
        before()
        result, n = self.run_short(rank, 0, *args)
        self.check(result, DONE)
        self.assertGreater(n, 5)
        n_failed = 0
        for first in sorted({1 + round(i * (n - 1) / (n_places - 1)) for i in range(n_places)}):
            before()
            result, _ = self.run_short(rank, first, *args)
            with self.subTest(rank=rank, first=first, of=n):
                self.assertIn(result.code, (DONE, FAILED), str(result))
                if result.code == FAILED:
                    self.check_single(result, FAILED, "memory")
                    after()
            n_failed += result.code == FAILED
        print(f"{args[0]}, rank {rank}: {n} allocations, {n_failed} of {n_places} runs failed as they should")
        self.assertGreaterEqual(n_failed, n_places - 2)

    def test_index(self):
        rows = np.random.default_rng(2).integers(0, 256, (3000, 32))
        old, new = write_u8bin(scratch / "old.u8bin", rows[:500]), write_u8bin(scratch / "new.u8bin", rows)
        out = scratch / "short-idx"
        self.check(myriops("index", "--quiet", "--shards", 3, "--out", out, old), DONE)
        kept = contents(out)

        def before():
            shutil.rmtree(out)
            out.mkdir()
            for name, data in kept.items():
                (out / name).write_bytes(data)

        def after():  # the old index is in force; whole shards of the new one may lie beside it
            now = contents(out)
            self.assertEqual({name: now.get(name) for name in kept}, kept)
            self.assertEqual([name for name in now if name.endswith(".partial")], [])

        for rank in (0, 1):
            self.everywhere(rank, ("index", "--quiet", "--threads", 1, "--shards", 3, "--out", out, new), before, after)

    def test_query(self):
        rows = np.random.default_rng(3).integers(0, 256, (3000, 32))
        base, out, hits = write_u8bin(scratch / "asked.u8bin", rows), scratch / "short-query-idx", scratch / "short-hits.hdf5"
        self.check(myriops("index", "--quiet", "--shards", 3, "--out", out, base), DONE)
        for rank in (0, 1):
            self.everywhere(rank, ("query", "--quiet", "--threads", 1, "--index", out, "--vectors", base, "--out", hits),
                            lambda: hits.unlink(missing_ok=True), lambda: self.assertFalse(hits.exists()))

    def test_embed(self):
        some, out = pictures("short", 24), scratch / "short-emb"

        def after():
            self.assertEqual(list(out.glob("*.partial")), [])

        for rank in (0, 1):
            self.everywhere(rank, ("embed", "--quiet", "--threads", 1, "--chunk", 4, "--out", out, some),
                            lambda: shutil.rmtree(out, ignore_errors=True), after, n_places=5)


class TooLittle(OneRank):
    def test_query_is_refused_before_the_memory_is_taken(self):
        """By a limit: a rank's share of what its host maps, and what walks take."""
        base = write_u8bin(scratch / "little.u8bin", np.random.default_rng(5).integers(0, 256, (3000, 32)))
        out = scratch / "little-idx"
        self.check(myriops("index", "--quiet", "--shards", 2, "--out", out, base), DONE)
        n_bytes = sum(path.stat().st_size for path in out.glob("shard-*.h5"))
        for ranks, share in ((None, 1), (2, 1 / 2), (3, 1 / 3)):
            ask = ("query", "--quiet", "--threads", 1, "--index", out, "--vectors", base, "--out", scratch / "little.hdf5")
            self.check_single(myriops(*ask, "--memory", 0.9e-9 * share * n_bytes, ranks=ranks), FAILED, "to search their shards", "GB", "more ranks")
            self.assertFalse((scratch / "little.hdf5").exists())
            self.check(myriops(*ask, "--memory", 1.5e-9 * share * n_bytes, ranks=ranks), DONE)
            (scratch / "little.hdf5").unlink()


class Files(OneRank):
    """A shard or a router that is another's."""

    @classmethod
    def setUpClass(cls):
        rng = np.random.default_rng(4)
        cls.asked = write_u8bin(scratch / "files-asked.u8bin", rng.integers(0, 256, (5, 16)))
        for name, n in (("one", 400), ("other", 500)):
            base = write_u8bin(scratch / f"files-{name}.u8bin", rng.integers(0, 256, (n, 16)))
            assert myriops("index", "--quiet", "--shards", 3, "--out", scratch / f"files-{name}", base).code == DONE

    def test_missing_cut_foreign_swapped(self):
        one, other = scratch / "files-one", scratch / "files-other"

        def swap(files):
            first, second = files[0].read_bytes(), files[1].read_bytes()
            files[0].write_bytes(second)
            files[1].write_bytes(first)

        harm = {"missing": lambda files, foreign: files[1].unlink(),
                "cut": lambda files, foreign: files[1].write_bytes(files[1].read_bytes()[:-1000]),
                "empty": lambda files, foreign: files[1].write_bytes(b""),
                "foreign": lambda files, foreign: files[1].write_bytes(foreign[1].read_bytes()),
                "a folder": lambda files, foreign: (files[1].unlink(), files[1].mkdir()),
                "swapped": lambda files, foreign: swap(files)}
        for pattern in ("shard-*.h5", "router-*.h5"):
            for name, do in harm.items():
                path = scratch / "harmed"
                shutil.rmtree(path, ignore_errors=True)
                shutil.copytree(one, path)
                files, foreign = sorted(path.glob(pattern)), sorted(other.glob(pattern))
                if len(files) == 1:  # the router
                    if name == "swapped":
                        continue
                    files, foreign = [None, *files], [None, *foreign]
                do(files, foreign)
                for ranks in (1, 3, 5) if name == "missing" else (3,):
                    with self.subTest(harm=name, file=files[1].name, ranks=ranks):
                        self.check_single(myriops("query", "--quiet", "--index", path, "--vectors", self.asked, ranks=ranks, timeout=LIMIT_S),
                                          FAILED, files[1].name if name != "swapped" else "shard-0000")


class MoreRanksThanItems(OneRank):
    def test_two_items(self):
        some, asked = pictures("two", 2), []
        for ranks in (None, 1, 5):
            emb, idx = scratch / f"two-emb-{ranks}", scratch / f"two-idx-{ranks}"
            self.embed(emb, some, ranks=ranks)
            self.check(myriops("index", "--quiet", "--shards", 2, "--out", idx, emb, ranks=ranks), DONE)
            result = myriops("query", "--quiet", "--index", idx, "-k", 5, "--format", "tsv", some, ranks=ranks)
            self.check(result, DONE)
            asked.append((contents(emb), contents(idx), result.out))
        self.assertEqual(len(asked[0][2].splitlines()), 4, "two hits each: there are no more")
        self.assertTrue(asked[0] == asked[1] == asked[2])


if __name__ == "__main__":
    main()
