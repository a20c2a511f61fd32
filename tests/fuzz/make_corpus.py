"""Files for the fuzzers to start from: the small models of the unit tests, and ONNX's own tests of our operators.

    make_corpus.py FOLDER

Status 77 without Debian's python3-onnx.
"""
import contextlib
import glob
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

try:
    import onnx
except ImportError:
    sys.exit(77)

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SCRIPTS = ((("make_models.py", "blocks"), ("make_models.py", "hostile"), ("make_broken.py",), ("make_weights.py",)))
MOST_BYTES = 16384
LARGE = {"hoard.onnx"}  # takes 1 GiB


def our_words():
    """Names of operators, and of their attributes, as the tables of the families have them."""
    names, attributes = set(), set()
    for path in glob.glob(f"{ROOT}/src/nn/op_*.c"):
        with open(path) as file:
            text = file.read()
        names |= set(re.findall(r'\{"([A-Z]\w+)", MYR_KIND', text))
        attributes |= set(re.findall(r"(\w+):(?:int|float|text|ints|floats|tensor) ", text))
    return names, attributes


def conformance_models():
    ours = our_words()[0]
    for path in sorted(glob.glob("/usr/share/libonnx-testdata/data/node/*/model.onnx")):
        with contextlib.suppress(Exception):
            if {node.op_type for node in onnx.load(path).graph.node} <= ours:
                yield os.path.basename(os.path.dirname(path)), path


def main():
    folder = sys.argv[1]
    shutil.rmtree(folder, ignore_errors=True)
    for kind in ("onnx", "safetensors", "hnsw"):
        os.makedirs(f"{folder}/{kind}")
    with tempfile.TemporaryDirectory() as top:
        for i, (script, *arguments) in enumerate(SCRIPTS):
            made = f"{top}/{i}/models"  # some scripts write beside their folder
            os.makedirs(made)
            subprocess.run([sys.executable, "-B", f"{ROOT}/tests/unit/nn/{script}", made, *arguments], check=True)
            for path in sorted(glob.glob(f"{made}/*.onnx") + glob.glob(f"{made}/*.safetensors")):
                kind = os.path.splitext(path)[1][1:]
                if 0 < os.path.getsize(path) <= MOST_BYTES and os.path.basename(path) not in LARGE:
                    shutil.copyfile(path, f"{folder}/{kind}/{i}_{os.path.basename(path)}")
    rng = random.Random(1)
    for i in range(48):  # damages of 8 bytes, and one byte more that chooses the graph
        with open(f"{folder}/hnsw/{i:02}", "wb") as file:
            file.write(rng.randbytes(8 * rng.randint(1, 4) + i % 2))
    with open(f"{folder}/onnx.dict", "w") as file:  # for libFuzzer: a text field has its length in front
        for word in sorted(set.union(*our_words())):
            file.write(f'"\\x{len(word):02x}{word}"\n')
    with open(f"{folder}/safetensors.dict", "w") as file:
        for word in ("dtype", "shape", "data_offsets", "__metadata__", "F16", "BF16", "F64", "I64", "conv.weight"):
            file.write(f'"\\"{word}\\""\n')
    for name, path in conformance_models():
        if os.path.getsize(path) <= MOST_BYTES:
            shutil.copyfile(path, f"{folder}/onnx/{name}.onnx")


if __name__ == "__main__":
    main()
