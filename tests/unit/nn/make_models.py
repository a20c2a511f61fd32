"""Small ONNX files with random weights, made of the blocks that image networks consist of.

    make_models.py FOLDER blocks|sequences|odd|deep|hostile|chains

Needs Debian's python3-onnx.
"""
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import sequences

rng = np.random.default_rng(7)


class Builder:
    def __init__(self):
        self.nodes, self.weights, self.n = [], [], 0

    def weight(self, *shape, scale=0.2, positive=False):
        values = rng.normal(0, scale, shape).astype(np.float32)
        return self.constant(np.abs(values) + 0.5 if positive else values)

    def constant(self, values):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, op, *inputs, out=None, **attributes):
        self.n += 1
        name = out or f"v{self.n}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"node{self.n}", **attributes))
        return name

    def conv(self, x, n_in, n_out, k, group=1, bias=True, **attributes):
        inputs = [x, self.weight(n_out, n_in // group, k, k)] + ([self.weight(n_out)] if bias else [])
        return self.add("Conv", *inputs, group=group, **attributes)

    def norm(self, x, n):
        return self.add("BatchNormalization", x, self.weight(n), self.weight(n), self.weight(n),
                        self.weight(n, positive=True), epsilon=1e-3)

    def clip(self, x, low=0.0, high=6.0):
        return self.add("Clip", x, self.constant(np.float32(low)), self.constant(np.float32(high)))

    def save(self, path, batch="batch", size=20, opset=14):
        graph = helper.make_graph(
            self.nodes, "blocks",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, size, size])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)], self.weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), path)


def residual(b):
    """ResNet: normalised convolutions, sums with and without a convolution on the short way."""
    x = b.add("Relu", b.norm(b.conv("image", 3, 16, 3, bias=False, pads=[1, 1, 1, 1]), 16))
    x = b.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = b.add("Relu", b.norm(b.conv(x, 16, 16, 3, bias=False, pads=[1, 1, 1, 1]), 16))
    y = b.norm(b.conv(y, 16, 16, 3, bias=False, pads=[1, 1, 1, 1]), 16)
    x = b.add("Relu", b.add("Add", y, x))
    short = b.norm(b.conv(x, 16, 24, 1, bias=False, strides=[2, 2]), 24)
    y = b.add("Relu", b.norm(b.conv(x, 16, 24, 3, bias=False, strides=[2, 2], pads=[1, 1, 1, 1]), 24))
    x = b.add("Relu", b.add("Add", b.norm(b.conv(y, 24, 24, 3, bias=False, pads=[1, 1, 1, 1]), 24), short))
    x = b.add("Flatten", b.add("GlobalAveragePool", x))
    b.add("Gemm", x, b.weight(10, 24), b.weight(10), transB=1, out="out")


def inverted(b):
    """MobileNetV2 and EfficientNet-Lite: depthwise, asymmetric pads, residual of the block's own input."""
    x = b.clip(b.conv("image", 3, 16, 3, strides=[2, 2], pads=[0, 0, 1, 1]))
    y = b.clip(b.conv(x, 16, 64, 1))
    y = b.clip(b.conv(y, 64, 64, 5, group=64, pads=[2, 2, 2, 2]))
    x = b.add("Add", x, b.conv(y, 64, 16, 1))
    y = b.clip(b.conv(x, 16, 48, 1))
    y = b.clip(b.conv(y, 48, 48, 3, group=48, strides=[2, 2], pads=[0, 0, 1, 1]))
    x = b.conv(y, 48, 20, 1)
    y = b.conv(x, 20, 20, 3, pads=[1, 1, 1, 1])
    x = b.add("Add", x, y)  # the residual is the convolution's input too
    x = b.add("ReduceMean", x, axes=[2, 3], keepdims=0)
    b.add("MatMul", x, b.weight(20, 7), out="out")


