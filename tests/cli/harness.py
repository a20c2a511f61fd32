"""What the tests of the program share: running it, alone or under mpirun, and making input for it.

Each test file is run by ctest as  python3 test_x.py  with MYRIOPS_BUILD_DIR in the environment.
Needs Debian's python3-pil, python3-h5py and python3-numpy, which jobs/setup.sh --tests installs.
"""
import atexit
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import unittest

import h5py
import numpy as np
from PIL import Image, ImageDraw

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MYRIOPS_BUILD_DIR", SOURCE / "build"))
PROGRAM = BUILD / "myriops"
DATA = pathlib.Path(os.environ.get("MYRIOPS_DATA", SOURCE.parent / "shared" / "data"))
SANITIZED = bool(os.environ.get("MYRIOPS_SANITIZED"))

DONE, FAILED, USAGE, STOPPED = 0, 1, 2, 75

scratch = pathlib.Path(tempfile.mkdtemp(prefix="myriops-cli-"))
atexit.register(shutil.rmtree, scratch, ignore_errors=True)


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return f"status {self.code}\n--- out\n{self.out}\n--- err\n{self.err}"


def command(args, ranks=None):
    """The command line; ranks None = without mpirun."""
    line = [str(PROGRAM), *map(str, args)]
    return ["mpirun", "-n", str(ranks), *line] if ranks else line


def environment(**more):
    env = dict(os.environ)
    if os.geteuid() == 0:
        env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", PRTE_ALLOW_RUN_AS_ROOT="1",
                   PRTE_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    env.update(OMPI_MCA_rmaps_base_oversubscribe="1", PRTE_MCA_rmaps_default_mapping_policy=":oversubscribe",
               OMPI_MCA_btl_vader_single_copy_mechanism="none", OMPI_MCA_hwloc_base_binding_policy="none",
               OMPI_MCA_mpi_yield_when_idle="1")
    env.update({name: str(value) for name, value in more.items()})
    return env


def myriops(*args, ranks=None, env=None, timeout=240, cwd=None, before=None):
    run = subprocess.run(command(args, ranks), capture_output=True, timeout=timeout, cwd=cwd or scratch, stdin=subprocess.DEVNULL,
                         env=environment(**(env or {})), preexec_fn=before)
    return Result(run.returncode, run.stdout.decode(errors="replace"), run.stderr.decode(errors="replace"))


def start(*args, ranks=None):
    """The program running in its own process group."""
    return subprocess.Popen(command(args, ranks), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                            env=environment(), cwd=scratch, start_new_session=True)


def ranks_of(process):
    """Process ids of the ranks under an mpirun; none once it has ended."""
    if process.poll() is not None:
        return []
    found = subprocess.run(["pgrep", "-g", str(os.getpgid(process.pid)), "-x", "myriops"], capture_output=True, text=True)
    pids = [int(pid) for pid in found.stdout.split()]
    if not pids:  # ranks have sessions of their own under some versions of Open MPI
        found = subprocess.run(["pgrep", "-P", str(process.pid), "-x", "myriops"], capture_output=True, text=True)
        pids = [int(pid) for pid in found.stdout.split()]
    return pids


def kill_all(process):
    for pid in ranks_of(process):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def folder(name):
    """A new empty folder."""
    path = scratch / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def picture(seed, width=160, height=120):
    """A picture of its own: a coloured ground and a few shapes."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), tuple(int(c) for c in rng.integers(0, 256, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, w, h = rng.integers(0, width), rng.integers(0, height), rng.integers(10, width), rng.integers(10, height)
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        shape = draw.ellipse if rng.integers(2) else draw.rectangle
        shape([int(x), int(y), int(x + w), int(y + h)], fill=colour)
    return image


def encode(image, kind="JPEG"):
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def pictures(name, n, kind="JPEG", size=(160, 120)):
    """A folder of n pictures, 00000.jpg, 00001.jpg, ..."""
    path = folder(name)
    end = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}[kind]
    for i in range(n):
        (path / f"{i:05d}.{end}").write_bytes(encode(picture(i, *size), kind))
    return path


def write_tar(path, members):
    """members: (name, bytes) in order."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def read_embeddings(path):
    """Keys and vectors of an embedding folder, in order."""
    keys, vectors = [], []
    for chunk in sorted(pathlib.Path(path).glob("chunk-*.h5")):
        with h5py.File(chunk, "r") as file:
            keys += [key.decode() for key in file["key"][:]]
            vectors.append(file["embedding"][:])
    return keys, np.concatenate(vectors) if vectors else np.zeros((0, 0))


def read_bad(path):
    """{key: reason} of an embedding folder."""
    bad = {}
    for chunk in sorted(pathlib.Path(path).glob("chunk-*.h5")):
        with h5py.File(chunk, "r") as file:
            bad.update(zip((key.decode() for key in file["bad/key"][:]), (text.decode() for text in file["bad/reason"][:])))
    return bad


def contents(path):
    """{name: bytes} of a folder's files."""
    return {file.name: file.read_bytes() for file in sorted(pathlib.Path(path).iterdir())}


def write_bin(path, rows):
    """big-ann's format, in the type that the rows have."""
    with open(path, "wb") as file:
        np.array(rows.shape, dtype=np.uint32).tofile(file)
        rows.tofile(file)
    return path


def write_u8bin(path, rows):
    return write_bin(path, rows.astype(np.uint8))


class Case(unittest.TestCase):
    maxDiff = 2000

    def check(self, result, code, *words):
        """The status, and words that must stand in what was said."""
        self.assertEqual(result.code, code, str(result))
        for word in words:
            self.assertIn(word, result.out + result.err, str(result))

    def embed(self, out, *operands, ranks=None, **more):
        result = myriops("embed", "--quiet", "--out", out, *operands, ranks=ranks, **more)
        self.check(result, DONE)
        return result


def main():
    if not PROGRAM.exists():
        sys.exit(f"{PROGRAM} is missing: build first")
    unittest.main(verbosity=2)
