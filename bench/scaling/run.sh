#!/usr/bin/env bash
# How embed, index and query scale over ranks and threads, on this machine or in a Slurm allocation; see --help.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$root/jobs/env.sh"
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
exec python3 "$root/bench/scaling/scaling.py" "$@"
