"""What a run asks of the file system: one rank looks around, tars are read in large pieces, and copied once a host.

strace tells what was asked (Debian: strace); without it those tests are skipped.
"""
import re

from harness import *

import small_network

N_TARS, N_IN_TAR = 3, 2000
CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+)")


class FileSystem(Case):
    @classmethod
    def setUpClass(cls):
        cls.card = small_network.write(folder("network"))
        some = [encode(picture(i, 64, 64)) for i in range(50)]
        cls.place = folder("corpus")
        cls.tars = [write_tar(cls.place / f"part-{t}.tar", ((f"{t}-{i:06d}.jpg", some[(i + t) % 50]) for i in range(N_IN_TAR)))
                    for t in range(N_TARS)]
        cls.n_bytes = sum(tar.stat().st_size for tar in cls.tars)
        cls.arguments = ("--format", "json", "--model", cls.card, "--threads", 2)
        cls.plain = scratch / "plain"
        assert myriops("embed", "--out", cls.plain, *cls.arguments, *cls.tars).code == DONE

    def traced(self, out, *more, ranks):
        """For each rank, [(call, arguments, result)] of a run under strace."""
        traces = folder("traces")
        script = traces / "rank.sh"
        calls = "openat,open,stat,lstat,newfstatat,statx,access,faccessat,faccessat2,getdents64,pread64,read"
        script.write_text(f'#!/bin/sh\nexec strace -ff -y -e trace={calls} -o {traces}/$OMPI_COMM_WORLD_RANK "$@"\n')
        script.chmod(0o755)
        line = ["mpirun", "-n", str(ranks), str(script), *command(("embed", *self.arguments, "--out", out, *more, *self.tars))]
        run = subprocess.run(line, capture_output=True, text=True, timeout=600, env=environment(), cwd=scratch)
        self.assertEqual(run.returncode, DONE, run.stdout + run.stderr)
        found = []
        for rank in range(ranks):
            lines = [line for path in traces.glob(f"{rank}.*") for line in path.read_text(errors="replace").splitlines()]
            found.append([match.groups() for match in map(CALL.match, lines) if match])
        return found

    @unittest.skipUnless(shutil.which("strace"), "no strace here")
    def test_one_rank_looks_around_and_tars_are_read_in_pieces(self):
        out = scratch / "traced"
        by_rank = self.traced(out, ranks=3)
        self.assertEqual(contents(out), contents(self.plain))
        n_read = n_reads = 0
        for rank, calls in enumerate(by_rank):
            here = [(name, arguments, int(result)) for name, arguments, result in calls if str(self.place) in arguments]
            self.assertTrue(here)
            looks = [call for call in here if "stat" in call[0] or "access" in call[0] or call[0] == "getdents64"]
            asked = [call for call in looks if not re.match(r"\d+<", call[1])]  # fstat of an open file asks no server
            opened = [call for call in here if call[0] in ("open", "openat")]
            if rank > 0:
                self.assertEqual(asked, [])
                self.assertLessEqual(len(opened), 60, "a tar is opened once for each stretch of it, not for each picture")
                reads = [call[2] for call in here if call[0] in ("pread64", "read")]
                n_read += sum(reads)
                n_reads += len(reads)
        self.assertGreater(n_read, 0)
        self.assertGreater(n_read / n_reads, 30000, "bytes a read: the chunks here are small, pictures are 2 KB")

    def test_staged(self):
        stage = scratch / "stage"
        for more, n_kept in (((), 0), (("--keep-stage",), N_TARS)):
            out = scratch / f"staged-{n_kept}"
            result = myriops("embed", *self.arguments, "--stage", stage, *more, "--out", out, *self.tars, ranks=3)
            self.check(result, DONE)
            self.assertLessEqual(result.json()["tars_staged"], N_TARS, "once a host, not once a rank")
            self.assertEqual(contents(out), contents(self.plain))
            self.assertLessEqual(len(list(stage.iterdir())), n_kept)
            self.assertFalse([path for path in stage.iterdir() if "partial" in path.name])

    @unittest.skipUnless(shutil.which("strace"), "no strace here")
    def test_copies_are_what_is_read(self):
        """With all copies in place, bytes of pictures come from there."""
        stage = folder("kept")
        copies = 0
        while copies < N_TARS:  # a run may end before all are copied
            myriops("embed", *self.arguments, "--stage", stage, "--keep-stage", "--out", folder("warm"), *self.tars)
            copies = len(list(stage.iterdir()))
        by_rank = self.traced(scratch / "from-copies", "--stage", stage, "--keep-stage", ranks=2)
        self.assertEqual(contents(scratch / "from-copies"), contents(self.plain))
        near = sum(int(result) for name, arguments, result in by_rank[1] if name == "pread64" and str(stage) in arguments)
        far = sum(int(result) for name, arguments, result in by_rank[1] if name == "pread64" and str(self.place) in arguments)
        self.assertGreater(near, 0)
        self.assertLess(far, near / 10)

    @unittest.skipUnless(os.geteuid() == 0, "only root can mount a small disk")
    def test_a_disk_with_room_for_one_tar(self):
        disk = folder("small-disk")
        size = (64 << 20) + self.tars[0].stat().st_size * 3 // 2
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)], capture_output=True).returncode != 0:
            self.skipTest("no mount here")
        try:
            result = myriops("embed", *self.arguments, "--stage", disk, "--out", scratch / "little", *self.tars, ranks=2)
            self.check(result, DONE, "no room there for")
            self.assertLessEqual(result.json()["tars_staged"], 1)
            self.assertEqual(contents(scratch / "little"), contents(self.plain))
            self.assertEqual(list(disk.iterdir()), [])
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=False)

    def test_a_place_that_cannot_be_written(self):
        (scratch / "a-file").write_bytes(b"")
        result = myriops("embed", *self.arguments, "--stage", scratch / "a-file" / "x", "--out", scratch / "nowhere", *self.tars, ranks=2)
        self.check(result, FAILED, "a-file")


if __name__ == "__main__":
    main()