def fire(b):
    """SqueezeNet: concatenation, pools with ceil_mode, dropouts that do nothing, a convolution as classifier."""
    x = b.add("Relu", b.conv("image", 3, 16, 3, strides=[2, 2]))
    x = b.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    s = b.add("Relu", b.conv(x, 16, 8, 1))
    x = b.add("Concat", b.add("Relu", b.conv(s, 8, 16, 1)), b.add("Relu", b.conv(s, 8, 16, 3, pads=[1, 1, 1, 1])), axis=1)
    x = b.add("Dropout", x, b.constant(np.float32(0.5)), b.constant(np.array(False)))
    x = b.add("Dropout", x, b.constant(np.float32(0)), b.constant(np.array(True)))  # that drops nothing
    b.nodes[-1].output.append("mask")  # and whose mask nobody reads
    x = b.add("Relu", b.conv(x, 32, 10, 1))
    x = b.add("Flatten", b.add("GlobalAveragePool", x))
    b.add("Softmax", x, axis=1, out="out")


def excite(b):
    """Squeeze and excitation: products with one value a channel."""
    x = b.conv("image", 3, 16, 3, pads=[1, 1, 1, 1])
    x = b.add("Mul", x, b.add("Sigmoid", x))
    s = b.add("ReduceMean", x, axes=[2, 3], keepdims=1)
    s = b.add("Sigmoid", b.conv(b.add("HardSwish", b.conv(s, 16, 4, 1)), 4, 16, 1))
    x = b.add("HardSwish", b.add("Mul", s, x))
    x = b.add("Reshape", b.add("GlobalAveragePool", x), b.constant(np.array([0, -1])))
    b.add("Identity", x, out="out")


