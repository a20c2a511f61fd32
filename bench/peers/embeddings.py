#!/usr/bin/env python3
"""A data set for ann.py out of a folder of embeddings: vectors of pictures, some of them held out as queries.

    mpirun -n 2 build/myriops embed --out EMBEDDINGS CORPUS...
    python embeddings.py EMBEDDINGS FOLDER --queries 1000

Writes base.fbin, query.fbin and groundtruth.bin (the 100 nearest by cosine, in float64) to FOLDER. Which pictures are
queries is drawn with a fixed seed. Needs h5py and numpy.
"""
import argparse
import pathlib

import h5py
import numpy as np

DEPTH = 100


def read(folder):
    parts = []
    for path in sorted(folder.glob("chunk-*.h5")):
        with h5py.File(path) as chunk:
            parts.append((chunk["ordinal"][:], chunk["embedding"][:].astype(np.float32)))
    ordinals, rows = (np.concatenate(column) for column in zip(*parts))
    return rows[np.argsort(ordinals)]


def write_rows(path, rows):
    with open(path, "wb") as file:
        np.array(rows.shape, "<u4").tofile(file)
        rows.astype("<f4").tofile(file)


def write_truth(path, parts):
    """Parts are the ids and distances of some queries each."""
    ids, away = (np.concatenate(column) for column in zip(*parts))
    with open(path, "wb") as file:
        np.array(ids.shape, "<u4").tofile(file)
        ids.astype("<u4").tofile(file)
        away.astype("<f4").tofile(file)


def nearest(base, queries):
    """Ids and distances (1 - cosine) of the DEPTH nearest of each."""
    away = 1 - queries.astype(np.float64) @ base.astype(np.float64).T
    ids = np.argsort(away, axis=1, kind="stable")[:, :DEPTH]
    return ids, np.take_along_axis(away, ids, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--queries", type=int, default=1000)
    options = parser.parse_args()
    rows = read(options.embeddings)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    order = np.random.default_rng(1).permutation(len(rows))
    queries, base = rows[order[:options.queries]], rows[np.sort(order[options.queries:])]
    options.folder.mkdir(parents=True, exist_ok=True)
    write_rows(options.folder / "base.fbin", base)
    write_rows(options.folder / "query.fbin", queries)
    parts = [nearest(base, queries[at:at + 100]) for at in range(0, len(queries), 100)]
    write_truth(options.folder / "groundtruth.bin", parts)
    print(f"{options.folder}: {base.shape[0]} vectors of {base.shape[1]} values, {len(queries)} queries")


if __name__ == "__main__":
    main()
