#!/usr/bin/env python3
"""ONNX's cases with numbers, lists and shapes changed at random: each must be refused or computed, never crash.

    damage_cases.py PROGRAM [SEED...]

PROGRAM is onnx_cases; it is told that wrong results are no failures. A sanitized build makes the most of this.
Exit code 77: the onnx package or its cases are not there.
"""

import glob
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import warnings

try:
    import numpy as np
    import onnx
    from onnx import numpy_helper
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

DATA = "/usr/share/libonnx-testdata/data"
WHOLE = [-2**63, -2**62, -2**31, -3, -2, -1, 0, 1, 2, 3, 5, 7, 100, 2**31 - 1, 2**31, 2**62, 2**63 - 1]
REAL = [float("nan"), float("inf"), float("-inf"), 1e30, -1e30, -1.0, -0.5, 0.0, 0.3]
TEXT = [b"", b"linear", b"cubic", b"nearest", b"reflect", b"edge", b"wrap", b"align_corners", b"tf_crop_and_resize",
        b"max", b"SAME_UPPER", b"a...,b->b", b"ij,jk->ik"]
ATTRIBUTE = onnx.AttributeProto


def change_attribute(chance, attribute):
    if attribute.type == ATTRIBUTE.INT:
        attribute.i = chance.choice(WHOLE)
    elif attribute.type == ATTRIBUTE.FLOAT:
        attribute.f = chance.choice(REAL)
    elif attribute.type == ATTRIBUTE.STRING:
        attribute.s = chance.choice(TEXT)
    elif attribute.type == ATTRIBUTE.INTS and attribute.ints:
        what = chance.random()
        if what < 0.3:
            del attribute.ints[-1]
        elif what < 0.6:
            attribute.ints.append(chance.choice(WHOLE))
        else:
            attribute.ints[chance.randrange(len(attribute.ints))] = chance.choice(WHOLE)


def change_numbers(chance, array):
    at = chance.randrange(array.size)
    if array.dtype.kind == "f":
        array.flat[at] = chance.choice(REAL)
    elif array.dtype.kind in "iu":
        bounds = np.iinfo(array.dtype)
        array.flat[at] = min(max(chance.choice(WHOLE), int(bounds.min)), int(bounds.max))
    return array


def change_shape(chance, array):
    if array.ndim == 0:
        return array[None]
    return chance.choice([array[:0], array[0], array[None], array.reshape(-1), array[..., :1]])


def damage_tensor(chance, path, kinds):
    tensor = onnx.TensorProto()
    with open(path, "rb") as file:
        tensor.ParseFromString(file.read())
    if tensor.data_type in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED):
        return
    array = numpy_helper.to_array(tensor).copy()
    if "numbers" in kinds and array.size:
        array = change_numbers(chance, array)
    if "shapes" in kinds and chance.random() < 0.5:
        array = change_shape(chance, array)
    with open(path, "wb") as file:
        file.write(numpy_helper.from_array(np.ascontiguousarray(array)).SerializeToString())


def damage(chance, case):
    kinds = chance.sample(["attributes", "attributes", "numbers", "numbers", "shapes"], 2)
    path = os.path.join(case, "model.onnx")
    model = onnx.load(path)
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    if "attributes" in kinds and attributes:
        change_attribute(chance, chance.choice(attributes))
        with open(path, "wb") as file:
            file.write(model.SerializeToString())
    for tensor in sorted(glob.glob(os.path.join(case, "test_data_set_0", "input_*.pb"))):
        try:
            damage_tensor(chance, tensor, kinds)
        except Exception:  # no tensor at all: sequences and optional values, which are not run
            pass


def limit_memory():
    """Changed numbers ask for any amount. AddressSanitizer has a limit of its own, and needs its address space."""
    if "MYRIOPS_SANITIZED" not in os.environ:
        resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))


def run(program, seed):
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(os.path.join(DATA, "node"), os.path.join(folder, "node"))
        for case in sorted(glob.glob(os.path.join(folder, "node", "*"))):
            if os.path.exists(os.path.join(case, "model.onnx")):
                damage(chance, case)
        more = {"MYRIOPS_ONNX_DATA": folder, "UBSAN_OPTIONS": "halt_on_error=1",
                "ASAN_OPTIONS": "allocator_may_return_null=1:max_allocation_size_mb=600"}
        return subprocess.run([program, "--damaged"], env=dict(os.environ, **more), preexec_fn=limit_memory,
                              check=False).returncode


def main():
    warnings.filterwarnings("ignore")
    if not os.path.isdir(os.path.join(DATA, "node")):
        print(f"skipped: there is no {DATA} (apt install libonnx-testdata)")
        return 77
    for seed in [int(seed) for seed in sys.argv[2:]] or [1, 2, 3]:
        code = run(sys.argv[1], seed)
        print(f"seed {seed}: exit code {code}", flush=True)
        if code != 0:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
