#!/usr/bin/env python3
"""Networks on one machine: Myriops beside onnxruntime and OpenVINO, first correct, then timed.

    python cnn.py --networks /tmp/zoo --photos PHOTOS --threads 1 --out bench/results/cnn-1.json
    python cnn.py ... --only resnet50 --only vit_b_32 --engines onnxruntime-f32,openvino-bf16

For each network all engines answer the same photographs; one whose worst cosine to onnxruntime's f32 is below the bound
of its precision gets no figure. Then they are timed in turn, in rounds, the order turned from round to round, and the
median over the rounds is told: what else the machine does meets all of them alike. Threads are set, none is pinned.
cnn_networks.py makes the networks; Myriops is taken from build/, or --program.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

import numpy as np

import engines
import pictures
import report
from cnn_networks import NETWORKS

LEAST_COSINE = {"f32": 0.99999, "bf16": 0.995, "int8": 0.98}
N_COMPARED = 16  # photographs that answers are compared on, or a batch if that is more


# ---- one network ---------------------------------------------------------------------------------------------------

def worst_cosine(answers, wanted):
    a, b = np.asarray(answers, np.float64), np.asarray(wanted, np.float64)
    if a.shape != b.shape:
        raise engines.Refused(f"its answers are {a.shape}, not {b.shape}")
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = float(((a * b).sum(1) / np.where(lengths > 0, lengths, 1)).min())
    return cosine if np.isfinite(cosine) else -1.0


def share_of_spread(answers, wanted):
    """The error against how much the answers differ from picture to picture: a harder measure than the cosine."""
    spread = np.sqrt(np.square(wanted - wanted.mean(0)).mean())
    return float(np.sqrt(np.square(np.asarray(answers, np.float64) - wanted).mean()) / max(spread, 1e-30))


def open_engine(job, name, wanted):
    """(engine, result): the engine when its answers are right, else None and the reason."""
    engine, result, least = engines.Engine(name, job), {}, LEAST_COSINE[engines.ENGINES[name][1]]
    try:
        engine.ask("open")
        answers = engine.ask("answers")
        result["cosine"] = worst_cosine(answers, wanted)
        result["error_of_spread"] = share_of_spread(answers, wanted)
    except engines.Refused as refused:
        result["reason"] = str(refused)
    if "reason" not in result and result["cosine"] < least:
        result["reason"] = f"wrong: cosine {result['cosine']:.5f}, {least} is asked"
    if "reason" not in result:
        return engine, result
    engine.close()
    return None, result


def time_in_turn(opened, results, rounds, seconds):
    """The engines one after the other, `rounds` times; each round begins with another engine."""
    names = list(opened)
    for turn in range(rounds):
        for name in names[turn % len(names):] + names[:turn % len(names)] if names else []:
            if "reason" in results[name]:
                continue
            try:
                results[name].setdefault("rounds", []).append(opened[name].ask("rate", seconds))
                results[name].setdefault("load", []).append(os.getloadavg()[0])
            except engines.Refused as refused:
                results[name]["reason"] = str(refused)
    for name in names:
        if "reason" in results[name]:
            continue
        results[name]["images_per_s"] = float(np.median(results[name]["rounds"]))
        if name.startswith("myriops"):
            results[name]["facts"] = opened[name].ask("last_facts")


def measure(arguments, name, scratch):
    job = engines.Job(name, arguments.networks, NETWORKS[name][0], arguments.batch, arguments.threads, "embedding")
    count = -(-max(N_COMPARED, job.batch) // job.batch) * job.batch
    job.pictures = pictures.photographs(arguments.photos, count, job.size, name)
    job.scratch, job.photos, job.program = scratch, arguments.photos, arguments.program
    reference = engines.Onnxruntime(job, "f32")
    wanted = reference.answers().astype(np.float64)
    del reference
    opened, results = {}, {}
    for engine in arguments.engines:
        opened[engine], results[engine] = open_engine(job, engine, wanted)
        say(f"{name}, {engine}: " + (results[engine].get("reason") or f"cosine {results[engine]['cosine']:.6f}"))
    opened = {engine: it for engine, it in opened.items() if it is not None}
    time_in_turn(opened, results, arguments.rounds, arguments.seconds)
    for engine in opened:
        say(f"{name}, {engine}: {results[engine].get('images_per_s', 0):.1f} images/s")
        opened[engine].close()
    return results


# ---- the run -------------------------------------------------------------------------------------------------------

def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def machine():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    field = lambda name: next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")
    flags = field("flags").split()
    return {"processor": field("model name") or platform.processor(), "model": field("model\t"),
            "cpus": os.cpu_count(), "features": [flag for flag in wanted if flag in flags], "kernel": platform.release(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")}


def versions(program):
    import importlib.metadata

    found = {"python": platform.python_version()}
    for name in ("onnxruntime", "openvino", "onnx", "numpy", "pillow"):
        found[name] = importlib.metadata.version(name)
    if program.exists():
        found["myriops"] = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.strip()
        commit = subprocess.run(["git", "-C", engines.ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
        found["commit"] = commit.stdout.strip()
    return found


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=pathlib.Path, required=True, help="folder made by cnn_networks.py")
    parser.add_argument("--photos", type=pathlib.Path, required=True, help="folder of photographs: tars or JPEGs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of an engine in a round")
    parser.add_argument("--engines", default=",".join(engines.ENGINES), help="comma-separated; default: %(default)s")
    parser.add_argument("--only", action="append", default=[], help="this network, may be repeated")
    parser.add_argument("--program", type=pathlib.Path, default=engines.PROGRAM, help="myriops; default: build/myriops")
    parser.add_argument("--out", type=pathlib.Path, help="JSON; .csv, .md and .svg are written beside it")
    arguments = parser.parse_args()
    arguments.engines = arguments.engines.split(",")
    for name in arguments.engines:
        if name not in engines.ENGINES:
            parser.error(f"no engine {name}; there are {', '.join(engines.ENGINES)}")
    for name in arguments.only:
        if name not in NETWORKS:
            parser.error(f"no network {name}; there are {', '.join(NETWORKS)}")
    arguments.only = arguments.only or [name for name in NETWORKS if (arguments.networks / f"{name}.onnx").exists()]
    arguments.program = arguments.program.resolve()
    return arguments


def main():
    arguments = parse()
    document = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                "machine": machine(), "versions": versions(arguments.program), "threads": arguments.threads, "batch": arguments.batch,
                "rounds": arguments.rounds, "seconds": arguments.seconds, "reference": engines.REFERENCE,
                "engines": arguments.engines, "networks": {}}
    with tempfile.TemporaryDirectory(prefix="cnn-") as scratch:
        for name in arguments.only:
            document["networks"][name] = measure(arguments, name, pathlib.Path(scratch))
            if arguments.out:
                report.write(document, arguments.out)
    print(report.markdown(document))


if __name__ == "__main__":
    main()
