#!/usr/bin/env python3
"""From files to vectors on one thread: `myriops embed` beside Pillow + onnxruntime, as one would write it today.

    python files.py --photos PHOTOS --out bench/results/files-1.json

Both read the same photographs (WebDataset tars), prepare them alike and run the default model; opening the model counts
for both, starting Python for none. The peer runs single pictures and batches of 8, and its better one is taken. They
take turns, the vectors are compared first, and medians are told. A second table tells of decoding, resizing and
normalising alone: the time of that phase on the same photographs in the same rounds.
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
import tempfile
import time

import numpy as np

import pictures

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "conf" / "models" / "efficientnet-lite0.onnx"
MEAN, STD, SIZE, SHORTER = np.float32(127), np.float32(128), 224, 256
LEAST_COSINE = {"f32": 0.9999, "bf16": 0.995, "int8": 0.98}
WANTED = {"f32": 1.4, "bf16": 2.1, "int8": 2.8}  # times the peer's images a second
WANTED_PREPARE = 2.0
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


# ---- the peer ------------------------------------------------------------------------------------------------------

def prepare(data):
    import io

    from PIL import Image

    picture = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = picture.size
    factor = SHORTER / min(width, height)
    picture = picture.resize((SHORTER, round(height * factor)) if width <= height else (round(width * factor), SHORTER), Image.BICUBIC)
    left, top = (picture.width - SIZE) // 2, (picture.height - SIZE) // 2
    values = np.asarray(picture.crop((left, top, left + SIZE, top + SIZE)), np.float32)
    return ((values - MEAN) / STD).transpose(2, 0, 1)


def run_peer(folder, batch):
    """Vectors, and seconds of each phase."""
    import onnxruntime

    seconds = {"read": 0.0, "prepare": 0.0, "infer": 0.0}
    begun = now = time.perf_counter()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])
    vectors, waiting = [], []

    def infer():
        vectors.append(session.run(["embedding"], {session.get_inputs()[0].name: np.stack(waiting)})[0])
        waiting.clear()

    def passed(phase):
        nonlocal now
        before, now = now, time.perf_counter()
        seconds[phase] += now - before

    passed("infer")
    for data in pictures.encoded(folder):
        passed("read")
        waiting.append(prepare(data))
        passed("prepare")
        if len(waiting) == batch:
            infer()
            passed("infer")
    if waiting:
        infer()
        passed("infer")
    vectors = np.concatenate(vectors)
    return vectors, {"seconds": time.perf_counter() - begun, **seconds}


def ask_peer(folder, batch, scratch):
    """In a process of its own, on one thread."""
    out = scratch / "peer.npy"
    run = subprocess.run([sys.executable, __file__, "--photos", folder, "--peer", str(batch), "--out", out], stdout=subprocess.PIPE,
                         text=True, env={**os.environ, **ONE_THREAD}, check=True)
    return np.load(out), json.loads(run.stdout)


# ---- Myriops -------------------------------------------------------------------------------------------------------

def ask_myriops(program, tars, precision, ranks, scratch):
    import h5py

    out = scratch / f"{precision}-{ranks}-{time.time_ns()}"
    line = [program, "embed", "--quiet", "--threads", "1", "--precision", precision, "--format", "json", "--out", out, *tars]
    start = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
    told = json.loads(subprocess.run([*start, *map(str, line)], stdout=subprocess.PIPE, text=True, check=True).stdout)
    vectors = []
    for chunk in sorted(out.glob("chunk-*.h5")):
        with h5py.File(chunk, "r") as file:
            vectors.append(file["embedding"][:])
    phases = {phase: seconds / ranks for phase, seconds in told["thread_seconds"].items()}
    return np.concatenate(vectors), {"precision": told["precision"], "seconds": told["seconds"], **phases}


# ---- both ----------------------------------------------------------------------------------------------------------

def worst_cosine(a, b):
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / lengths).min())


def processor():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def measure(arguments):
    tars = sorted(pathlib.Path(arguments.photos).glob("*.tar"))
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        ways = {"Pillow + onnxruntime, one by one": lambda: ask_peer(arguments.photos, 1, scratch),
                "Pillow + onnxruntime, batches of 8": lambda: ask_peer(arguments.photos, 8, scratch)}
        for precision in LEAST_COSINE:
            ways[f"Myriops {precision}"] = lambda precision=precision: ask_myriops(arguments.program, tars, precision, 1, scratch)
        ways["Myriops f32, 2 ranks"] = lambda: ask_myriops(arguments.program, tars, "f32", 2, scratch)
        wanted, _ = ways["Pillow + onnxruntime, one by one"]()
        rounds = {name: [] for name in ways}
        rows = {}
        for turn in range(arguments.rounds):
            names = list(ways)
            for name in names[turn % len(names):] + names[:turn % len(names)]:
                vectors, told = ways[name]()
                rounds[name].append(told)
                cosine = worst_cosine(np.float64(vectors), np.float64(wanted))
                least = LEAST_COSINE[told.get("precision", "f32")]
                if vectors.shape != wanted.shape or not cosine >= least:
                    raise SystemExit(f"{name}: cosine {cosine:.5f}, {least} is asked: no figures")
                rows[name] = {"cosine": cosine, "precision": told.get("precision", "f32")}
    n = len(wanted)
    for name, told in rounds.items():
        middle = sorted(told, key=lambda one: one["seconds"])[len(told) // 2]
        rows[name] |= {"images_per_s": n / statistics.median(one["seconds"] for one in told),
                       "phases_ms": {phase: 1000 * middle[phase] / n for phase in ("read", "prepare", "infer", "write") if phase in middle},
                       "wall_ms": 1000 * middle["seconds"] / n, "rounds": [n / one["seconds"] for one in told]}
    best = max(rows[name]["images_per_s"] for name in rows if name.startswith("Pillow"))
    prepare_ms = {name: 1000 * statistics.median(one["prepare"] for one in told) / n for name, told in rounds.items()}
    peer_ms = min(prepare_ms[name] for name in rows if name.startswith("Pillow"))
    for name, row in rows.items():
        row["ratio"] = row["images_per_s"] / best
        row |= {"prepare_ms": prepare_ms[name], "prepare_ratio": peer_ms / prepare_ms[name]}
    return {"date": datetime.date.today().isoformat(), "processor": processor(), "cpus": os.cpu_count(),
            "photographs": n, "rounds": arguments.rounds, "engines": rows}


def verdict(ratio, wanted):
    return f"  wanted {wanted:.1f}: {'yes' if ratio >= wanted else 'NO'}" if wanted else ""


def print_tables(result):
    print(f"{result['photographs']} photographs, {result['processor']}, medians of {result['rounds']} rounds")
    for name, row in result["engines"].items():
        phases = ", ".join(f"{phase} {ms:.2f}" for phase, ms in row["phases_ms"].items())
        rest = row["wall_ms"] - sum(row["phases_ms"].values())
        wanted = WANTED[row["precision"]] if name.startswith("Myriops") and "ranks" not in name else None
        print(f"{name:36} {row['images_per_s']:7.1f} images/s  {row['ratio']:.2f}  cosine {row['cosine']:.5f}  ms an image: "
              f"{phases}, starting and the rest {rest:.2f}; wall {row['wall_ms']:.2f}{verdict(row['ratio'], wanted)}")
    print("decoding, resizing and normalising alone:")
    for name, row in result["engines"].items():
        if "ranks" in name:
            continue
        wanted = WANTED_PREPARE if name.startswith("Myriops") else None
        print(f"{name:36} {row['prepare_ms']:7.2f} ms an image  {row['prepare_ratio']:.2f}{verdict(row['prepare_ratio'], wanted)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, help="folder of WebDataset tars")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--program", default=ROOT / "build" / "myriops")
    parser.add_argument("--out", required=True)
    parser.add_argument("--peer", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        vectors, told = run_peer(arguments.photos, arguments.peer)
        np.save(arguments.out, vectors)
        print(json.dumps(told))
        return
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
    result = measure(arguments)
    pathlib.Path(arguments.out).write_text(json.dumps(result, indent=1) + "\n")
    print_tables(result)


if __name__ == "__main__":
    main()
