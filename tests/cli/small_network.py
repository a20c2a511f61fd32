"""A small network of 32x32 pictures, with fixed random weights, and its model card.

    small_network.py FOLDER

Convolution 3 to 32, pool, convolution 32 to 64, pool, 128 values from all of that: 6.1 million multiplications a picture,
so little that what is around the network shows. Writes FOLDER/small.onnx and FOLDER/small.conf. Needs Debian's python3-onnx.
"""
import pathlib
import sys

import numpy as np

SEED = 11
MEAN, STD = 127.0, 64.0


def weights():
    """Name to f32 array, the same every time."""
    rng = np.random.default_rng(SEED)
    shapes = {"w1": (32, 3, 3, 3), "b1": (32,), "w2": (64, 32, 3, 3), "b2": (64,), "w3": (128, 4096), "b3": (128,)}
    return {name: rng.normal(0, 1 / np.sqrt(np.prod(shape[1:]) or 1), shape).astype(np.float32) if name[0] == "w"
            else rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}


def convolve(x, w, b):
    """(n, c, h, w) f64 by 3x3 with a border of zeros, then ReLU, then the greatest of each 2x2."""
    n, _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((n, w.shape[0], height, width)) + b[:, None, None]
    for i in range(3):
        for j in range(3):
            out += np.einsum("nchw,oc->nohw", padded[:, :, i:i + height, j:j + width], w[:, :, i, j], optimize=True)
    out = np.maximum(out, 0)
    return out.reshape(n, -1, height // 2, 2, width // 2, 2).max(axis=(3, 5))


def embed(pixels):
    """What the network makes of (n, 32, 32, 3) u8, in f64, each row of length 1: the slow way, to compare with."""
    w = {name: value.astype(np.float64) for name, value in weights().items()}
    x = (pixels.astype(np.float64).transpose(0, 3, 1, 2) - MEAN) / STD
    x = convolve(convolve(x, w["w1"], w["b1"]), w["w2"], w["b2"])
    out = x.reshape(len(x), -1) @ w["w3"].T + w["b3"]
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def write(folder):
    """The ONNX file and the card; the card's path."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
             helper.make_node("Relu", ["c1"], ["r1"]), helper.make_node("MaxPool", ["r1"], ["p1"], **pool),
             helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1]),
             helper.make_node("Relu", ["c2"], ["r2"]), helper.make_node("MaxPool", ["r2"], ["p2"], **pool),
             helper.make_node("Flatten", ["p2"], ["f"], axis=1),
             helper.make_node("Gemm", ["f", "w3", "b3"], ["embedding"], transB=1)]
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 128])],
        [numpy_helper.from_array(value, name) for name, value in weights().items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)]), str(folder / "small.onnx"))
    card = folder / "small.conf"
    card.write_text("[model]\nname = small\nfile = small.onnx\n[input]\ntensor = image\nwidth = 32\nheight = 32\n"
                    "channels = RGB\nresize = stretch\nfilter = bilinear\ncrop = center\n"
                    f"mean = {MEAN:g}\nstd = {STD:g}\n[output]\nembedding = embedding\nmetric = cosine\n")
    return card


if __name__ == "__main__":
    print(write(sys.argv[1]))
