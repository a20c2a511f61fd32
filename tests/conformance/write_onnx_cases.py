#!/usr/bin/env python3
"""The cases of operators that the installed onnx package has, as files that onnx_cases reads.

    write_onnx_cases.py FOLDER [PROGRAM]

Debian's libonnx-testdata ends with operator set 17; a newer onnx package knows more. With PROGRAM, that program is run
on the files. Exit code 77: there is no onnx package with cases.
"""

import os
import subprocess
import sys
import warnings

MOST_OPSET = 21

try:
    import numpy as np
    from onnx import numpy_helper
    from onnx.backend.test.loader import load_model_tests
except ImportError as missing:
    print(f"skipped: {missing} (set MYRIOPS_TORCH_PYTHON to a Python with a newer onnx)")
    sys.exit(77)


def write_tensors(folder, kind, values):
    for i, value in enumerate(values):
        if isinstance(value, np.ndarray) or np.isscalar(value):
            tensor = numpy_helper.from_array(np.asarray(value))
        elif hasattr(value, "SerializeToString"):
            tensor = value
        else:
            return False
        with open(os.path.join(folder, f"{kind}_{i}.pb"), "wb") as file:
            file.write(tensor.SerializeToString())
    return True


def write(case, folder):
    """Versions above 21 become 21: what they changed in operators that 21 has are element types, not meanings."""
    for used in case.model.opset_import:
        if used.domain in ("", "ai.onnx"):
            used.version = min(used.version, MOST_OPSET)
    if not case.data_sets:
        return False
    data = os.path.join(folder, "node", case.name, "test_data_set_0")
    os.makedirs(data, exist_ok=True)
    inputs, outputs = case.data_sets[0]
    if not (write_tensors(data, "input", inputs) and write_tensors(data, "output", outputs)):
        return False
    with open(os.path.join(folder, "node", case.name, "model.onnx"), "wb") as file:
        file.write(case.model.SerializeToString())
    return True


def main():
    warnings.filterwarnings("ignore")
    cases = load_model_tests(kind="node")
    n = sum(write(case, sys.argv[1]) for case in cases if case.model is not None)
    print(f"{n} of {len(cases)} cases have nothing but tensors")
    if len(sys.argv) > 2:
        return subprocess.run([sys.argv[2]], env=dict(os.environ, MYRIOPS_ONNX_DATA=sys.argv[1]), check=False).returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