def pooled(b):
    """Grouped and dilated convolutions, average pools of all sorts."""
    x = b.add("Relu", b.conv("image", 3, 12, 3, pads=[2, 2, 2, 2], dilations=[2, 2]))
    x = b.conv(x, 12, 24, 3, group=3, pads=[1, 0, 1, 2])
    y = b.add("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)
    z = b.add("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = b.add("Relu", b.add("Add", y, z))
    x = b.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    x = b.add("Transpose", x, perm=[0, 2, 3, 1])
    b.add("Flatten", x, out="out")


def normalised(b):
    """Normalisation that cannot be fused: in front of the convolution, and behind a value used twice."""
    x = b.conv("image", 3, 16, 3)
    x = b.conv(b.add("Relu", b.norm(x, 16)), 16, 16, 1)
    y = b.norm(x, 16)
    x = b.add("Add", x, y)
    x = b.add("Mul", x, b.weight(16, 1, 1))
    x = b.add("Add", x, b.weight(1, 16, 1, 1))
    b.add("Flatten", b.add("GlobalMaxPool", x), out="out")


def padded(b):
    """A Pad before a convolution, fused, and one that must not be: another value than 0."""
    pads = b.constant(np.array([0, 0, 0, 1, 0, 0, 2, 1]))
    x = b.conv(b.add("Pad", "image", pads), 3, 8, 3, strides=[2, 2])
    x = b.conv(b.add("Pad", x, pads, b.constant(np.float32(0.7))), 8, 8, 3, auto_pad="SAME_LOWER")
    x = b.add("Flatten", b.add("GlobalAveragePool", b.add("Pad", x, pads, mode="reflect")))
    b.add("Gemm", x, b.weight(8, 5), b.weight(1), alpha=0.5, beta=2.0, out="out")


def folded(b):
    """Shapes computed as exporters do: Shape, Gather, Concat, Slice, Cast."""
    x = b.conv("image", 3, 8, 3)
    shape = b.add("Shape", x)
    first = b.add("Gather", shape, b.constant(np.array(0)), axis=0)
    first = b.add("Unsqueeze", first, b.constant(np.array([0])))
    rest = b.add("Slice", shape, b.constant(np.array([1])), b.constant(np.array([2])))
    area = b.add("Mul", b.add("Slice", shape, b.constant(np.array([2])), b.constant(np.array([3]))),
                 b.add("Slice", shape, b.constant(np.array([-1])), b.constant(np.array([9]))))
    x = b.add("Reshape", x, b.add("Concat", first, rest, area, axis=0))
    scale = b.add("Sqrt", b.add("Cast", area, to=1))
    x = b.add("Div", x, scale)
    x = b.add("Softmax", x, axis=-1)
    b.add("Flatten", x, out="out")


def heavy(b):
    """Some megabytes of weights: normalised convolutions, a product, a constant row."""
    x = b.add("Relu", b.norm(b.conv("image", 3, 64, 3, bias=False, pads=[1, 1, 1, 1], strides=[2, 2]), 64))
    x = b.add("Relu", b.norm(b.conv(x, 64, 256, 3, bias=False, pads=[1, 1, 1, 1]), 256))
    x = b.add("Relu", b.norm(b.conv(x, 256, 256, 3, bias=False, pads=[1, 1, 1, 1]), 256))
    x = b.add("Flatten", b.add("GlobalAveragePool", x))
    x = b.add("Gemm", x, b.weight(1024, 256), b.weight(1024), alpha=0.5, transB=1)
    b.add("Mul", x, b.weight(1024), out="out")


def token(b):
    """A step of a vision transformer: patches, LayerNormalization, attention, Gelu."""
    x = b.conv("image", 3, 16, 5, strides=[5, 5])
    x = b.add("Transpose", b.add("Reshape", x, b.constant(np.array([0, 16, -1]))), perm=[0, 2, 1])
    y = b.add("LayerNormalization", x, b.weight(16), b.weight(16), axis=-1)
    q, k, v = (b.add("Add", b.add("MatMul", y, b.weight(16, 16)), b.weight(16)) for _ in range(3))
    scores = b.add("Softmax", b.add("MatMul", q, b.add("Transpose", k, perm=[0, 2, 1])), axis=-1)
    x = b.add("Add", x, b.add("MatMul", scores, v))
    h = b.add("MatMul", x, b.weight(16, 32))
    gelu = b.add("Mul", b.add("Mul", h, b.add("Add", b.add("Erf", b.add("Div", h, b.constant(np.float32(2 ** 0.5)))),
                                              b.constant(np.float32(1)))), b.constant(np.float32(0.5)))
    x = b.add("MatMul", gelu, b.weight(32, 16))
    b.add("Gather", x, b.constant(np.array(0)), axis=1, out="out")


def fixed_batch(b):
    """Exported for one picture: the batch is written into a Reshape."""
    x = b.add("GlobalAveragePool", b.conv("image", 3, 8, 3))
    x = b.add("Reshape", x, b.constant(np.array([1, 8])))
    b.add("Gemm", x, b.weight(5, 8), transB=1, out="out")


def odd(folder):
    b = Builder()
    x = b.conv("image", 3, 8, 3, wobble=3)
    x = b.add("Det", x)
    b.add("Loopy", x, out="out")
    b.save(f"{folder}/odd.onnx")


def deep(folder):
    """A graph in an attribute of a node of a graph in an attribute..., 400 times."""
    def field(number, payload):
        length, head = len(payload), bytearray()
        while True:
            head.append(length & 127 | (128 if length > 127 else 0))
            length >>= 7
            if not length:
                return bytes([number << 3 | 2]) + bytes(head) + payload
    graph = b""
    for _ in range(400):
        graph = field(1, field(5, field(6, graph)))
    with open(f"{folder}/deep.onnx", "wb") as file:
        file.write(field(7, graph))


def hostile(folder):
    """Files that are valid protobuf and mean harm. Each is refused, or gives the reference's numbers on every backend."""
    def one(name, make, opset=14):
        b = Builder()
        make(b)
        b.save(f"{folder}/{name}.onnx", opset=opset)

    floats = [1.0, 1.0, 0.0, 0.0]
    one("perm", lambda b: b.add("Transpose", "image", perm=floats, out="out"))
    one("kernel", lambda b: b.add("Conv", "image", b.weight(4, 3, 3, 3), kernel_shape=[3.0, 3.0], out="out"))
    one("pool", lambda b: b.add("MaxPool", "image", kernel_shape=3, out="out"))
    one("axes", lambda b: b.add("ReduceMean", "image", axes=[2.0, 3.0], out="out"))
    one("squeeze", lambda b: b.add("Flatten", b.add("Squeeze", b.add("GlobalAveragePool", "image"), axes=[2.0]), out="out"),
        opset=11)
    one("group", lambda b: b.add("Conv", "image", b.weight(4, 3, 3, 3), group=1.0, out="out"))
    one("dropout", lambda b: b.add("Dropout", "image", b.constant(np.float32(0.5)), b.constant(np.array(True)), out="out"))
    one("no_pads", lambda b: b.add("Conv", "image", b.weight(4, 3, 3, 3), pads="1111", out="out"))

    def slice_of_nothing(b):
        """Backwards through a dimension of length 0: nothing, so that the sum behind it is the image's."""
        empty = b.add("ConstantOfShape", b.constant(np.array([0, 20])))
        cut = b.add("Slice", empty, b.constant(np.array([-1])), b.constant(np.array([-2**63])), b.constant(np.array([0])),
                    b.constant(np.array([-1])))
        b.add("Add", "image", b.add("Concat", cut, b.weight(1, 20), axis=0), out="out")
    one("slice", slice_of_nothing)

    def slice_at_run_time(b):
        """The same, of a value that the image makes: a cut of length 0 and back through it."""
        zero, far = b.constant(np.array([0])), b.constant(np.array([-2**63]))
        empty = b.add("Slice", "image", zero, zero, b.constant(np.array([2])))
        cut = b.add("Slice", empty, b.constant(np.array([-1])), far, b.constant(np.array([2])), b.constant(np.array([-1])))
        b.add("Concat", cut, "image", axis=2, out="out")
    one("slice_run", slice_at_run_time)

    def grow(b, n, times=1):
        x = "image"
        for _ in range(times):
            one_number = b.add("ReduceMean", b.add("ConstantOfShape", b.constant(np.array([n]))), axes=[0])
            x = b.add("Add", x, one_number)
        b.add("Identity", x, out="out")
    one("grow", lambda b: grow(b, 2**36))
    one("just_too_large", lambda b: grow(b, 2**26 + 1))
    one("hoard", lambda b: grow(b, 2**26, 5))
    one("pad", lambda b: b.add("Pad", "image", b.constant(np.zeros(8, np.int64)), b.constant(np.zeros(0, np.float32)), out="out"))
    one("pad_conv", lambda b: b.conv(b.add("Pad", "image", b.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1])),
                                           b.constant(np.zeros(0, np.float32))), 3, 4, 3, out="out"))
    one("pad_many", lambda b: b.add("Pad", "image", b.constant(np.zeros(8, np.int64)), b.constant(np.zeros(2, np.float32)), out="out"))

    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2**36])
    graph = helper.make_graph([helper.make_node("Add", ["image", "w"], ["out"])], "empty",
                              [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 20, 20])],
                              [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)], [tensor])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)]), f"{folder}/empty.onnx")

    def unknown(b):
        x = "image"
        for i in range(20000):
            x = b.add(f"Operator{i}OfNobody", x)
        b.add("Identity", x, out="out")
    one("unknown", unknown)

    inf, nan = float("inf"), float("nan")
    bounds = {"crossed": (6.0, 0.0), "above": (inf, inf), "below": (-inf, -inf), "low_nan": (nan, 1.0), "high_nan": (0.0, nan)}
    for name, (low, high) in bounds.items():
        def alone(b):
            b.add("Flatten", b.clip("image", low, high), out="out")

        def behind(b):
            """Behind a convolution, and behind a sum that cannot be made in place: the residual is read again."""
            x = b.add("Relu", b.conv("image", 3, 8, 3, pads=[1, 1, 1, 1]))
            y = b.clip(b.conv(x, 8, 8, 3, pads=[1, 1, 1, 1]), low, high)
            z = b.clip(b.add("Add", b.conv(x, 8, 8, 3, pads=[1, 1, 1, 1]), x), low, high)
            b.add("Flatten", b.add("Concat", x, y, z, axis=1), out="out")
        one(f"alone_{name}", alone)
        one(f"behind_{name}", behind)


