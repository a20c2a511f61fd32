"""One small network with its weights stored in every way, right and wrong.

    make_weights.py FOLDER

All right ones give the numbers of plain.onnx: every weight is exact in 8 bits of fraction. Needs Debian's python3-onnx.
"""
import json
import os
import struct
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(11)
WEIGHTS = {"conv.weight": rng.integers(-8, 9, (4, 3, 3, 3)) / 16, "conv.bias": rng.integers(-8, 9, 4) / 4,
           "fc.weight": rng.integers(-8, 9, (5, 4)) / 8, "shape": np.array([0, 4], np.int64)}
F32, F16, F64, BF16, I64 = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16,
                            TensorProto.INT64)
NUMPY = {F32: np.float32, F16: np.float16, F64: np.float64, I64: np.int64}
NAMES = {F32: "F32", F16: "F16", F64: "F64", BF16: "BF16", I64: "I64"}


def raw(values, kind):
    if kind == BF16:
        return (np.asarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return np.asarray(values, NUMPY[kind]).tobytes()


def tensor(name, values, kind=F32):
    kind = I64 if values.dtype == np.int64 else kind
    return TensorProto(name=name, data_type=kind, dims=values.shape, raw_data=raw(values, kind))


def graph(path, weights, inputs=(), compute=F32):
    nodes = [helper.make_node("Conv", ["image", "conv.weight", "conv.bias"], ["a"], name="conv"),
             helper.make_node("Relu", ["a"], ["b"], name="relu"),
             helper.make_node("GlobalAveragePool", ["b"], ["c"], name="pool"),
             helper.make_node("Reshape", ["c", "shape"], ["d"], name="reshape"),
             helper.make_node("MatMul", ["d", "fc"], ["e"], name="fc"),
             helper.make_node("Identity", ["e"], ["out"], name="last")]
    nodes.insert(4, helper.make_node("Transpose", ["fc.weight"], ["fc"], name="turn", perm=[1, 0]))
    if compute != F32:  # as converters to half precision leave a network
        nodes[0].input[0] = "narrow"
        nodes.insert(0, helper.make_node("Cast", ["image"], ["narrow"], name="narrow", to=compute))
        nodes[-1] = helper.make_node("Cast", ["e"], ["out"], name="wide", to=compute)
    image = helper.make_tensor_value_info("image", compute, ["batch", 3, 8, 8])
    out = helper.make_tensor_value_info("out", compute, ["batch", 5])
    made = helper.make_graph(nodes, "weights", [image, *inputs], [out], weights)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 14)]), path)


def stored(kind):
    return [tensor(name, values, kind) for name, values in WEIGHTS.items()]


def external(folder):
    """external_*: right. Others: what is said of conv.weight is wrong."""
    whole, places = b"", {}
    for name, values in WEIGHTS.items():
        whole += b"\x55" * (-len(whole) % 64)
        data = raw(values, I64 if values.dtype == np.int64 else F16)
        places[name] = {"location": "weights.bin", "offset": str(len(whole)), "length": str(len(data))}
        whole += data
    os.makedirs(f"{folder}/below", exist_ok=True)
    for name, data in (("weights.bin", whole), ("below/weights.bin", whole), ("cut.bin", whole[:40]),
                       ("../outside.bin", whole)):
        with open(f"{folder}/{name}", "wb") as file:
            file.write(data)
    os.symlink("weights.bin", f"{folder}/link_inside.bin")
    os.symlink("../outside.bin", f"{folder}/link_out.bin")
    os.symlink("..", f"{folder}/up")
    os.mkfifo(f"{folder}/pipe.bin")

    def one(name, only=("conv.weight",), **changes):
        weights = []
        for key, values in WEIGHTS.items():
            weight = TensorProto(name=key, data_type=I64 if values.dtype == np.int64 else F16, dims=values.shape,
                                 data_location=TensorProto.EXTERNAL)
            place = dict(places[key], **(changes if only is None or key in only else {}))
            for entry, value in place.items():
                if value is not None:
                    weight.external_data.add(key=entry, value=value)
            weights.append(weight)
        graph(f"{folder}/{name}.onnx", weights)
    one("external")
    one("external_below", None, location="below/weights.bin")
    one("external_dot", None, location="./below/weights.bin")
    one("external_link", None, location="link_inside.bin")
    one("external_open", length=None, checksum="abc")
    one("no_location", location=None)
    one("empty_location", location="")
    one("absolute", location=f"{os.path.abspath(folder)}/weights.bin")
    one("dots", location="../outside.bin")
    one("dots_inside", location="below/../../outside.bin")
    one("link_out", location="link_out.bin")
    one("link_up", location="up/outside.bin")
    one("missing", location="nowhere.bin")
    one("folder", location="below")
    one("pipe", location="pipe.bin")
    one("cut", location="cut.bin")
    one("far", offset="1000000")
    one("very_far", offset=str(2**64 - 8))
    one("no_number", offset="abc")
    one("negative", offset="-8")
    one("too_large", offset=str(2**70))
    one("short", length="100")
    one("long", length=str(2**63))


