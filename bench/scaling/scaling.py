"""Strong and weak scaling of embed, index and query over ranks x threads, by mpirun.

    bench/scaling/run.sh --pictures 'photos-*.tar' --vectors FOLDER --out results/ [--shapes 1x1,1x2,2x1]

FOLDER holds base, query (.u8bin or .fbin) and groundtruth.bin in big-ann's formats. A shape is ranks x threads. Strong:
every shape does the same work. Weak: as much work for each thread; pictures and vectors are cut to the shape's share of
the largest one's. Each measurement is the best of --rounds runs of a process of its own, shapes taking turns.

Before a number counts, its result is checked: embeddings and index digests must be those of the first shape, hits too, and
recall@10 must reach --floor: against groundtruth.bin, or, where only a part of the vectors is indexed, against what an
exact search finds there. What fails the check is reported as invalid, without numbers.

Writes scaling.json, scaling.csv, one SVG a task, and index.html. Needs numpy.
"""
import argparse
import datetime
import glob
import hashlib
import json
import os
import pathlib
import platform
import shlex
import shutil
import struct
import subprocess
import sys

import numpy as np

import report

ROOT = pathlib.Path(__file__).resolve().parents[2]


def read_bin(folder, name):
    for path, width in ((folder / f"{name}.fbin", 4), (folder / f"{name}.u8bin", 1)):
        if path.exists():
            return path, width
    sys.exit(f"scaling.py: {folder}: no {name}.fbin or .u8bin")


def cut(path, width, n, to):
    """The first n rows of a file of vectors."""
    with open(path, "rb") as file:
        rows, dim = struct.unpack("<II", file.read(8))
        data = file.read(min(n, rows) * dim * width)
    to = to.with_suffix(path.suffix)
    to.write_bytes(struct.pack("<II", min(n, rows), dim) + data)
    return to


