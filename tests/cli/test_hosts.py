"""Several hosts for real: network namespaces with addresses, host names and links of their own, ranks over TCP.

A host's link is a veth pair on a bridge, slowed by netem where the kernel has it. Skipped where this may not be done.
"""
import time

from harness import *

N_HOSTS, DELAY_MS = 4, 1
AGENT = """#!/bin/bash
# What mpirun starts its daemons with, in place of ssh: AGENT ADDRESS COMMAND...
host=${1##*.}
shift
exec ip netns exec {name}$host unshare --uts bash -c "hostname {name}-host$host; $*"
"""


def sh(*command, check=True):
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if check and run.returncode != 0:
        raise OSError(f"{' '.join(map(str, command))}: {run.stderr.strip()}")
    return run


class Hosts(Case):
    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
            raise unittest.SkipTest("virtual hosts take root, ip and unshare")
        cls.name = f"my{os.getpid() % 100000}n"
        try:
            cls.raise_hosts()
        except OSError as reason:
            cls.tearDownClass()
            raise unittest.SkipTest(f"no virtual hosts here: {reason}")
        cls.agent = scratch / "agent.sh"
        cls.agent.write_text(AGENT.replace("{name}", cls.name))
        cls.agent.chmod(0o755)
        cls.pictures = sorted(DATA.glob("photos/*.tar")) or [pictures("hosts", 400, size=(400, 300))]

    @classmethod
    def raise_hosts(cls):
        sh("ip", "link", "add", f"{cls.name}b", "type", "bridge")
        sh("ip", "link", "set", f"{cls.name}b", "up")
        slowed = 0
        for i in range(1, N_HOSTS + 1):
            host, link = f"{cls.name}{i}", f"{cls.name}v{i}"
            sh("ip", "netns", "add", host)
            sh("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", host)
            sh("ip", "link", "set", link, "master", f"{cls.name}b")
            sh("ip", "link", "set", link, "up")
            sh("ip", "-n", host, "addr", "add", f"10.77.0.{i}/24", "dev", "eth0")
            sh("ip", "-n", host, "link", "set", "eth0", "up")
            sh("ip", "-n", host, "link", "set", "lo", "up")
            slowed += sh("tc", "-n", host, "qdisc", "add", "dev", "eth0", "root", "netem", "delay", f"{DELAY_MS}ms", check=False).returncode == 0
        print(f"{N_HOSTS} virtual hosts, links " + (f"slowed by {DELAY_MS} ms" if slowed == N_HOSTS else "not slowed: no netem in this kernel"))

    @classmethod
    def tearDownClass(cls):
        for i in range(1, N_HOSTS + 1):
            for pid in sh("ip", "netns", "pids", f"{cls.name}{i}", check=False).stdout.split():
                os.kill(int(pid), signal.SIGKILL)
            sh("ip", "netns", "del", f"{cls.name}{i}", check=False)
        sh("ip", "link", "del", f"{cls.name}b", check=False)

    def command(self, hosts, *args):
        mpirun = ["mpirun", "--mca", "plm_rsh_agent", self.agent, "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "eth0",
                  "--mca", "oob_tcp_if_include", "eth0", "--host", ",".join(f"10.77.0.{i}:1" for i in hosts), "-n", len(hosts)]
        return ["ip", "netns", "exec", f"{self.name}{hosts[0]}", "unshare", "--uts", "bash", "-c",
                f'hostname {self.name}-host{hosts[0]}; exec "$@"', "mpirun", *map(str, mpirun), str(PROGRAM), *map(str, args)]

    def environment(self):
        """A lost host is noticed within seconds."""
        return environment(OMPI_MCA_oob_tcp_keepalive_time=3, OMPI_MCA_oob_tcp_keepalive_intvl=1, OMPI_MCA_oob_tcp_keepalive_probes=3)

    def across(self, hosts, *args):
        run = subprocess.run(self.command(hosts, *args), capture_output=True, timeout=240, cwd=scratch, stdin=subprocess.DEVNULL,
                             env=self.environment())
        return Result(run.returncode, run.stdout.decode(errors="replace"), run.stderr.decode(errors="replace"))

    def crossed(self):
        """Bytes that each host's link has carried."""
        return [sum(int(pathlib.Path(f"/sys/class/net/{self.name}v{i}/statistics/{way}_bytes").read_text()) for way in ("rx", "tx"))
                for i in range(1, N_HOSTS + 1)]

    def test_1_the_same_results(self):
        hosts, here, there = [1, 2, 3, 4], scratch / "here", scratch / "there"
        rng = np.random.default_rng(3)
        rows = rng.integers(0, 256, (4000, 64)).astype(np.uint8)
        base, asked = write_u8bin(scratch / "hosts-base.u8bin", rows), write_u8bin(scratch / "hosts-asked.u8bin", rows[::8])
        some = self.pictures[:1]
        self.check(myriops("embed", "--quiet", "--threads", 2, "--chunk", 16, "--out", here, *some), DONE)
        before = self.crossed()
        self.check(self.across(hosts, "embed", "--quiet", "--threads", 1, "--chunk", 16, "--out", there, *some), DONE)
        self.assertEqual(contents(there), contents(here))
        digests, hits = [], []
        for out, run in ((scratch / "idx-here", lambda *args: myriops(*args)), (scratch / "idx-there", lambda *args: self.across(hosts, *args))):
            built = run("index", "--quiet", "--shards", 4, "--threads", 1, "--format", "json", "--out", out, base)
            self.check(built, DONE)
            digests.append(built.json()["digest"])
            for probe in ("all", "auto"):
                result = run("query", "--quiet", "--index", out, "-k", 10, "--threads", 1, "--probe", probe, "--vectors", asked, "--out", scratch / "hosts.hdf5")
                self.check(result, DONE)
                with h5py.File(scratch / "hosts.hdf5", "r") as file:
                    hits.append((file["neighbors"][:], file["distances"][:]))
        self.assertEqual(digests[0], digests[1])
        for a, b in zip(hits[:2], hits[2:]):
            self.assertTrue(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]))
        carried = [b - a for a, b in zip(before, self.crossed())]
        print(f"bytes over the links: {carried}")
        self.assertTrue(all(one > rows.nbytes // 8 for one in carried), carried)

    def test_2_a_host_is_cut_off(self):
        hosts, out = [1, 2, 3, 4], scratch / "cut"
        args = ("embed", "--quiet", "--threads", 1, "--chunk", 4, "--out", out, *self.pictures)
        job = subprocess.Popen(self.command(hosts, *args), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=scratch,
                               stdin=subprocess.DEVNULL, env=self.environment())
        deadline = time.time() + 120
        while len(list(out.glob("chunk-*.h5"))) < 8:
            self.assertLess(time.time(), deadline)
            self.assertIsNone(job.poll())
            time.sleep(0.05)
        sh("ip", "link", "set", f"{self.name}v3", "down")
        cut = time.time()
        said = job.communicate(timeout=60)[0].decode(errors="replace")
        print(f"the job ended {time.time() - cut:.1f} s after the cut, with status {job.returncode}")
        self.assertNotEqual(job.returncode, 0)
        self.assertIn("10.77.0.3", said)
        kept = len(list(out.glob("chunk-*.h5")))
        self.assertGreaterEqual(kept, 8)

        result = self.across([1, 2, 4], *args[:-len(self.pictures)], "--format", "json", *self.pictures)
        self.check(result, DONE)
        self.assertGreater(result.json()["before"], 0)
        whole = scratch / "whole"
        self.check(myriops("embed", "--quiet", "--threads", 2, "--chunk", 4, "--out", whole, *self.pictures), DONE)
        self.assertEqual(contents(out), contents(whole))


if __name__ == "__main__":
    main()
