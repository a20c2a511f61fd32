"""One long run of embed that is killed, stopped, starved of disk and shut out of it, again and again, each time resumed on
another number of ranks. In the end its files are those of an undisturbed run: nothing lost, nothing twice, nothing left over.

MYRIOPS_TORTURE  how many times it is interrupted (12)
"""
import random
import time

from harness import *

N_HARMS = int(os.environ.get("MYRIOPS_TORTURE", "12"))
CHUNK = 8
CHUNKS_PER_HARM = 16  # more than are made before most of the harms, so that something is left to interrupt
DISK_BYTES = 32 << 20


def mount(*line):
    return subprocess.run(["mount", *map(str, line)], capture_output=True, text=True)


class Torture(Case):
    @classmethod
    def setUpClass(cls):
        cls.random = random.Random(int(os.environ.get("MYRIOPS_SEED", "1")))
        cls.n_chunks = N_HARMS * CHUNKS_PER_HARM
        some, cls.pictures = pictures("torture-some", 40), folder("torture")
        for i in range(cls.n_chunks * CHUNK - 3):
            (cls.pictures / f"{i:06d}.jpg").hardlink_to(some / f"{i % 40:05d}.jpg")
        for i in range(0, cls.n_chunks * CHUNK - 3, 97):  # some that cannot be used
            (cls.pictures / f"{i:06d}.jpg").unlink()
            (cls.pictures / f"{i:06d}.jpg").write_bytes(b"\xff\xd8\xff" + bytes(i % 50))
        cls.arguments = ("--chunk", CHUNK, "--threads", 1, "--backend", "openblas", "--dtype", "f16")
        cls.undisturbed = scratch / "undisturbed"
        assert myriops("embed", "--quiet", "--out", cls.undisturbed, *cls.arguments, cls.pictures, ranks=2, timeout=240 + 20 * N_HARMS).code == DONE
        cls.disk = folder("disk")
        cls.has_disk = os.geteuid() == 0 and mount("-t", "tmpfs", "-o", f"size={DISK_BYTES + cls.n_chunks * CHUNK * 1280 * 4}", "none", cls.disk).returncode == 0
        cls.out = cls.disk / "out"

    @classmethod
    def tearDownClass(cls):
        if cls.has_disk:
            subprocess.run(["umount", "-l", str(cls.disk)], check=False)

    def chunks(self):
        return {path.name: path.stat().st_mtime_ns for path in self.out.glob("chunk-*.h5")} if self.out.exists() else {}

    def wait_for_more(self, process):
        """Until a few more chunks are there, and then a moment at random."""
        n, begun = len(self.chunks()), time.monotonic()
        wanted = self.random.randrange(0, CHUNKS_PER_HARM // 2)
        while process.poll() is None and len(self.chunks()) < n + wanted and time.monotonic() - begun < 60:
            time.sleep(0.005)
        time.sleep(self.random.uniform(0, 0.1))

    # Each does its harm to a running job, and makes good what the next one needs.

    def a_rank_is_killed(self, process):
        ranks = ranks_of(process)
        if ranks:
            os.kill(self.random.choice(ranks), signal.SIGKILL)
        process.wait(timeout=60)

    def all_are_killed(self, process):
        kill_all(process)

    def mpirun_is_killed(self, process):
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=60)

    def terminated(self, process):
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)

    def stopped(self, process):
        for pid in ranks_of(process):
            os.kill(pid, signal.SIGUSR1)
        process.wait(timeout=60)

    def the_disk_is_full(self, process):
        filler = self.disk / "filler"
        with open(filler, "wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 16)) == 1 << 16:
                    pass
            except OSError:
                pass
        process.wait(timeout=60)
        filler.unlink()
        return "No space left"

    def the_disk_is_read_only(self, process):
        while process.poll() is None and mount("-o", "remount,ro", self.disk).returncode != 0:
            time.sleep(0.001)  # busy while a file is open for writing
        process.wait(timeout=60)
        mount("-o", "remount,rw", self.disk)
        return "Read-only file system"

    def test_interrupted_and_resumed(self):
        harms = [self.a_rank_is_killed, self.all_are_killed, self.mpirun_is_killed, self.terminated, self.stopped]
        if self.has_disk:
            harms += [self.the_disk_is_full, self.the_disk_is_read_only]
        done = {}
        for turn in range(N_HARMS):
            harm, ranks = harms[turn % len(harms)], self.random.choice((1, 2, 3, 5))
            before = self.chunks()
            process = start("embed", "--quiet", "--out", self.out, *self.arguments, self.pictures, ranks=ranks)
            self.wait_for_more(process)
            words = harm(process)
            said = b"" if process.stdout.closed else process.stdout.read()
            kill_all(process)
            after = self.chunks()
            self.assertEqual(before, {name: after.get(name) for name in before}, f"{harm.__name__}: what was finished stays")
            if process.returncode == DONE:
                continue  # it was faster
            done[harm.__name__] = done.get(harm.__name__, 0) + 1
            if words:
                self.assertIn(words, said.decode())
        print(f"{sum(done.values())} interruptions: {done}")
        self.assertGreaterEqual(sum(done.values()), N_HARMS * 3 // 4, done)
        self.check(myriops("embed", "--quiet", "--out", self.out, *self.arguments, self.pictures, ranks=2, timeout=240 + 20 * N_HARMS), DONE)
        self.assertEqual(contents(self.out), contents(self.undisturbed))
        self.assertEqual([path.name for path in self.disk.iterdir()], ["out"])
        keys, bad = read_embeddings(self.out)[0], read_bad(self.out)
        self.assertEqual(sorted([*keys, *bad]), sorted(path.name for path in self.pictures.iterdir()))
        self.assertTrue(bad)


if __name__ == "__main__":
    main()
