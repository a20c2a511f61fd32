"""What transformers are made of, as exporters write it: blocks for make_models.py."""
import numpy as np
from onnx import helper

BATCH, TOKENS, HEADS, WIDTH = 3, 16, 4, 8
ALL = HEADS * WIDTH


def number(b, value):
    return b.constant(np.float32(value))


def shape(b, *dims):
    return b.constant(np.array(dims, np.int64))


def tokens(b):
    """(batch, 16, 32) from the picture: 4 x 4 patches."""
    x = b.add("Reshape", b.conv("image", 3, ALL, 5, strides=[5, 5]), shape(b, 0, ALL, TOKENS))
    return b.add("Transpose", x, perm=[0, 2, 1])


def linear(b, x, n_in, n_out):
    return b.add("Add", b.weight(n_out), b.add("MatMul", x, b.weight(n_in, n_out)))


def head_first(b):
    """Attention as PyTorch exports it: tokens before the batch, batch and heads in one dimension, both sides scaled."""
    x = b.add("Transpose", tokens(b), perm=[1, 0, 2])
    all_three = b.add("Reshape", linear(b, x, ALL, 3 * ALL), shape(b, TOKENS, -1, 1, 3, ALL))
    all_three = b.add("Squeeze", b.add("Transpose", all_three, perm=[3, 1, 2, 0, 4]), shape(b, 2))
    heads = []
    for i in range(3):
        y = b.add("Gather", all_three, b.constant(np.array(i - 3 if i == 1 else i)), axis=0)
        y = b.add("Transpose", y, perm=[1, 0, 2])
        y = b.add("Reshape", y, shape(b, TOKENS, -1, WIDTH))
        y = b.add("Transpose", y, perm=[1, 0, 2])
        heads.append(b.add("Reshape", y, shape(b, -1, HEADS, TOKENS, WIDTH)))
    scale = WIDTH ** -0.25
    q = b.add("Mul", heads[0], number(b, scale))
    k = b.add("Mul", b.add("Transpose", heads[1], perm=[0, 1, 3, 2]), number(b, scale))
    y = b.add("MatMul", b.add("Softmax", b.add("MatMul", q, k), axis=-1), heads[2])
    y = b.add("Reshape", b.add("Transpose", y, perm=[2, 0, 1, 3]), shape(b, -1, ALL))
    y = b.add("Gemm", y, b.weight(ALL, ALL), b.weight(ALL), transB=1)
    y = b.add("Transpose", b.add("Reshape", y, shape(b, TOKENS, -1, ALL)), perm=[1, 0, 2])
    b.add("Flatten", b.add("Add", y, b.add("Transpose", x, perm=[1, 0, 2])), out="out")


def split_heads(b):
    """Attention with Split, a scale behind the product and a mask; then one token by Slice."""
    x = tokens(b)
    parts = [f"part{i}" for i in range(3)]
    b.n += 1
    b.nodes.append(helper.make_node("Split", [linear(b, x, ALL, 3 * ALL)], parts, name=f"node{b.n}", axis=2))
    q, k, v = (b.add("Transpose", b.add("Reshape", p, shape(b, 0, 0, HEADS, WIDTH)), perm=[0, 2, 1, 3]) for p in parts)
    scores = b.add("Div", b.add("MatMul", q, b.add("Transpose", k, perm=[0, 1, 3, 2])), number(b, WIDTH ** 0.5))
    mask = b.constant(np.triu(np.full((TOKENS, TOKENS), -1e9, np.float32), 1))
    y = b.add("MatMul", b.add("Softmax", b.add("Add", scores, mask), axis=-1), v)
    y = b.add("Reshape", b.add("Transpose", y, perm=[0, 2, 1, 3]), shape(b, 0, TOKENS, ALL))
    y = b.add("Add", x, linear(b, y, ALL, ALL))
    y = b.add("Slice", y, shape(b, 3), shape(b, 5), shape(b, 1))
    b.add("Flatten", y, out="out")


def gates(b):
    """Gelu in its forms and Swish, behind products and alone."""
    def erf(x, order):
        gate = b.add("Add", number(b, 1), b.add("Erf", b.add("Div", x, number(b, 2 ** 0.5)) if order else
                                                b.add("Mul", number(b, 0.5 ** 0.5), x)))
        if order:
            return b.add("Mul", b.add("Mul", x, gate), number(b, 0.5))
        return b.add("Mul", b.add("Mul", number(b, 0.5), x), gate)

    def tanh(x, by_power):
        cube = b.add("Pow", x, number(b, 3)) if by_power else b.add("Mul", b.add("Mul", x, x), x)
        inner = b.add("Add", x, b.add("Mul", number(b, 0.044715), cube))
        gate = b.add("Add", b.add("Tanh", b.add("Mul", number(b, (2 / np.pi) ** 0.5), inner)), number(b, 1))
        return b.add("Mul", b.add("Mul", x, number(b, 0.5)), gate)

    def quick(x, alpha):
        return b.add("Mul", x, b.add("Sigmoid", x if alpha == 1 else b.add("Mul", x, number(b, alpha))))

    x = tokens(b)
    for gate in (lambda y: erf(y, True), lambda y: erf(y, False), lambda y: tanh(y, True), lambda y: tanh(y, False),
                 lambda y: quick(y, 1.702), lambda y: quick(y, 1)):
        x = gate(linear(b, x, ALL, ALL))
    x = b.add("Transpose", x, perm=[0, 2, 1])
    b.add("Flatten", b.add("Add", erf(b.add("Softmax", x, axis=-1), True), quick(x, 1.5)), out="out")