def digest_of_folder(folder):
    digest = hashlib.sha256()
    for path in sorted(folder.glob("chunk-*.h5")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def truth_of(path, k):
    data = path.read_bytes()
    n, depth = struct.unpack_from("<II", data)
    ids = struct.unpack_from(f"<{n * depth}I", data, 8)
    return [set(ids[q * depth:q * depth + k]) for q in range(n)]


def rows_of(path, width):
    n, dim = np.fromfile(path, "<u4", 2)
    return np.fromfile(path, "<f4" if width == 4 else "u1", offset=8).reshape(n, dim).astype("f4")


def search_exactly(folder, share, k):
    """The k nearest of the first rows to each query, and whatever is as near as the last of them."""
    base, asked = rows_of(*read_bin(folder, "base")), rows_of(*read_bin(folder, "query"))
    base = base[:round(len(base) * share)]
    lengths, truth = (base ** 2).sum(1), []
    for at in range(0, len(asked), 128):
        away = lengths - 2 * asked[at:at + 128] @ base.T  # but for the query's own length
        last = np.partition(away, k - 1, axis=1)[:, k - 1:k]
        truth += [set(np.flatnonzero(row).tolist()) for row in away <= last]
    return truth


class Bench:
    def __init__(self, options):
        self.options, self.scratch = options, options.out / "scratch"
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.shapes = [tuple(map(int, shape.split("x"))) for shape in options.shapes.split(",")]
        self.most = max(ranks * threads for ranks, threads in self.shapes)
        self.wanted, self.truths = {}, {}

    def run(self, shape, *arguments):
        ranks, threads = shape
        launcher = shlex.split(self.options.launcher.format(ranks=ranks, threads=threads))
        command = [*launcher, self.options.program, *arguments, "--threads", threads, "--quiet", "--format", "json"]
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f"scaling.py: {' '.join(map(str, command))}: status {result.returncode}\n{result.stderr[-2000:]}")
        return json.loads(result.stdout)

    def same(self, task, mark):
        """Whether a result is that of the shapes before."""
        return self.wanted.setdefault(task, mark) == mark

    def pictures(self, share):
        tars = sorted(path for pattern in self.options.pictures for path in glob.glob(pattern))
        if not tars:
            sys.exit(f"scaling.py: no file is named {' '.join(self.options.pictures)}")
        return tars[:max(1, round(len(tars) * share))]

    def embed(self, shape, kind, share):
        out = self.scratch / "embeddings"
        shutil.rmtree(out, ignore_errors=True)
        facts = self.run(shape, "embed", "--precision", self.options.precision, "--out", out, *self.pictures(share))
        seconds, workers = facts["seconds"], shape[0] * shape[1]
        phases = {name: value / workers for name, value in facts["thread_seconds"].items()}
        valid = facts["bad"] == 0 and self.same(f"embed {kind} {share}", digest_of_folder(out))
        return {"seconds": seconds, "work": facts["embedded"], "phases": phases, "valid": valid,
                "imbalance": facts["imbalance"], "sent_bytes": facts["sent_bytes"],
                "why": "other embeddings than those of the first shape"}

    def index(self, shape, kind, share, out=None):
        path, width = read_bin(self.options.vectors, "base")
        n = struct.unpack("<I", open(path, "rb").read(4))[0]
        part = path if share == 1 else cut(path, width, round(n * share), self.scratch / f"base-{share:.3f}")
        out = out or self.scratch / f"index-{share:.3f}"
        shutil.rmtree(out, ignore_errors=True)
        facts = self.run(shape, "index", "--shards", self.options.shards, "--out", out, part)
        valid = self.same(f"index {share}", facts["digest"])
        return {"seconds": facts["seconds"], "work": facts["items"], "phases": facts["phases"], "valid": valid,
                "imbalance": facts["rank_imbalance"], "sent_bytes": facts["sent_bytes"],
                "why": "another digest than that of the first shape"}

    def truth(self, share):
        """Of each query, the ten that are nearest among the share of the vectors."""
        if share not in self.truths:
            self.truths[share] = (truth_of(self.options.vectors / "groundtruth.bin", 10) if share == 1
                                  else search_exactly(self.options.vectors, share, 10))
        return self.truths[share]

    def query(self, shape, kind, share):
        index = self.scratch / f"index-{share:.3f}"
        asked, _ = read_bin(self.options.vectors, "query")
        facts = self.run(shape, "query", "--index", index, "-k", 10, "--probe", self.options.probe, "--recall",
                         self.options.recall, "--vectors", asked)
        hits = [[hit["id"] for hit in one["hits"]] for one in facts["queries"]]
        row = {"seconds": facts["search_s"], "work": len(hits), "phases": facts["phases"], "imbalance": facts["imbalance"],
               "sent_bytes": facts["sent_bytes"], "probes_per_query": facts["probes_per_query"], "ef": facts["ef"], "valid": True}
        truth = self.truth(share)
        row["recall"] = sum(len(truth[q] & set(ids)) for q, ids in enumerate(hits)) / (10 * len(hits))
        row["valid"] = row["recall"] >= self.options.floor
        row["why"] = f"recall is below {self.options.floor}"
        if row["valid"]:
            row["valid"] = self.same(f"query {share}", hashlib.sha256(repr(hits).encode()).hexdigest())
            row["why"] = "other hits than those of the first shape"
        return row

    def measure(self, task, kind):
        """Rows of all shapes; the best of the rounds of each."""
        rows = {}
        for turn in range(self.options.rounds):
            for shape in self.shapes:
                share = 1 if kind == "strong" else shape[0] * shape[1] / self.most
                row = getattr(self, task)(shape, kind, share)
                row |= {"task": task, "kind": kind, "ranks": shape[0], "threads": shape[1], "share": share}
                if not row["valid"]:
                    row = {name: row[name] for name in ("task", "kind", "ranks", "threads", "share", "valid", "why")}
                row.pop("why", None) if row["valid"] else None
                before = rows.get(shape)
                if before is None or not row["valid"] or (before["valid"] and row["seconds"] < before["seconds"]):
                    rows[shape] = row
                print(f"round {turn + 1}: {task}, {kind}, {shape[0]} ranks x {shape[1]} threads: "
                      + (f"{row['work'] / row['seconds']:.0f}/s" if row["valid"] else f"INVALID: {row['why']}"), file=sys.stderr)
        rows = list(rows.values())
        self.judge(rows)
        return rows

    def judge(self, rows):
        """Rates, and efficiency to the shape of fewest workers."""
        valid = [row for row in rows if row["valid"]]
        for row in valid:
            row["rate"] = row["work"] / row["seconds"]
        if valid:
            first = min(valid, key=lambda row: row["ranks"] * row["threads"])
            alone = first["rate"] / (first["ranks"] * first["threads"])
            for row in valid:
                row["efficiency"] = row["rate"] / (row["ranks"] * row["threads"] * alone)


def processor():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser(prog="bench/scaling/run.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", nargs="+", default=[], help="tars to embed, by name or pattern")
    parser.add_argument("--vectors", type=pathlib.Path, help="folder of vectors to index and query")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--shapes", default="1x1,1x2,2x1", help="ranks x threads, the smallest first")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--probe", default="all")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--floor", type=float, default=0.93, help="least recall@10 of a valid query run")
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", default="strong,weak")
    parser.add_argument("--launcher", default="mpirun -n {ranks}", help="how to start; {ranks} and {threads} are filled in")
    parser.add_argument("--program", default=os.environ.get("MYRIOPS_PROGRAM", ROOT / "build/myriops"))
    options = parser.parse_args()
    if not options.pictures and not options.vectors:
        parser.error("--pictures, --vectors, or both are needed")
    bench = Bench(options)
    tasks = (["embed"] if options.pictures else []) + (["index", "query"] if options.vectors else [])
    rows = [row for kind in options.kinds.split(",") for task in tasks for row in bench.measure(task, kind)]
    shutil.rmtree(bench.scratch)
    settings = {"shards": options.shards, "probe": options.probe, "recall": options.recall, "precision": options.precision,
                "launcher": options.launcher}
    if options.vectors:
        path, _ = read_bin(options.vectors, "base")
        settings["dim"] = int(np.fromfile(path, "<u4", 2)[1])
    document = {"date": datetime.date.today().isoformat(), "rounds": options.rounds,
                "machine": {"processor": processor(), "cpus": os.cpu_count(), "host": platform.node()},
                "settings": settings, "rows": rows}
    report.write(document, options.out)
    sys.exit(0 if all(row["valid"] for row in rows) else 1)


if __name__ == "__main__":
    main()
