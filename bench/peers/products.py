#!/usr/bin/env python3
"""A data set for ann.py --metric ip: factors as recommenders make them, of few strong dimensions and many lengths.

    python products.py FOLDER --n 200000 --dim 64

Items are normal, with dimensions that fade by exp(-i / 20) and lengths spread lognormally (sigma 0.4); users are the
same without the lengths. Writes base.fbin, query.fbin and groundtruth.bin (the 100 greatest products, in float64) to
FOLDER, with a fixed seed. Needs numpy.
"""
import argparse
import pathlib

import numpy as np

from embeddings import write_rows, write_truth

DEPTH = 100


def greatest(base, queries):
    """Ids and distances (minus the product) of the DEPTH greatest of each."""
    away = -(queries.astype(np.float64) @ base.astype(np.float64).T)
    ids = np.argsort(away, axis=1, kind="stable")[:, :DEPTH]
    return ids, np.take_along_axis(away, ids, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--n", type=int, default=200000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--queries", type=int, default=1000)
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    fading = np.exp(-np.arange(options.dim) / 20)
    lengths = np.exp(0.4 * rng.normal(size=(options.n, 1)))
    base = (rng.normal(size=(options.n, options.dim)) * fading * lengths).astype(np.float32)
    queries = (rng.normal(size=(options.queries, options.dim)) * fading).astype(np.float32)
    options.folder.mkdir(parents=True, exist_ok=True)
    write_rows(options.folder / "base.fbin", base)
    write_rows(options.folder / "query.fbin", queries)
    write_truth(options.folder / "groundtruth.bin", [greatest(base, queries[at:at + 100]) for at in range(0, len(queries), 100)])
    print(f"{options.folder}: {options.n} vectors of {options.dim} values, {len(queries)} queries")


if __name__ == "__main__":
    main()
