"""jobs/env.sh: one rank a NUMA domain, bound to it. hwloc is told of domains that this machine does not have."""
from harness import *


def shell(script, **more):
    run = subprocess.run(["bash", "-euc", f". {SOURCE}/jobs/env.sh; {script}"], capture_output=True, text=True, timeout=120, cwd=scratch,
                         stdin=subprocess.DEVNULL, env=environment(**more))
    return Result(run.returncode, run.stdout, run.stderr)


def domains(name, *lists):
    """A folder as /sys/devices/system/node, one list of processors for each domain."""
    top = folder(name)
    for i, cpus in enumerate(lists):
        (top / f"node{i}").mkdir()
        (top / f"node{i}" / "cpulist").write_text(f"{cpus}\n")
    return top


@unittest.skipUnless({0, 1} <= os.sched_getaffinity(0), "two processors are needed")
class Topology(Case):
    def test_domains_that_may_be_used(self):
        for lists, n in ((["0-1"], 1), (["0", "1"], 2), (["0,1", ""], 1), (["0", "1", "2000-2003"], 2), ([], 1)):
            self.assertEqual(shell("myr_numa_domains", MYR_NODES=domains("nodes", *lists)).out, f"{n}\n", lists)
        self.assertEqual(shell("taskset -c 1 bash -c '. %s/jobs/env.sh; myr_numa_domains'" % SOURCE, MYR_NODES=domains("nodes", "0", "1")).out, "1\n")

    def placed(self, script, **more):
        where = '"bash" "-c" "echo \\$OMPI_COMM_WORLD_RANK \\$(sed -n \'s/^Cpus_allowed_list:[[:space:]]*//p\' /proc/self/status)"'
        result = shell(f"{script} {where}", HWLOC_SYNTHETIC="numa:2 core:1 pu:1", HWLOC_THISSYSTEM=1, **more)
        self.check(result, DONE)
        return sorted(result.out.splitlines())

    def test_one_rank_a_domain(self):
        env = {"MYR_NODES": domains("two", "0", "1"), "OMPI_MCA_hwloc_base_binding_policy": "none"}
        self.assertEqual(self.placed("myr_mpirun 2", **env), ["0 0", "1 1"])
        self.assertEqual(self.placed("myr_slurm", **env), ["0 0", "1 1"])
        self.assertEqual([line.split()[1] for line in self.placed("myr_mpirun 3", **env)], ["0-1"] * 3, "not one each: left to the kernel")
        self.assertEqual(len(self.placed("myr_slurm", SLURM_NTASKS_PER_NODE=1, **env)), 1)

    def test_one_domain_is_left_to_the_kernel(self):
        self.assertEqual(self.placed("myr_slurm", MYR_NODES=domains("one", "0-1")), ["0 0-1"])

    def test_a_bound_rank_has_the_threads_of_its_domain(self):
        run = shell(f"myr_mpirun 2 {PROGRAM} embed --out topology-emb {pictures('topology', 4)}", HWLOC_SYNTHETIC="numa:2 core:1 pu:1",
                    HWLOC_THISSYSTEM=1, MYR_NODES=domains("two", "0", "1"))
        self.check(run, DONE, "2 ranks x 1 thread")
        self.assertNotIn("wait for each other", run.err)


if __name__ == "__main__":
    main()
