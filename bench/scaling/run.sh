#!/usr/bin/env bash
# How embed, index and query scale over ranks and threads, on this machine or in a Slurm allocation; see --help.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$root/jobs/env.sh"
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
python=python3 # Debian's numpy belongs to Debian's Python, which need not be the first
"$python" -c 'import numpy' 2>/dev/null || python=/usr/bin/python3
exec "$python" "$root/bench/scaling/scaling.py" "$@"
