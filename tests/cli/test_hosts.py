"""Several hosts for real: network namespaces with addresses, host names and links of their own, ranks over TCP.

A host's link is a TAP device that ends in a switch of ours (tests/hosts/switch.c), which delays every frame, keeps to a
speed, counts bytes, and cuts a host off without a word. Skipped where this may not be done.
"""
import time

from harness import *

N_HOSTS, DELAY_US, MBIT = 4, 200, 1000
SWITCH = BUILD / "tests/hosts_switch"
BOUNCE = """
import socket, sys, time
n, n_bytes = 50, 8 << 20
if sys.argv[1] == "serve":
    with socket.create_server((sys.argv[2], 7777)) as door:
        print("ready", flush=True)
        line, _ = door.accept()
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(n):
        line.sendall(line.recv(1))
    got = 0
    while got < n_bytes:
        got += len(line.recv(1 << 20))
    line.sendall(b".")
else:
    line = socket.create_connection((sys.argv[2], 7777))
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times = []
    for _ in range(n):
        begun = time.perf_counter()
        line.sendall(b".")
        line.recv(1)
        times.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    line.sendall(bytes(n_bytes))
    line.recv(1)
    print(min(times), n_bytes / (time.perf_counter() - begun))
"""
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
    switch = None

    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
            raise unittest.SkipTest("virtual hosts take root, ip and unshare")
        if not os.path.exists("/dev/net/tun"):
            raise unittest.SkipTest("virtual hosts take TAP devices: there is no /dev/net/tun")
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
        hosts = [f"{cls.name}{i}" for i in range(1, N_HOSTS + 1)]
        for host in hosts:
            sh("ip", "netns", "add", host)
        cls.switch = subprocess.Popen([SWITCH, str(DELAY_US), str(MBIT), *hosts], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if cls.switch.stdout.readline() != "ready\n":
            raise OSError("the switch did not start")
        for i, host in enumerate(hosts, 1):
            sh("ip", "-n", host, "link", "set", "eth0", "mtu", 9000, "up")
            sh("ip", "-n", host, "addr", "add", f"10.77.0.{i}/24", "dev", "eth0")
            sh("ip", "-n", host, "link", "set", "lo", "up")

    @classmethod
    def tearDownClass(cls):
        for i in range(1, N_HOSTS + 1):
            for pid in sh("ip", "netns", "pids", f"{cls.name}{i}", check=False).stdout.split():
                os.kill(int(pid), signal.SIGKILL)
        if cls.switch:
            cls.switch.stdin.close()
            cls.switch.wait(timeout=10)
            cls.switch.stdout.close()
        for i in range(1, N_HOSTS + 1):
            sh("ip", "netns", "del", f"{cls.name}{i}", check=False)

    def order(self, words):
        self.switch.stdin.write(words + "\n")
        self.switch.stdin.flush()

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
        self.order("count")
        return [sum(map(int, self.switch.stdout.readline().split()[1:3])) for _ in range(N_HOSTS)]

    def test_0_the_links_are_slow(self):
        program = [sys.executable, "-c", BOUNCE]
        server = subprocess.Popen(["ip", "netns", "exec", f"{self.name}2", *program, "serve", "10.77.0.2"], stdout=subprocess.PIPE, text=True)
        self.assertEqual(server.stdout.readline(), "ready\n")
        round_s, speed = map(float, sh("ip", "netns", "exec", f"{self.name}1", *program, "ask", "10.77.0.2").stdout.split())
        self.assertEqual(server.wait(timeout=30), 0)
        server.stdout.close()
        print(f"{N_HOSTS} virtual hosts: a byte there and back {1e6 * round_s:.0f} us, {speed / 1e6:.0f} MB/s")
        self.assertGreaterEqual(round_s, 2e-6 * DELAY_US)
        self.assertLess(speed, 1e6 / 8 * MBIT)

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
        one = self.across(hosts, "query", "--quiet", "--index", scratch / "idx-there", "--threads", 1, "--query-batch", 1, "--vectors",
                          write_u8bin(scratch / "hosts-few.u8bin", rows[:40]), "--format", "json")
        self.check(one, DONE)
        print(f"bytes over the links: {carried}; one query at a time: {one.json()['batch_p50_ms']:.1f} ms at the median")
        self.assertGreater(one.json()["batch_p50_ms"], 2e-3 * DELAY_US, "its messages crossed the links, too")
        self.assertTrue(all(one > rows.nbytes // 8 for one in carried), carried)

    def test_1_what_they_send_is_as_simulated(self):
        """Bytes of queries between hosts: of the program, and of bench/scaling/model.py."""
        sys.path.insert(0, str(SOURCE / "bench/scaling"))
        import model
        facts = {"images": 1e9, "dim": 64, "ef": 100, "bytes": {"index": 3e11},
                 "thread_seconds": {"picture": 0.01, "sizes": [8000, 40000], "insert": [5e-5, 5e-5], "search": [3e-5, 3e-5], "assign": 1e-9}}
        rows = np.random.default_rng(4).integers(0, 256, (4000, 64)).astype(np.uint8)
        base, asked = write_u8bin(scratch / "sent-base.u8bin", rows), write_u8bin(scratch / "sent-asked.u8bin", rows[::4])
        self.check(myriops("index", "--quiet", "--shards", 8, "--threads", 1, "--out", scratch / "idx-sent", base), DONE)
        for probe, near in (("all", 0.02), (3, 0.1), (1, 0.1)):
            result = self.across([1, 2, 3, 4], "query", "--quiet", "--index", scratch / "idx-sent", "-k", 10, "--threads", 1, "--probe", probe,
                                 "--vectors", asked, "--format", "json")
            self.check(result, DONE)
            sent, visits = result.json()["sent_bytes"] / 1000, result.json()["probes_per_query"]
            simulated = model.query(model.Costs(facts), model.Machine(4, 1), 4000, 8, visits, n_own=250)["sent_bytes"]
            print(f"bytes between hosts for a query, --probe {probe}: {sent:.0f}, simulated {simulated:.0f}")
            self.assertAlmostEqual(simulated / sent, 1, delta=near)

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
        self.order("cut 3")
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