def write_safetensors(path, header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def entries(kinds):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, kind in kinds.items():
        values = WEIGHTS.get(name, np.zeros(3))
        kind = I64 if values.dtype == np.int64 else kind
        piece = raw(values, kind)
        header[name] = {"dtype": NAMES[kind], "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(piece)]}
        data += piece
    return header, data


def safetensors(folder):
    infos = [helper.make_tensor_value_info(name, I64 if values.dtype == np.int64 else F32, values.shape)
             for name, values in WEIGHTS.items()]
    graph(f"{folder}/bare.onnx", [], infos)
    for kind in (F32, F16, BF16, F64):
        header, data = entries({**{name: kind for name in WEIGHTS}, "not_used": kind})
        write_safetensors(f"{folder}/{NAMES[kind]}.safetensors", header, data)
    mixed = dict(zip(WEIGHTS, (F16, F64, BF16, I64)))
    header, data = entries(mixed)
    write_safetensors(f"{folder}/mixed.safetensors", header, data)
    for name, part in (("first", list(WEIGHTS)[:2]), ("second", list(WEIGHTS)[2:])):
        write_safetensors(f"{folder}/{name}.safetensors", *entries({key: F32 for key in part}))

    def one(name, change=lambda header: None, more=b"", data=None):
        header, whole = entries({key: F32 for key in WEIGHTS})
        header = change(header) or header
        write_safetensors(f"{folder}/bad_{name}.safetensors", header, (whole if data is None else data) + more)

    def put(tensor, key, value):
        return lambda header: header[tensor].__setitem__(key, value)
    begin, end = entries({key: F32 for key in WEIGHTS})[0]["conv.bias"]["data_offsets"]
    one("overlap", put("conv.bias", "data_offsets", [begin - 4, end - 4]))
    one("gap", put("conv.bias", "data_offsets", [begin + 4, end + 4]))
    one("tail", more=b"1234")
    one("cut", data=b"1234")
    one("range", put("shape", "data_offsets", [0, 2**40]))
    one("backwards", put("shape", "data_offsets", [16, 0]))
    one("negative", put("shape", "data_offsets", [-16, 0]))
    one("three", put("shape", "data_offsets", [0, 16, 32]))
    one("size", put("conv.bias", "shape", [5]))
    one("overflow", put("conv.bias", "shape", [2**32, 2**32]))
    one("hidden", put("conv.bias", "shape", [0, 2**62, 2**62]))
    one("minus", put("conv.bias", "shape", [-4]))
    one("real", put("conv.bias", "shape", [4.0]))
    one("type", put("conv.bias", "dtype", 5))
    one("unknown", put("conv.bias", "dtype", "F4"))
    one("number", put("conv.bias", "dtype", "I32"))
    one("other_shape", put("conv.weight", "shape", [3, 4, 3, 3]))
    one("rank", put("conv.bias", "shape", [4] + [1] * 10))
    one("entry", lambda header: header.__setitem__("fc.weight", 3))
    one("picture", lambda header: header.__setitem__("image", {"dtype": "F32", "shape": [0, 3, 8, 8], "data_offsets": [0, 0]}))
    one("stranger", lambda header: {f"other.{key}": value for key, value in header.items() if key[0] != "_"})
    one("list", lambda header: b"[]")
    one("text", lambda header: b"{\"a\": ")
    one("twice", lambda header: json.dumps(header).encode()[:-1] + b', "fc.weight": {"dtype":"F32","shape":[0],"data_offsets":[0,0]}}')
    one("deep", lambda header: b"[" * 100000)
    for name, length in (("long", 2**63), ("short", 12)):
        with open(f"{folder}/bad_{name}.safetensors", "wb") as file:
            file.write(struct.pack("<Q", length) + b"{}")
    with open(f"{folder}/bad_empty.safetensors", "wb") as file:
        file.write(b"1234")
    with open(f"{folder}/bad_huge.safetensors", "wb") as file:  # a hole: takes no room on the disk
        file.write(struct.pack("<Q", 100000001))
        file.truncate(100000100)


def main():
    folder = sys.argv[1]
    graph(f"{folder}/plain.onnx", stored(F32))
    graph(f"{folder}/half.onnx", stored(F16))
    graph(f"{folder}/bfloat16.onnx", stored(BF16))
    graph(f"{folder}/double.onnx", stored(F64))
    fields = [helper.make_tensor(w.name, w.data_type, w.dims, numpy_helper.to_array(w).flatten().tolist()) for w in stored(F16)]
    graph(f"{folder}/half_fields.onnx", fields)
    brains = stored(BF16)
    for weight in brains[:3]:
        weight.int32_data.extend(np.frombuffer(weight.raw_data, np.uint16).tolist())
        weight.ClearField("raw_data")
    graph(f"{folder}/bfloat16_fields.onnx", brains)
    graph(f"{folder}/compute_half.onnx", stored(F16), compute=F16)
    graph(f"{folder}/compute_bfloat16.onnx", stored(BF16), compute=BF16)
    graph(f"{folder}/compute_double.onnx", stored(F64), compute=F64)
    external(folder)
    safetensors(folder)


if __name__ == "__main__":
    main()
