#!/usr/bin/env python3
"""The floors of the house, read from the #include lines.

A file includes only from its own folder and from folders on floors below; folders on
one floor do not include each other; mpi.h is seen by dist/ and cli/ only.

    check_floors.py SOURCE_DIR     exit status 1 and one line for each violation
    check_floors.py --self-test    planted violations must be found
"""
import pathlib
import re
import sys

FLOOR = {"base": 0, "kernel": 1, "image": 2, "nn": 2, "corpus": 2, "store": 2, "exact": 2,
         "hnsw": 3, "partition": 3, "encoder": 3, "dist": 4, "eval": 5, "cli": 6}
# Public headers named otherwise than the module they belong to.
OWNER = {"status": "base", "hit": "base", "form": "base", "version": "base", "model": "nn", "calibration": "nn", "vectors": "store", "plan": "eval"}
MAY_SEE_MPI = {"dist", "cli"}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]')


def module_of(header):
    """The module an included file belongs to, or None for one of the system."""
    parts = header.split("/")
    if parts[0] == "myriops" and len(parts) == 2:
        name = parts[1].removesuffix(".h")
        return OWNER.get(name, name)
    return parts[0] if len(parts) > 1 and parts[0] in FLOOR else None


def violation(module, header):
    """Why this module may not include this header, or None."""
    if header == "mpi.h" and module not in MAY_SEE_MPI:
        return "mpi.h is for dist/ and cli/ only"
    other = module_of(header)
    if other is None or other == module:
        return None
    if other not in FLOOR:
        return f"'{other}' is no module; add it to the floors"
    if FLOOR[other] >= FLOOR[module]:
        return f"{other}/ (floor {FLOOR[other]}) is not below {module}/ (floor {FLOOR[module]})"
    return None


def sources(root):
    for path in sorted((root / "src").glob("*/*.[ch]")):
        yield path, path.parent.name
    for path in sorted((root / "include" / "myriops").glob("*.h")):
        yield path, OWNER.get(path.stem, path.stem)


def check(root):
    n_files = n_bad = 0
    for path, module in sources(root):
        n_files += 1
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            why = match and violation(module, match.group(1))
            if why:
                n_bad += 1
                print(f"{path.relative_to(root)}:{number}: {why}")
    print(f"{n_files} files, {n_bad} violations")
    return n_files > 0 and n_bad == 0


def self_test():
    planted = [("base", "kernel/kernel.h"), ("image", "nn/graph.h"), ("hnsw", "mpi.h"),
               ("store", "myriops/hnsw.h"), ("dist", "myriops/eval.h"), ("nn", "myriops/image.h")]
    allowed = [("dist", "mpi.h"), ("hnsw", "myriops/store.h"), ("cli", "dist/comm.h"),
               ("nn", "myriops/model.h"), ("base", "myriops/status.h"), ("store", "hdf5.h")]
    return all(violation(*case) for case in planted) and not any(violation(*case) for case in allowed)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    fine = self_test() if sys.argv[1] == "--self-test" else check(pathlib.Path(sys.argv[1]))
    sys.exit(0 if fine else 1)