def chains(folder):
    """Long graphs of small nodes: what is quadratic in the compiler shows."""
    def one(name, make):
        b = Builder()
        make(b)
        b.save(f"{folder}/{name}.onnx", size=4)

    def chain(b, operators, n=30000):
        x = "image"
        for i in range(n):
            x = b.add(operators[i % len(operators)], x)
        b.add("Flatten", x, out="out")

    def wide(b):
        """30,000 values that all live until one sum of means at the end."""
        made = [b.add("Relu", "image") for _ in range(30000)]
        b.add("Flatten", b.add("Concat", *made, axis=1), out="out")
    one("relus", lambda b: chain(b, ["Relu"]))
    one("copies", lambda b: chain(b, ["Identity"]))
    one("mixed", lambda b: chain(b, ["Relu", "Identity", "Sigmoid"]))
    one("wide", wide)


def crossed(b):
    """Clip with bounds that cross: ONNX gives the upper one, fused or not."""
    x = b.clip(b.conv("image", 3, 8, 3), low=6.0, high=0.0)
    y = b.clip("image", low=2.0, high=-1.0)
    b.add("Concat", b.add("Flatten", x), b.add("Flatten", y), axis=1, out="out")


def tiled(b):
    """Many channels and 3x3 windows, as Winograd's convolutions take them: edges that cut tiles, channels that fill no
    block, sums before and behind, neighbours of other kinds."""
    x = b.add("Relu", b.conv("image", 3, 32, 3, pads=[1, 1, 1, 1]))
    y = b.norm(b.conv(x, 32, 40, 3, bias=False, pads=[1, 1, 1, 1]), 40)
    y = b.add("Relu", b.conv(y, 40, 32, 3, pads=[1, 1, 1, 1]))
    x = b.add("Relu", b.add("Add", b.conv(y, 32, 32, 3, pads=[1, 1, 1, 1]), x))
    x = b.clip(b.conv(x, 32, 48, 3, pads=[0, 1, 1, 0]))
    x = b.add("HardSwish", b.conv(x, 48, 48, 3, group=48, pads=[1, 1, 1, 1]))
    y = b.add("MaxPool", b.conv(x, 48, 32, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    x = b.conv(x, 48, 20, 3, bias=False)
    x = b.conv(b.add("Concat", x, y, axis=1), 52, 32, 3)
    x = b.add("Concat", b.conv(x, 32, 32, 3, group=4), b.conv(x, 32, 16, 3), b.conv(x, 32, 48, 3), axis=1)
    x = b.conv(x, 96, 8, 1)
    b.add("Flatten", x, out="out")


def main():
    folder, what = sys.argv[1:]
    if what == "hostile":
        return hostile(folder)
    if what == "chains":
        return chains(folder)
    if what == "odd":
        return odd(folder)
    if what == "deep":
        return deep(folder)
    if what == "sequences":
        for block, opset in sequences.BLOCKS.items():
            b = Builder()
            block(b)
            b.save(f"{folder}/{block.__name__}.onnx", opset=opset)
        return
    for block in (residual, inverted, fire, excite, pooled, normalised, padded, folded, heavy, token, crossed,
                  fixed_batch, tiled):
        b = Builder()
        block(b)
        b.save(f"{folder}/{block.__name__}.onnx", batch=1 if block is fixed_batch else "batch",
               opset=17 if block is token else 14)


if __name__ == "__main__":
    main()