def not_gates(b):
    """What looks like Gelu, Swish or LayerNormalization and is something else."""
    x = linear(b, tokens(b), ALL, ALL)
    gate = b.add("Add", number(b, 1), b.add("Erf", b.add("Div", x, number(b, 1.5))))
    y = b.add("Mul", b.add("Mul", x, gate), number(b, 0.5))
    gate = b.add("Add", number(b, 2), b.add("Erf", b.add("Div", x, number(b, 2 ** 0.5))))
    y = b.add("Add", y, b.add("Mul", b.add("Mul", x, gate), number(b, 0.5)))
    gate = b.add("Sigmoid", b.add("Mul", y, y))
    y = b.add("Add", y, b.add("Mul", x, gate))
    inner = b.add("Add", x, b.add("Mul", number(b, 0.044715), b.add("Pow", y, number(b, 3))))
    gate = b.add("Add", b.add("Tanh", b.add("Mul", number(b, (2 / np.pi) ** 0.5), inner)), number(b, 1))
    y = b.add("Mul", b.add("Mul", x, number(b, 0.5)), gate)
    difference = b.add("Sub", y, b.add("ReduceMean", y, axes=[1], keepdims=1))
    variance = b.add("ReduceMean", b.add("Mul", difference, difference), axes=[2], keepdims=1)
    y = b.add("Div", difference, b.add("Sqrt", b.add("Add", variance, number(b, 1e-3))))
    difference = b.add("Sub", y, b.add("ReduceMean", y, axes=[2], keepdims=1))
    variance = b.add("ReduceMean", b.add("Mul", difference, difference), axes=[2], keepdims=1)
    clipped = b.clip(b.add("Add", variance, number(b, 1e-3)), 0.4, 0.6)
    b.add("Flatten", b.add("Div", difference, b.add("Sqrt", clipped)), out="out")


def spread(b):
    """LayerNormalization as older exporters write it, with Pow and with Mul, with and without scale and shift."""
    x = tokens(b)
    for by_power, affine in ((True, True), (False, True), (True, False)):
        x = linear(b, x, ALL, ALL)
        difference = b.add("Sub", x, b.add("ReduceMean", x, axes=[-1 if by_power else 2], keepdims=1))
        square = b.add("Pow", difference, number(b, 2)) if by_power else b.add("Mul", difference, difference)
        variance = b.add("ReduceMean", square, axes=[-1], keepdims=1)
        x = b.add("Div", difference, b.add("Sqrt", b.add("Add", variance, number(b, 1e-5))))
        if affine:
            x = b.add("Add", b.add("Mul", x, b.weight(ALL)), b.weight(1, 1, ALL))
    b.add("Flatten", x, out="out")


def scaled_layer(b):
    """ConvNeXt: a convolution, rows of its pixels, a factor for each channel, the sum with the block's input."""
    x = b.conv("image", 3, ALL, 4, strides=[4, 4])
    y = b.conv(x, ALL, ALL, 3, group=ALL, pads=[1, 1, 1, 1])
    y = b.add("Transpose", y, perm=[0, 2, 3, 1])
    y = linear(b, b.add("LayerNormalization", y, b.weight(ALL), b.weight(ALL), axis=-1), ALL, 2 * ALL)
    y = linear(b, b.add("Relu", y), 2 * ALL, ALL)
    y = b.add("Mul", b.weight(ALL, 1, 1), b.add("Transpose", y, perm=[0, 3, 1, 2]))
    x = b.add("Add", y, x)
    x = b.conv(x, ALL, ALL, 3, group=ALL, pads=[1, 1, 1, 1])
    b.add("Flatten", b.add("Mul", x, b.weight(5)), out="out")


def regions(b):
    """Views of views: windows of a picture, halves of its channels, a turned and cut stack, broadcast pairs."""
    x = b.conv("image", 3, 12, 3, pads=[1, 1, 1, 1])
    windows = b.add("Transpose", b.add("Reshape", x, shape(b, 0, 12, 4, 5, 4, 5)), perm=[0, 2, 4, 3, 5, 1])
    y = linear(b, b.add("Reshape", windows, shape(b, -1, 25, 12)), 12, 6)
    y = b.add("Reshape", y, shape(b, -1, 4, 4, 5, 5, 6))
    y = b.add("Reshape", b.add("Transpose", y, perm=[0, 5, 1, 3, 2, 4]), shape(b, -1, 6, 20, 20))
    half = b.add("Slice", x, shape(b, 6), shape(b, 12), shape(b, 1))
    y = b.add("Add", y, half)
    z = b.add("Slice", b.add("Transpose", y, perm=[2, 0, 3, 1]), shape(b, 4), shape(b, 10), shape(b, 0))
    z = b.add("Sub", z, b.weight(20, 6))
    z = b.add("Div", b.add("Transpose", z, perm=[1, 0, 2, 3]), number(b, 3))
    z = b.add("Sub", number(b, 1), z)
    every_other = b.add("Slice", z, shape(b, 0), shape(b, 20), shape(b, 2), shape(b, 2))
    pooled = b.add("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    b.add("Concat", b.add("Flatten", every_other), b.add("Flatten", pooled), b.add("Flatten", b.add("Sqrt", b.add(
        "Add", b.add("Mul", z, z), number(b, 1)))), axis=1, out="out")


# Each with its operator set.
BLOCKS = {head_first: 17, split_heads: 13, gates: 17, not_gates: 17, spread: 13, scaled_layer: 17, regions: 13}
