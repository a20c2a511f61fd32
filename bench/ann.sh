#!/usr/bin/env bash
# HNSW against hnswlib on the same machine, in turn, at the same recall.
#
#   bench/ann.sh [FOLDER]     with base.u8bin, query.u8bin, groundtruth.bin; default ../shared/data/sift
#
# Prints build seconds, and for each ef recall@10 and queries a second of one thread, for both.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:-../shared/data/sift}
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

if ! dpkg-query -W -f '${Status}' libhnswlib-dev 2>/dev/null | grep -q 'ok installed'; then
    sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends libhnswlib-dev >/dev/null
fi
./jobs/setup.sh >/dev/null
cmake -S . -B build -DMYRIOPS_BENCH=ON >/dev/null
cmake --build build --target bench_ann >/dev/null
g++ -O3 -march=native -std=c++17 -pthread bench/peers/hnswlib.cpp -o build/bench_hnswlib

threads=$(nproc)
lscpu | sed -n 's/^Model name: *//p' | head -n1
for round in 1 2; do
    for program in build/bench/bench_ann build/bench_hnswlib; do
        echo "== round $round: $program, built by $threads threads, searched by one"
        "$program" "$data/base.u8bin" "$data/query.u8bin" "$data/groundtruth.bin" "$threads" 20 50 100 200
    done
done
