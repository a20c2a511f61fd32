# What every job script needs from its surroundings; sourced, not run: . jobs/env.sh
# Safe under set -eu. A value that is already set stays.

# Containers run as root and have fewer slots than ranks; Open MPI 4 reads OMPI_*, Open MPI 5 PRTE_* and PRTE_MCA_*.
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
export OMPI_MCA_rmaps_base_oversubscribe="${OMPI_MCA_rmaps_base_oversubscribe:-1}"
export PRTE_MCA_rmaps_default_mapping_policy="${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}"
# Cross-memory attach is forbidden in most containers, and its warning would hide the output.
export OMPI_MCA_btl_vader_single_copy_mechanism="${OMPI_MCA_btl_vader_single_copy_mechanism:-none}"
export OMPI_MCA_btl_sm_single_copy_mechanism="${OMPI_MCA_btl_sm_single_copy_mechanism:-none}"
# A host that is lost without a word is noticed within a minute, and the job ends: by Open MPI's own, two hours.
export OMPI_MCA_oob_tcp_keepalive_time="${OMPI_MCA_oob_tcp_keepalive_time:-30}"
export OMPI_MCA_oob_tcp_keepalive_intvl="${OMPI_MCA_oob_tcp_keepalive_intvl:-10}"
export OMPI_MCA_oob_tcp_keepalive_probes="${OMPI_MCA_oob_tcp_keepalive_probes:-3}"
# Threads are placed by the kernel: a rank bound to one core would run all its threads there.
export OMPI_MCA_hwloc_base_binding_policy="${OMPI_MCA_hwloc_base_binding_policy:-none}"
export PRTE_MCA_hwloc_default_binding_policy="${PRTE_MCA_hwloc_default_binding_policy:-none}"
# The program runs its own threads; OpenBLAS adding some to each would fight with them.
export OPENBLAS_NUM_THREADS=1

# CPUs this process may use (affinity honoured).
myr_cpus() {
    nproc
}

# The numbers of a list such as 0-3,8.
myr_numbers() {
    local part
    for part in ${1//,/ }; do seq "${part%-*}" "${part#*-}"; done
}

# NUMA domains with CPUs that this process may use (affinity and cpusets honoured), at least 1.
myr_numa_domains() {
    local n=0 list mine
    mine=$(myr_numbers "$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)")
    for list in "${MYR_NODES:-/sys/devices/system/node}"/node[0-9]*/cpulist; do
        if [ -r "$list" ] && grep -qxFf <(myr_numbers "$(cat "$list")") <<<"$mine"; then n=$((n + 1)); fi
    done
    [ "$n" -gt 0 ] || n=1
    echo "$n"
}

# Options of mpirun that put one rank on each NUMA domain of NODES nodes that are like this one, bound to it; none where
# a node has one domain, or where other than one rank each is wished for.  myr_placing RANKS NODES
myr_placing() {
    local domains
    domains=$(myr_numa_domains)
    if [ "$domains" -gt 1 ] && [ "$1" = $((domains * $2)) ]; then echo --map-by ppr:1:numa --bind-to numa; fi
}

# Ranks this machine sensibly takes: one a NUMA domain, two at least where there are two CPUs, never more than CPUs.
myr_ranks() {
    local cpus ranks
    cpus=$(myr_cpus)
    ranks=$(myr_numa_domains)
    if [ "$ranks" -lt 2 ]; then ranks=2; fi
    if [ "$ranks" -gt "$cpus" ]; then ranks=$cpus; fi
    echo "$ranks"
}

# myr_await COMMAND...: its status. SIGTERM, SIGINT and SIGUSR1 to the script reach the ranks as SIGUSR1, which mpirun
# passes on at once: they finish what they can and end with status 75. myr_signal names the last one that came.
myr_await() {
    local pid status=0
    myr_signal=
    "$@" &
    pid=$!
    trap 'myr_signal=TERM; kill -USR1 "$pid" 2>/dev/null' TERM INT
    trap 'myr_signal=USR1; kill -USR1 "$pid" 2>/dev/null' USR1
    wait "$pid" || status=$?
    while kill -0 "$pid" 2>/dev/null; do # a signal ends wait, not the ranks
        status=0
        wait "$pid" || status=$?
    done
    trap - TERM INT USR1
    return "$status"
}

# myr_mpirun RANKS COMMAND...: mpirun with waiting ranks that yield where there are more ranks than CPUs. Its status
# is the program's; signals as in myr_await.
myr_mpirun() {
    local ranks=$1
    shift
    local -a surroundings=() placing
    read -ra placing < <(myr_placing "$ranks" 1; echo)
    if [ "$ranks" -gt "$(myr_cpus)" ]; then surroundings=(env OMPI_MCA_mpi_yield_when_idle=1); fi
    myr_await "${surroundings[@]}" mpirun -n "$ranks" "${placing[@]}" "$@"
}

# myr_slurm COMMAND...: the command over all nodes of a Slurm job: --ntasks-per-node ranks on each, or one a NUMA domain,
# bound to it. When Slurm announces the end of the job's time (--signal=B:USR1@SECONDS) the ranks commit what is
# finished, and the job is queued again, to go on there. Its status is the program's.
myr_slurm() {
    local status=0 ranks nodes=${SLURM_JOB_NUM_NODES:-1}
    local -a placing
    ranks=$((nodes * ${SLURM_NTASKS_PER_NODE:-$(myr_numa_domains)}))
    read -ra placing < <(myr_placing "$ranks" "$nodes"; echo)
    if [ "${#placing[@]}" = 0 ]; then placing=(-N $((ranks / nodes))); fi
    myr_await mpirun -n "$ranks" "${placing[@]}" "$@" || status=$?
    if [ "$status" = 75 ] && [ "$myr_signal" = USR1 ]; then
        echo "out of time: what is finished is kept, and job $SLURM_JOB_ID is queued again to go on"
        scontrol requeue "$SLURM_JOB_ID" || return
        sleep 60 # Slurm ends this script as it takes the job back
    fi
    return "$status"
}
