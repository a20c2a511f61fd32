"""The job scripts under a real Slurm: munge, a controller and two nodes that are this machine, all of this test's own.

Skipped where the test is not root or Slurm is not there. Node daemons of one machine cannot share its PMIx, so ranks
are started by mpirun, as the scripts do.
"""
import socket
import time

from harness import *

DAEMONS = ("munged", "slurmctld", "slurmd")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={top}/munge/socket,cred_expire=5
SlurmctldPort={port}
StateSaveLocation={top}/state
SlurmdSpoolDir={top}/spool-%n
SlurmctldPidFile={top}/slurmctld.pid
SlurmdPidFile={top}/slurmd-%n.pid
SlurmctldLogFile={top}/slurmctld.log
SlurmdLogFile={top}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0,batch_sched_delay=0
SelectType=select/linear
ReturnToService=2
KillWait=5
AccountingStorageType=accounting_storage/none
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs={cpus}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs={cpus}
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def free_ports(n):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Slurm(Case):
    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0 or not all(shutil.which(name) for name in DAEMONS):
            raise unittest.SkipTest("a Slurm of one's own takes root, slurm-wlm and munge")
        cls.top = folder("slurm")
        cls.top.chmod(0o755)
        scratch.chmod(0o755)
        cls.env = environment(SLURM_CONF=cls.top / "slurm.conf", MYRIOPS_ROOT=cls.top / "project")
        try:
            cls.begin()
        except OSError as reason:
            cls.tearDownClass()
            raise unittest.SkipTest(f"no Slurm here: {reason}")

    @classmethod
    def begin(cls):
        munge = folder("slurm/munge")
        munge.chmod(0o755)
        (munge / "key").write_bytes(os.urandom(1024))
        (munge / "key").chmod(0o400)
        port, port1, port2 = free_ports(3)
        # The scripts find the program below the project's folder; here it was built somewhere else.
        for name, place in (("build", BUILD), ("jobs", SOURCE / "jobs"), ("conf", SOURCE / "conf")):
            (folder("slurm/project") if name == "build" else cls.top / "project").joinpath(name).symlink_to(place)
        for name in ("state", "spool-n1", "spool-n2"):
            folder(f"slurm/{name}")
        (cls.top / "slurm.conf").write_text(CONFIGURATION.format(
            host=socket.gethostname().split(".")[0], top=cls.top, port=port, port1=port1, port2=port2, cpus=os.cpu_count()))
        cls.sh("munged", "--force", f"--key-file={munge}/key", f"--socket={munge}/socket", f"--pid-file={munge}/munged.pid",
               f"--log-file={munge}/log", f"--seed-file={munge}/seed")
        cls.sh("slurmctld", "-c")
        for node in ("n1", "n2"):
            cls.sh("slurmd", "-N", node)
        cls.wait_until(lambda: cls.sh("sinfo", "-h", "-o", "%t %D").split() == ["idle", "2"], 30, "two idle nodes")

    @classmethod
    def tearDownClass(cls):
        for path in (*cls.top.glob("slurm*.pid"), *cls.top.glob("munge/*.pid")):
            try:
                os.kill(int(path.read_text()), signal.SIGTERM)
            except (ValueError, ProcessLookupError):
                pass

    @classmethod
    def sh(cls, *line):
        run = subprocess.run(list(map(str, line)), capture_output=True, text=True, env=cls.env, cwd=cls.top, stdin=subprocess.DEVNULL, timeout=60)
        if run.returncode != 0:
            raise OSError(f"{' '.join(map(str, line))}: {(run.stderr or run.stdout).strip()}")
        return run.stdout

    @classmethod
    def wait_until(cls, happened, limit_s, what):
        begun = time.monotonic()
        while not happened():
            if time.monotonic() - begun > limit_s:
                raise OSError(f"{what}: not within {limit_s} s")
            time.sleep(0.1)

    def submit(self, *line):
        return self.sh("sbatch", "--parsable", f"--output={self.top}/out-%j.txt", *line).strip()

    def state(self, job):
        """JobState and Restarts; of an array, the states of all of its tasks."""
        told = self.sh("scontrol", "show", "job", job)
        found = dict(word.split("=", 1) for word in told.split() if "=" in word)
        return {word.split("=")[1] for word in told.split() if word.startswith("JobState=")}, int(found["Restarts"])

    def said(self):
        return "\n".join(path.read_text() for path in sorted(self.top.glob("out-*.txt")))

    def wait_for(self, job, state, limit_s=150):
        def happened():
            states = self.state(job)[0]
            if states & {"FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}:
                raise AssertionError(f"job {job}: {states}\n{self.said()}")
            return states == {state}
        self.wait_until(happened, limit_s, f"job {job} {state}; {self.said()}")

    def test_1_a_chain_of_jobs(self):
        """embed as an array of two, then index, then query, each when the one before is done."""
        some, project = pictures("slurm-pictures", 48), self.top / "project"
        halves = [scratch / "first.txt", scratch / "second.txt"]
        paths = sorted(some.iterdir())
        for half, part in zip(halves, (paths[:24], paths[24:])):
            half.write_text("".join(f"{path}\n" for path in part))
        emb, idx, hits = scratch / "slurm-emb", scratch / "slurm-idx", scratch / "slurm-hits.tsv"
        first = self.submit("--nodes=1", "--array=3-4", project / "jobs/embed.sbatch", emb, *halves)
        then = self.submit("--nodes=2", f"--dependency=afterok:{first}", project / "jobs/index.sbatch", idx, emb / "part-3", emb / "part-4")
        last = self.submit("--nodes=2", f"--dependency=afterok:{then}", project / "jobs/query.sbatch", idx, halves[1], hits)
        self.wait_for(last, "COMPLETED")
        self.assertEqual(read_embeddings(emb / "part-3")[0], [str(path) for path in paths[:24]])
        self.embed(scratch / "slurm-alone", *halves)
        alone = np.concatenate([read_embeddings(emb / part)[1] for part in ("part-3", "part-4")])
        self.assertTrue(np.array_equal(alone, read_embeddings(scratch / "slurm-alone")[1]))
        nearest = [line.split("\t") for line in hits.read_text().splitlines() if line.split("\t")[1] == "1"]
        self.assertEqual([(row[0], row[-1]) for row in nearest], [(str(path), str(path)) for path in paths[24:]])

    def links(self, name, n):
        """n names of 16 pictures."""
        some, many = pictures("slurm-some", 16), folder(name)
        for i in range(n):
            (many / f"{i:06d}.jpg").hardlink_to(some / f"{i % 16:05d}.jpg")
        return many

    def stop_in_time(self, n):
        """Submits n pictures for a minute on two nodes, and takes one of them away; None where all was done before the end."""
        many, out = self.links(f"slurm-many-{n}", n), scratch / f"slurm-emb-{n}"
        if "drain" in self.sh("sinfo", "-h", "-n", "n2", "-o", "%t"):
            self.sh("scontrol", "update", "nodename=n2", "state=resume")
        job = self.submit("--nodes=1-2", "--ntasks-per-node=1", "--time=1", "--signal=B:USR1@20", self.top / "project/jobs/embed.sbatch", out, many)
        self.wait_until(lambda: len(list(out.glob("chunk-*.h5"))) > 0, 60, f"a chunk; {self.said()}")
        self.sh("scontrol", "update", "nodename=n2", "state=drain", "reason=test")
        self.wait_until(lambda: self.state(job)[1] > 0 or self.state(job)[0] == {"COMPLETED"}, 90, f"a second start; {self.said()}")
        return (job, out) if self.state(job)[1] > 0 else None

    def test_2_out_of_time_and_queued_again(self):
        """A minute is less than the work takes: what is finished stays, and fewer nodes go on with it."""
        self.env.update(MYRIOPS_BACKEND="openblas", MYRIOPS_THREADS="1", MYRIOPS_CHUNK="32")
        alone = scratch / "slurm-rate"
        result = myriops("embed", "--format", "json", "--out", alone, self.links("slurm-few", 320), env=self.env)
        self.check(result, DONE)
        n = int(2 * 45 * result.json()["images_per_s"])  # Slurm looks at the clock twice a minute: 10 to 40 s after the start
        stopped = self.stop_in_time(n) or self.stop_in_time(3 * n)
        self.assertTrue(stopped, self.said())
        job, out = stopped
        kept = {path: path.stat().st_mtime_ns for path in out.glob("chunk-*.h5")}
        self.sh("scontrol", "update", f"jobid={job}", "timelimit=10")
        self.wait_for(job, "COMPLETED")
        told = self.said()
        for words in ("out of time: what is finished is kept", "stopped by a signal", "1 rank x 1 thread"):
            self.assertIn(words, told)
        for path, time_ns in kept.items():
            self.assertEqual(path.stat().st_mtime_ns, time_ns, f"{path.name} was made again")
        keys, vectors = read_embeddings(out)
        self.assertEqual(keys, [f"{i:06d}.jpg" for i in range(len(keys))])
        self.assertGreaterEqual(len(keys), n)
        self.assertTrue(np.array_equal(vectors, np.tile(read_embeddings(alone)[1][:16], (len(keys) // 16 + 1, 1))[:len(keys)]))


if __name__ == "__main__":
    main()
