"""Runs that are killed or stopped at any moment, and go on to the same bytes."""
import random
import time

from harness import *


class Resume(Case):
    @classmethod
    def setUpClass(cls):
        cls.pictures = pictures("resume", 240, size=(200, 150))
        cls.arguments = ("--chunk", 16, "--threads", 1, "--backend", "openblas")  # the slower one: there is more to interrupt
        cls.undisturbed = scratch / "undisturbed"
        begun = time.monotonic()
        assert myriops("embed", "--quiet", "--out", cls.undisturbed, *cls.arguments, cls.pictures, ranks=2).code == DONE
        cls.seconds = time.monotonic() - begun
        cls.random = random.Random(1)

    def begin(self, out, ranks=3):
        return start("embed", "--out", out, *self.arguments, self.pictures, ranks=ranks)

    def wait_for_chunks(self, out, process, n, limit_s=120):
        begun = time.monotonic()
        while time.monotonic() - begun < limit_s and process.poll() is None:
            if len(list(pathlib.Path(out).glob("chunk-*.h5"))) >= n:
                return
            time.sleep(0.01)

    def finish(self, out, ranks):
        self.check(myriops("embed", "--quiet", "--out", out, *self.arguments, self.pictures, ranks=ranks), DONE)
        self.assertEqual(contents(out), contents(self.undisturbed))

    def test_a_rank_is_killed(self):
        for victim in (0, 1, 2):
            out = folder(f"rank-{victim}")
            process = self.begin(out)
            self.wait_for_chunks(out, process, 2 + 3 * victim)
            ranks = sorted(ranks_of(process))
            self.assertTrue(ranks, "the ranks were found")
            os.kill(ranks[min(victim, len(ranks) - 1)], signal.SIGKILL)
            self.assertNotEqual(process.wait(timeout=60), 0)
            kill_all(process)
            self.finish(out, ranks=(2, 1, 5)[victim])

    def test_everything_is_killed_at_random_moments(self):
        out = folder("mpirun")
        for _ in range(3):
            process = self.begin(out, ranks=2)
            time.sleep(self.random.uniform(0.3, 0.7) * self.seconds)
            kill_all(process)
        self.finish(out, ranks=3)

    def test_sigterm_keeps_finished_chunks(self):
        for ranks in (None, 2):
            out = folder(f"sigterm-{ranks}")
            process = self.begin(out, ranks)
            self.wait_for_chunks(out, process, 3)
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
            self.assertLess(time.monotonic() - begun, 10)
            said = process.stdout.read().decode()
            process.stdout.close()
            n_kept = len(list(out.glob("chunk-*.h5")))
            if n_kept == 15:  # a fast machine was done before mpirun passed the signal on, which takes it two seconds
                continue
            if ranks is None:  # mpirun has a status of its own
                self.assertEqual(process.returncode, STOPPED, said)
            self.assertIn("stopped by a signal", said)
            self.assertGreaterEqual(n_kept, 3)
            kept = contents(out)
            self.finish(out, ranks)
            for name, data in kept.items():
                if name.startswith("chunk-"):
                    self.assertEqual(data, (out / name).read_bytes())

    def test_a_signal_to_the_ranks_is_agreed_on(self):
        """As Slurm does it: the ranks get the signal, not the launcher."""
        out = folder("sigusr1")
        process = self.begin(out, 2)
        self.wait_for_chunks(out, process, 2)
        for pid in ranks_of(process):
            os.kill(pid, signal.SIGUSR1)
        process.wait(timeout=20)
        said = process.stdout.read().decode()
        process.stdout.close()
        self.assertEqual(process.returncode, STOPPED, said)
        self.assertEqual(said.count("stopped by a signal"), 1, said)
        self.finish(out, 2)

    def test_the_job_scripts_pass_a_signal_on(self):
        """myr_mpirun of jobs/env.sh: SIGTERM to the script ends in status 75, as without mpirun."""
        out = folder("script")
        line = " ".join(map(str, ("myr_mpirun", 2, *command(("embed", "--out", out, *self.arguments, self.pictures)))))
        process = subprocess.Popen(["bash", "-c", f". {SOURCE}/jobs/env.sh; {line}; exit $?"], stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=scratch, start_new_session=True)
        self.wait_for_chunks(out, process, 2)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[0].decode()
        self.assertLess(time.monotonic() - begun, 10)
        self.assertEqual(process.returncode, STOPPED, said)
        self.finish(out, 2)

    def test_every_command_ends_in_time(self):
        rows = np.random.default_rng(4).integers(0, 256, (150000, 64))
        large = write_u8bin(scratch / "long.u8bin", rows)
        for arguments in (("index", "--shards", 1, "--threads", 1, "--ef-construction", 800, "--out", scratch / "long", large),
                          ("classify", "--backend", "reference", "--threads", 1, "efficientnet-lite0", self.pictures)):
            process = start(*arguments)
            time.sleep(2)
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
            said = process.stdout.read().decode()
            process.stdout.close()
            self.assertLess(time.monotonic() - begun, 10)
            self.assertEqual(process.returncode, STOPPED, said)
            self.assertIn("stopped by a signal", said)

    def test_leftovers_and_damaged_chunks_are_made_again(self):
        out = scratch / "damaged"
        self.check(myriops("embed", "--quiet", "--out", out, *self.arguments, self.pictures), DONE)
        (out / "chunk-000003.h5").write_bytes(b"half a file")
        (out / "chunk-000005.h5").unlink()
        (out / "chunk-000006.h5.partial").write_bytes(b"left over")
        result = myriops("embed", "--out", out, *self.arguments, self.pictures, ranks=2)
        self.check(result, DONE, "chunk-000003.h5", "made again", "32 in this run")
        self.assertEqual(contents(out), contents(self.undisturbed))

    def test_a_finished_run_does_nothing(self):
        before = {path.name: path.stat().st_mtime_ns for path in self.undisturbed.iterdir() if path.name.startswith("chunk-")}
        result = myriops("embed", "--out", self.undisturbed, *self.arguments, self.pictures, ranks=2)
        self.check(result, DONE, "0 in this run")
        self.assertEqual(before, {path.name: path.stat().st_mtime_ns for path in self.undisturbed.iterdir() if path.name.startswith("chunk-")})

    def test_another_corpus_is_refused(self):
        fewer = pictures("fewer", 10)
        self.check(myriops("embed", "--out", self.undisturbed, *self.arguments, fewer, ranks=2), FAILED, "another corpus")

    def test_an_unfinished_folder_is_not_indexed(self):
        out = folder("unfinished")
        process = self.begin(out, 2)
        self.wait_for_chunks(out, process, 2)
        kill_all(process)
        self.check(myriops("index", "--out", scratch / "no-index", out, ranks=2), FAILED, "not finished")
        self.check(myriops("info", out), DONE, "complete", "false")

    def test_finished_shards_are_not_built_again(self):
        rows = np.random.default_rng(7).integers(0, 256, (16000, 64))
        base = write_u8bin(scratch / "resumed.u8bin", rows)
        plain, index = scratch / "plain-index", scratch / "resumed-index"
        arguments = ("index", "--quiet", "--shards", 8, "--threads", 1, "--ef-construction", 400, "--format", "json", "--out")
        wanted = myriops(*arguments, plain, base).json()
        self.assertEqual(wanted["kept_shards"], 0)
        process = start(*arguments, index, base, ranks=2)
        while len(list(index.glob("shard-*.h5"))) < 3:
            self.assertIsNone(process.poll())
            time.sleep(0.02)
        kill_all(process)
        left = {path: path.stat().st_mtime_ns for path in index.glob("shard-*.h5")}
        damaged = sorted(left)[0]
        data = bytearray(damaged.read_bytes())
        data[len(data) // 2] ^= 1
        damaged.write_bytes(data)
        again = myriops(*arguments, index, base, ranks=3).json()
        self.assertEqual((again["kept_shards"], again["digest"]), (len(left) - 1, wanted["digest"]))
        self.assertEqual({path for path in left if path.stat().st_mtime_ns == left[path]}, set(left) - {damaged})
        self.assertEqual(contents(index), contents(plain))

    def test_an_index_that_is_killed_leaves_the_old_one(self):
        rng = np.random.default_rng(2)
        small = write_u8bin(scratch / "small.u8bin", rng.integers(0, 256, (500, 64)))
        large = write_u8bin(scratch / "large.u8bin", rng.integers(0, 256, (60000, 64)))
        index = scratch / "kept-index"
        self.check(myriops("index", "--shards", 2, "--out", index, small), DONE)
        process = start("index", "--shards", 2, "--out", index, large, ranks=2)
        time.sleep(1.0)
        kill_all(process)
        self.check(myriops("query", "--index", index, "--vectors", small, "-k", 1), DONE)
        self.assertEqual(myriops("info", "--format", "json", index).json()["items"], 500)
        self.check(myriops("index", "--shards", 2, "--out", index, small), DONE)
        self.assertEqual(len(list(index.iterdir())), 4, "leftovers are swept")


if __name__ == "__main__":
    main()
