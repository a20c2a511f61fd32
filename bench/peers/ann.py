#!/usr/bin/env python3
"""Nearest neighbours on one machine: Myriops beside hnswlib, faiss and SVS, curves of recall and queries a second.

    python ann.py --dataset FOLDER --threads 1 --rounds 3 --out bench/results/ann-sift-1.json
    python ann.py --dataset FOLDER --engines myriops,hnswlib --ef 20,50,100

FOLDER holds base.*, query.* and groundtruth.bin in big-ann's formats (fbin, u8bin). Every engine is a process of its
own that builds its index and answers all queries five times for each ef; in a round all take turns, their order turned
from round to round, and the median over the rounds is told. A hit counts when it is as near as the true tenth. Graphs:
M = 16, ef_construction = 200 (faiss, hnswlib, Myriops); Vamana with 32 links and a window of 200 (SVS). ann.py --worker
is such a process for the Python libraries. Environment: setup.sh; hnswlib is Debian's, compiled with -march=native.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import numpy as np

import ann_report

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENGINES = ("myriops", "hnswlib", "faiss-flat", "faiss-sq8", "svs")
K = 10
REPEATS = 5


# ---- the data ------------------------------------------------------------------------------------------------------

def read_rows(folder, name):
    for end, kind in (("fbin", "<f4"), ("u8bin", "u1"), ("i8bin", "i1")):
        path = folder / f"{name}.{end}"
        if path.exists():
            n, dim = np.fromfile(path, "<u4", 2)
            return np.memmap(path, kind, "r", 8, (int(n), int(dim)))
    sys.exit(f"ann.py: {folder}: no {name}.fbin, .u8bin or .i8bin")


def prepared(rows, metric):
    rows = np.ascontiguousarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True) if metric == "cosine" else rows


class Data:
    def __init__(self, folder, metric):
        self.metric = metric
        self.base = prepared(read_rows(folder, "base"), metric)
        self.queries = prepared(read_rows(folder, "query"), metric)
        n, k = np.fromfile(folder / "groundtruth.bin", "<u4", 2)
        ids = np.fromfile(folder / "groundtruth.bin", "<u4", int(n) * int(k), offset=8).reshape(n, k)[:, :K]
        self.edge = self.distances(ids).max(1)

    def distances(self, ids):
        rows, queries = self.base[ids].astype(np.float64), self.queries[:, None].astype(np.float64)
        return -(rows * queries).sum(2) if self.metric == "ip" else np.square(rows - queries).sum(2)

    def recall(self, ids):
        valid = ids >= 0
        near = self.distances(np.where(valid, ids, 0)) <= (self.edge + np.abs(self.edge) * 1e-6 + 1e-7)[:, None]
        return float((near & valid).mean())


# ---- the libraries of Python ---------------------------------------------------------------------------------------

def build_faiss(data, threads, quantised):
    import faiss
    faiss.omp_set_num_threads(threads)
    dim = data.base.shape[1]
    metric = faiss.METRIC_INNER_PRODUCT if data.metric == "ip" else faiss.METRIC_L2
    index = (faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, 16, metric) if quantised
             else faiss.IndexHNSWFlat(dim, 16, metric))
    index.hnsw.efConstruction = 200
    if quantised:
        index.train(data.base)
    index.add(data.base)

    def search(ef):
        index.hnsw.efSearch = ef
        return index.search(data.queries, K)[1]
    return search


def build_svs(data, threads):
    import svs
    product = data.metric != "l2"
    parameters = svs.VamanaBuildParameters(alpha=0.95 if product else 1.2, graph_max_degree=32, window_size=200)
    index = svs.Vamana.build(parameters, data.base, svs.DistanceType.MIP if product else svs.DistanceType.L2,
                             num_threads=threads)

    def search(ef):
        index.search_window_size = ef
        return index.search(data.queries, K)[0].astype(np.int64)
    return search


def work(options):
    """Build, search, print what myriops bench ann prints."""
    data = Data(options.dataset, options.metric)
    start = time.perf_counter()
    if options.worker == "svs":
        search = build_svs(data, options.threads)
    else:
        search = build_faiss(data, options.threads, options.worker == "faiss-sq8")
    build_s = time.perf_counter() - start
    curve = []
    for ef in options.ef:
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            ids = search(ef)
            seconds.append(time.perf_counter() - start)
        curve.append({"ef": ef, "recall": data.recall(ids), "qps": len(data.queries) / statistics.median(seconds)})
    print(json.dumps({"build_points_per_s": len(data.base) / build_s, "curve": curve}))


# ---- the rounds ----------------------------------------------------------------------------------------------------

def command_of(engine, options):
    efs = ",".join(map(str, options.ef))
    if engine == "myriops":
        return [options.program, "bench", "ann", "--dataset", options.dataset, "--metric", options.metric, "--ef", efs,
                "--threads", str(options.threads), "--format", "json"]
    if engine == "hnswlib":
        return [options.hnswlib, options.dataset, options.metric, str(options.threads), *map(str, options.ef)]
    return [sys.executable, __file__, "--worker", engine, "--dataset", options.dataset, "--metric", options.metric,
            "--ef", efs, "--threads", str(options.threads)]


def run(engine, options):
    environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    environment["OMP_NUM_THREADS"] = str(options.threads)
    result = subprocess.run(list(map(str, command_of(engine, options))), capture_output=True, text=True, env=environment)
    if result.returncode != 0:
        sys.exit(f"ann.py: {engine}: {result.stderr.strip()[-500:]}")
    return json.loads(result.stdout.splitlines()[-1] if engine not in ("myriops",) else result.stdout)


def compile_hnswlib(path):
    subprocess.run(["g++", "-O3", "-march=native", "-std=c++17", "-pthread", ROOT / "bench/peers/hnswlib.cpp", "-o", path],
                   check=True)


def processor():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def medians(rounds):
    """One answer from those of all rounds."""
    curve = [{"ef": points[0]["ef"], "recall": points[0]["recall"], "qps": statistics.median(p["qps"] for p in points),
              "rounds": [p["qps"] for p in points]} for points in zip(*(one["curve"] for one in rounds))]
    rates = [one["build_points_per_s"] for one in rounds]
    return {"build_points_per_s": statistics.median(rates), "build_rounds": rates,
            "index_bytes": rounds[0].get("index_bytes"), "curve": curve}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=pathlib.Path, required=True)
    parser.add_argument("--metric", choices=("l2", "cosine", "ip"), default="l2")
    parser.add_argument("--ef", default="10,15,20,30,40,50,70,100,150,200,300")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--program", default=ROOT / "build/myriops")
    parser.add_argument("--hnswlib", default=ROOT / "build/bench_hnswlib")
    parser.add_argument("--out", type=pathlib.Path, help="JSON; .csv, .md and .svg are written beside it")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.ef = [int(ef) for ef in options.ef.split(",")]
    if options.worker:
        return work(options)
    engines = options.engines.split(",")
    if "hnswlib" in engines:
        compile_hnswlib(options.hnswlib)
    rounds = {engine: [] for engine in engines}
    for turn in range(options.rounds):
        for engine in engines[turn % len(engines):] + engines[:turn % len(engines)]:
            rounds[engine].append(run(engine, options))
            best = rounds[engine][-1]
            print(f"{time.strftime('%H:%M:%S')} round {turn + 1}, {engine}: {best['build_points_per_s']:.0f} points/s, "
                  + ", ".join(f"{p['recall']:.3f}: {p['qps']:.0f}" for p in best["curve"][::3]), file=sys.stderr)
    document = {"dataset": options.dataset.name, "metric": options.metric, "threads": options.threads, "k": K,
                "date": datetime.date.today().isoformat(), "reference": "hnswlib",
                "machine": {"processor": processor(), "cpus": os.cpu_count()},
                "engines": {engine: medians(all_rounds) for engine, all_rounds in rounds.items()}}
    print(ann_report.markdown(document))
    if options.out:
        ann_report.write(document, options.out)


if __name__ == "__main__":
    main()
