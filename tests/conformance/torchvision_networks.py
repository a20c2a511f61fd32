#!/usr/bin/env python3
"""Every family of torchvision's classifiers against ONNX Runtime; segmentation, detectors' backbones and others too.

Each network gets random weights from a fixed seed, is exported to ONNX with its batch left open, and is run on two
pictures by ONNX Runtime and by the program run_network on every backend. The largest difference may be 1e-4 of the
largest value. Exit code 77: the Python modules it needs are not there.
"""

import argparse
import inspect
import os
import subprocess
import sys
import tempfile
import time
import warnings

try:
    import numpy as np
    import onnxruntime
    import torch
    import torchvision
except ImportError as missing:
    print(f"skipped: {missing} (set MYRIOPS_TORCH_PYTHON to a Python with torch, torchvision, onnx and onnxruntime)")
    sys.exit(77)

FAMILIES = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "regnet_x_400mf",
    "regnet_y_400mf", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t",
    "vgg11", "vit_b_32", "wide_resnet50_2",
]
OTHERS = ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large",
          "fasterrcnn_resnet50_fpn", "super_resolution", "decoder", "masked_attention"]
SIZES = {"inception_v3": 299, "ssdlite320_mobilenet_v3_large": 320, "fasterrcnn_resnet50_fpn": 128, "decoder": 64,
         "super_resolution": 48, "masked_attention": 64}
TOLERANCE = 1e-4
BATCH = 2


class FirstOf(torch.nn.Module):
    """One of the results of a network that has several."""

    def __init__(self, network, key):
        super().__init__()
        self.network, self.key = network, key

    def forward(self, picture):
        return self.network(picture)[self.key]


class SuperResolution(torch.nn.Module):
    """Four times as wide: sub-pixel convolution on top of cubic interpolation."""

    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.Conv2d(16, 48, 3, padding=1)
        self.slope = torch.nn.PReLU(16)

    def forward(self, picture):
        details = torch.nn.functional.pixel_shuffle(self.last(self.slope(self.first(picture))), 4)
        return details + torch.nn.functional.interpolate(picture, scale_factor=4, mode="bicubic", align_corners=False)


class Decoder(torch.nn.Module):
    """Down and up again, normalised over groups and pictures."""

    def __init__(self):
        super().__init__()
        self.down, self.up = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.ConvTranspose2d(8, 8, 4, 2, 1)
        self.groups, self.single = torch.nn.GroupNorm(4, 8), torch.nn.InstanceNorm2d(8, affine=True)
        self.last = torch.nn.Conv2d(11, 5, 1)

    def forward(self, picture):
        deep = self.single(torch.nn.functional.gelu(self.groups(self.down(picture))))
        return self.last(torch.cat([torch.nn.functional.mish(self.up(deep)), picture], 1))


class MaskedAttention(torch.nn.Module):
    """Layers as a text encoder has them, each token seeing those before it; products by Einsum."""

    def __init__(self):
        super().__init__()
        self.tokens = torch.nn.Conv2d(3, 64, 16, 16)
        layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, norm_first=True)
        self.layers = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, picture):
        tokens = self.tokens(picture).flatten(2).transpose(1, 2)
        n = tokens.shape[1]
        tokens = self.layers(tokens, mask=torch.triu(torch.full((n, n), float("-inf")), 1))
        return torch.einsum("bnd,bmd->bnm", tokens, tokens).cumsum(-1).softmax(-1)


def make_other(name):
    models, own = torchvision.models, {"weights": None, "weights_backbone": None}
    if name in ("lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"):
        return FirstOf(getattr(models.segmentation, name)(**own), "out")
    if name in ("ssdlite320_mobilenet_v3_large", "fasterrcnn_resnet50_fpn"):
        return FirstOf(getattr(models.detection, name)(**own).backbone, "0")
    return {"super_resolution": SuperResolution, "decoder": Decoder, "masked_attention": MaskedAttention}[name]()


def make(name):
    """The network with random weights: statistics too, and what torchvision begins with zeros or next to them."""
    torch.manual_seed(7)
    more = {"init_weights": True, "aux_logits": False} if name == "googlenet" else {}
    if name == "inception_v3":
        more = {"init_weights": False, "aux_logits": True}
    network = make_other(name) if name in OTHERS else getattr(torchvision.models, name)(weights=None, **more)
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    with torch.no_grad():
        for key, weights in network.named_parameters():
            if "layer_scale" in key:
                weights.uniform_(0.1, 0.5)
            elif weights.abs().max() == 0:
                weights.normal_(0, 0.05)
    return network.eval()


def export(network, picture, path):
    """ONNX by the TorchScript exporter: operator set 14, or the next one that takes the network."""
    more = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    for opset in 14, 17:
        try:
            torch.onnx.export(network, picture, path, opset_version=opset, input_names=["picture"],
                              output_names=["scores"], dynamic_axes={"picture": {0: "n"}, "scores": {0: "n"}}, **more)
            return opset
        except Exception as problem:  # whatever the exporter raises for an operator it does not know
            last = problem
    raise last


def run_ours(program, model, backend, pictures, folder):
    given, made = os.path.join(folder, "input.f32"), os.path.join(folder, "output.f32")
    pictures.tofile(given)
    began = time.time()
    result = subprocess.run([program, model, backend, given, made], stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        return None, result.stderr.strip(), time.time() - began
    return np.fromfile(made, np.float32), "", time.time() - began


def check(name, arguments, folder):
    """Rows of the table; whether all is well."""
    side = SIZES.get(name, 224)
    if name not in OTHERS and not hasattr(torchvision.models, name):
        return [(name, "", "", "not in this torchvision")], True
    network, model = make(name), os.path.join(folder, name + ".onnx")
    pictures = np.random.default_rng(7).standard_normal((BATCH, 3, side, side), dtype=np.float32)
    try:
        opset = export(network, torch.from_numpy(pictures), model)
    except Exception as problem:
        return [(name, "", "", f"cannot be exported: {str(problem).splitlines()[0]}")], True
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    want = session.run(None, {"picture": pictures})[0].ravel()
    rows, right = [], True
    for backend in arguments.backends.split(","):
        got, reason, seconds = run_ours(arguments.program, model, backend, pictures, folder)
        if got is None or got.shape != want.shape:
            rows.append((name, backend, str(opset), f"REFUSED: {reason}"))
            right = False
            continue
        difference = float(np.abs(got - want).max() / np.abs(want).max())
        well = difference < TOLERANCE  # false for NaN
        rows.append((name, backend, str(opset), f"{difference:8.1e} {seconds:6.1f} s{'' if well else '  WRONG'}"))
        right = right and well
    os.remove(model)
    return rows, right


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True, help="run_network")
    parser.add_argument("--backends", default="onednn,openblas")
    parser.add_argument("families", nargs="*", default=FAMILIES + OTHERS)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    n_wrong = 0
    print(f"{'network':30} {'backend':9} {'opset':5} largest difference, time with loading")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.families:
            rows, right = check(name, arguments, folder)
            n_wrong += not right
            for row in rows:
                print("{:30} {:9} {:5} {}".format(*row), flush=True)
    print(f"{len(arguments.families)} networks, {n_wrong} wrong")
    return 1 if n_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
