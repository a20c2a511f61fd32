"""ONNX files with one thing wrong each, and a few that only look so.

    make_broken.py FOLDER

Needs Debian's python3-onnx.
"""
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper
from make_models import Builder


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def save(path, nodes, weights=(), inputs=None, outputs=("out",), opset=14):
    inputs = [value("image", ["batch", 3, 20, 20])] if inputs is None else inputs
    graph = helper.make_graph(nodes, "broken", inputs, [value(name, None) for name in outputs], list(weights))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), path)


def main():
    folder = sys.argv[1]
    node = helper.make_node

    def one(name, make, opset=14):
        b = Builder()
        make(b)
        b.save(f"{folder}/{name}.onnx", opset=opset)

    def raw(name, *args, **kwargs):
        save(f"{folder}/{name}.onnx", *args, **kwargs)

    # Shapes that do not fit.
    one("channels", lambda b: b.add("Conv", "image", b.weight(4, 5, 3, 3), out="out"))
    one("conv_bias", lambda b: b.add("Conv", "image", b.weight(4, 3, 3, 3), b.weight(5), out="out"))
    one("small", lambda b: b.add("Conv", "image", b.weight(4, 3, 31, 31), out="out"))
    one("gemm", lambda b: b.add("Gemm", b.add("Flatten", "image"), b.weight(1201, 4), out="out"))
    one("matmul", lambda b: b.add("MatMul", "image", b.weight(19, 4), out="out"))
    one("add", lambda b: b.add("Add", "image", b.weight(1, 3, 20, 19), out="out"))
    one("reshape", lambda b: b.add("Reshape", "image", b.constant(np.array([0, 7, -1])), out="out"))
    one("reshape_minus", lambda b: b.add("Reshape", "image", b.constant(np.array([0, -5])), out="out"))
    one("concat", lambda b: b.add("Concat", "image", b.weight(1, 3, 20, 19), axis=1, out="out"))
    one("axis", lambda b: b.add("Softmax", "image", axis=9, out="out"))
    one("perm", lambda b: b.add("Transpose", "image", perm=[0, 1, 1, 3], out="out"))
    one("gather", lambda b: b.add("Gather", "image", b.constant(np.array([99])), axis=1, out="out"))
    one("norm", lambda b: b.add("BatchNormalization", "image", b.weight(4), b.weight(4), b.weight(4), b.weight(4), out="out"))
    raw("twice_batch", [node("Flatten", ["image"], ["out"], name="flat", axis=0)])

    # Numbers that are none.
    def spoiled(b, at, number, *shape):
        values = np.ones(shape, np.float32)
        values.flat[at] = number
        return b.constant(values)
    nan, inf = float("nan"), float("inf")
    one("nan_conv", lambda b: b.add("Conv", "image", spoiled(b, 17, nan, 4, 3, 3, 3), out="out"))
    one("inf_bias", lambda b: b.add("Conv", "image", b.weight(4, 3, 3, 3), spoiled(b, 3, -inf, 4), out="out"))
    one("nan_gemm", lambda b: b.add("Gemm", b.add("Flatten", "image"), spoiled(b, 1, nan, 1200, 4), out="out"))
    one("nan_matmul", lambda b: b.add("MatMul", "image", b.add("Transpose", spoiled(b, 5, inf, 4, 20), perm=[1, 0]), out="out"))
    one("nan_norm", lambda b: b.add("BatchNormalization", "image", b.weight(3), b.weight(3), b.weight(3), spoiled(b, 0, nan, 3), out="out"))

    def overflowing(b):
        b.weights.append(TensorProto(name="wide", data_type=TensorProto.DOUBLE, dims=[4, 3, 1, 1],
                                     raw_data=np.full(12, 1e300).tobytes()))
        b.add("Conv", "image", "wide", out="out")
    one("wide_double", overflowing)

    def mask(b):
        """As attention masks are: -inf where nothing may be looked at."""
        masked = np.zeros((20, 20), np.float32)
        masked[np.triu_indices(20, 1)] = -inf
        x = b.add("Softmax", b.add("Add", "image", b.constant(masked)), axis=-1)
        b.add("Flatten", b.add("MatMul", x, b.weight(20, 4)), out="out")
    one("mask", mask)

    # Names.
    raw("circle", [node("Add", ["image", "b"], ["a"], name="first"), node("Relu", ["a"], ["b"], name="second"),
                   node("Relu", ["b"], ["out"], name="third")])
    raw("itself", [node("Add", ["image", "out"], ["out"], name="ouroboros")])
    raw("unsorted", [node("Relu", ["c"], ["out"], name="late"), node("Sub", ["b", "a"], ["c"]), node("Relu", ["a"], ["b"]),
                     node("Relu", ["image"], ["a"]), node("Relu", ["image"], ["unused"])])
    x = [f"x{i}" for i in range(30000)]  # backwards: as deep as long
    raw("backwards", [node("Relu", [x[i + 1]], [x[i]]) for i in range(len(x) - 1)] + [node("Relu", ["image"], [x[-1]])],
        outputs=["x0"])
    raw("long_circle", [node("Relu", [x[i + 1]], [x[i]]) for i in range(len(x) - 1)] + [node("Relu", ["x0"], [x[-1]])],
        outputs=["x0"])
    raw("dangling", [node("Add", ["image", "nobody"], ["out"], name="lonely")])
    raw("no_output", [node("Relu", ["image"], ["a"])], outputs=["out"])
    raw("made_twice", [node("Relu", ["image"], ["out"]), node("Relu", ["image"], ["out"])])
    raw("over_input", [node("Relu", ["image"], ["image"])], outputs=["image"])
    w = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    raw("weight_twice", [node("Add", ["image", "w"], ["out"])], [w, w])
    raw("no_inputs", [node("Add", ["image", ""], ["out"], name="empty")])
    raw("too_many", [node("Relu", ["image", "image", "image"], ["out"], name="greedy")])
    raw("outputs", [node("Relu", ["image"], [f"o{i}" for i in range(40000)], name="many")], outputs=["o0"])
    raw("inner", [node("If", ["image"], ["out"], name="branch", then_branch=helper.make_graph([], "g", [], []))])

    # Two bytes each in the file, a hundred in memory: empty nodes, and fields that nobody knows.
    for name, part in (("crowd", b"\x0a\x00"), ("strangers", b"\xf8\x07\x00")):
        graph = part * 2**22
        length = bytes([len(graph) & 127 | 128, len(graph) >> 7 & 127 | 128, len(graph) >> 14 & 127 | 128, len(graph) >> 21])
        with open(f"{folder}/{name}.onnx", "wb") as file:
            file.write(b"\x3a" + length + graph)

    # Sizes.
    def picture(name, *dims):
        raw(name, [node("Relu", ["image"], ["out"], name="relu")], inputs=[value("image", ["batch", *dims])])
    picture("wide_input", 3, 2**40, 2**40)
    picture("large_input", 3, 2**20, 2**20)
    picture("open_input", 3, "height", 20)
    picture("zero_input", 3, 0, 20)
    picture("negative_input", 3, -7, 20)
    raw("no_shape", [node("Relu", ["image"], ["out"])], inputs=[value("image", None)])
    raw("nine_dims", [node("Relu", ["image"], ["out"])], inputs=[value("image", [1] * 9)])

    def weight_of(name, *dims, **fields):
        raw(name, [node("Add", ["image", "w"], ["out"], name="sum")],
            [TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, **fields)])
    weight_of("weight_negative", -1, -4, raw_data=b"1234" * 4)
    weight_of("weight_overflow", 2**32, 2**32, 2**32, raw_data=b"")
    weight_of("weight_hidden", 0, 2**62, 2**62, raw_data=b"")
    weight_of("weight_bytes", 4, raw_data=b"123")
    weight_of("weight_fields", 4, float_data=[1, 2, 3])
    weight_of("weight_dims", *[1] * 9, raw_data=b"1234")
    weight_of("weight_alone", 20, data_location=TensorProto.EXTERNAL)

    def huge(b, n, rank):
        return b.constant(np.full(rank, n))
    one("expand", lambda b: b.add("Add", "image", b.add("ConstantOfShape", huge(b, 2**15, 4)), out="out"))
    one("pads", lambda b: b.add("Conv", "image", b.weight(4, 3, 3, 3), pads=[2**31 - 1] * 4, out="out"))
    one("pads_max", lambda b: b.add("Conv", "image", b.weight(4, 3, 3, 3), pads=[2**63 - 1] * 4, out="out"))
    one("strides", lambda b: b.add("Conv", "image", b.weight(4, 3, 3, 3), strides=[0, 1], out="out"))
    one("dilations", lambda b: b.add("Conv", "image", b.weight(4, 3, 3, 3), dilations=[2**31 - 1, 2**62], out="out"))
    one("group", lambda b: b.add("Conv", "image", b.weight(4, 3, 3, 3), group=2**62, out="out"))

    def product(b):
        """A few hundred bytes that ask for 10^12 products before any picture is seen."""
        square = b.add("ConstantOfShape", huge(b, 8000, 2))
        for _ in range(2):
            square = b.add("MatMul", square, square)
        b.add("Add", "image", b.add("ReduceMean", square), out="out")
    one("work", product)


if __name__ == "__main__":
    main()
