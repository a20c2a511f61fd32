"""Ranks that become slow, stop for a while or for good, while the others embed: nobody waits for them."""
import threading
import time

from harness import *

import small_network

N_TARS, N_MEMBERS = 4, 3000


class Straggler(Case):
    @classmethod
    def setUpClass(cls):
        cls.card = small_network.write(folder("network"))
        some = [encode(picture(i, 32, 32)) for i in range(60)]
        cls.tars = [write_tar(scratch / f"part-{t}.tar", ((f"{i:06d}.jpg", some[(i + t) % 60]) for i in range(N_MEMBERS)))
                    for t in range(N_TARS)]
        cls.arguments = ("--format", "json", "--model", cls.card, "--threads", 1, "--key-prefix-tar")
        cls.undisturbed = scratch / "undisturbed"
        result = myriops("embed", *cls.arguments, "--out", cls.undisturbed, *cls.tars, ranks=2)
        assert result.code == DONE, result
        cls.seconds = result.json()["seconds"]

    def begin(self, out, ranks, *more, n_chunks=8):
        """A run, when a few chunks are there; its ranks by number."""
        process = start("embed", *self.arguments, *more, "--out", out, *self.tars, ranks=ranks)
        while process.poll() is None and len(list(out.glob("chunk-*.h5"))) < n_chunks:
            time.sleep(0.005)
        by_rank = {}
        for pid in ranks_of(process):
            variables = dict(line.split(b"=", 1) for line in pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if b"=" in line)
            by_rank[int(variables[b"OMPI_COMM_WORLD_RANK"])] = pid
        self.assertEqual(len(by_rank), ranks)
        return process, by_rank

    def end(self, process):
        said = process.stdout.read().decode()
        process.wait(timeout=60)
        process.stdout.close()
        return said

    def is_complete(self, out):
        return json.loads((out / "manifest.json").read_text())["complete"]

    def wait_until_complete(self, out, limit_s):
        begun = time.monotonic()
        while not self.is_complete(out) and time.monotonic() - begun < limit_s:
            time.sleep(0.05)
        self.assertTrue(self.is_complete(out), f"complete within {limit_s} s")

    def report(self, said):
        return json.loads(said[said.index("{"):said.rindex("}") + 1])

    def test_a_rank_that_is_stopped_and_goes_on(self):
        out = folder("goes-on")
        process, ranks = self.begin(out, 3)
        os.kill(ranks[2], signal.SIGSTOP)
        self.wait_until_complete(out, 60 + 3 * self.seconds)
        self.assertIsNone(process.poll(), "it is waited for")
        os.kill(ranks[2], signal.SIGCONT)
        said = self.end(process)
        self.assertEqual(process.returncode, DONE, said)
        report = self.report(said)
        self.assertGreaterEqual(report["handed_out_again"], 1)
        self.assertEqual(report["lost_ranks"], 0)
        self.assertEqual(contents(out), contents(self.undisturbed))

    def test_a_rank_that_is_stopped_for_good(self):
        out = folder("for-good")
        process, ranks = self.begin(out, 3)
        os.kill(ranks[1], signal.SIGSTOP)
        self.wait_until_complete(out, 60 + 3 * self.seconds)
        begun = time.monotonic()
        said = self.end(process)
        self.assertLess(time.monotonic() - begun, 60, "patience ends")
        self.assertEqual(process.returncode, DONE, said)
        self.assertIn("rank 1 on ", said)
        self.assertEqual(self.report(said)["lost_ranks"], 1)
        self.assertEqual(contents(out), contents(self.undisturbed))
        self.assertFalse(pathlib.Path(f"/proc/{ranks[1]}/exe").exists(), "the launcher has ended it")

    def test_a_slow_rank(self):
        """It works for a sixtieth of the time, on chunks that are large, so that its last one is made by the other."""
        out, plain = folder("slow"), scratch / "slow-plain"
        self.check(myriops("embed", *self.arguments, "--chunk", 1500, "--out", plain, *self.tars, ranks=2), DONE)
        process, ranks = self.begin(out, 2, "--chunk", 1500, n_chunks=2)
        over = threading.Event()

        def slow_down():
            while not over.is_set():
                try:
                    os.kill(ranks[1], signal.SIGSTOP)
                    time.sleep(0.6)
                    os.kill(ranks[1], signal.SIGCONT)
                    time.sleep(0.01)
                except ProcessLookupError:
                    return

        thread = threading.Thread(target=slow_down)
        thread.start()
        said = self.end(process)
        over.set()
        thread.join()
        self.assertEqual(process.returncode, DONE, said)
        self.assertEqual(contents(out), contents(plain))
        self.assertGreaterEqual(self.report(said)["handed_out_again"], 1)

    def test_all_end_together(self):
        """From the first idle thread to the end it takes as long as the last, small chunks."""
        for ranks in (2, 3):
            result = myriops("embed", *self.arguments, "--out", scratch / f"together-{ranks}", *self.tars, ranks=ranks)
            self.check(result, DONE)
            report = result.json()
            self.assertEqual(report["lost_ranks"], 0)
            self.assertLess(report["idle_at_end_s"], 2)
            print(f"{ranks} ranks: idle at the end {report['idle_at_end_s']:.3f} of {report['seconds']:.2f} s")


if __name__ == "__main__":
    main()
