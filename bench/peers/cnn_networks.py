#!/usr/bin/env python3
"""Export the networks of the benchmark, by name, into a folder; and their int8 versions beside them.

    python cnn_networks.py /tmp/zoo --photos PHOTOS               # all of them; PHOTOS holds WebDataset tars of JPEGs
    python cnn_networks.py /tmp/zoo resnet50 vit_b_32             # these

What counts is the shape of the work, so weights are random with a fixed seed. Three things make activations of a size
as trained networks have it: BatchNorm's statistics are settled on a few batches, its scale and shift are drawn, and
residual branches add a small part to what goes past them (else rounding grows from block to block as it does in no
trained network; ConvNeXt's own scales are 1e-6 before training). The only trained one is EfficientNet-Lite0, copied
from conf/models.

FOLDER/NAME.onnx      input "image" (batch, 3, size, size), first output "embedding" (batch, d): the pooled features
                      before the classifier, SqueezeNet's logits; opset 17, dynamic batch, TorchScript exporter
FOLDER/int8/NAME.onnx the same in QDQ form: activations uint8 a tensor, weights int8 a channel, calibrated on pictures;
                      of networks with LayerNorm only the products, which is what is done to such networks
"""
import argparse
import logging
import pathlib
import sys
import warnings

import numpy as np

import pictures

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE.parent.parent / "conf" / "models"
SEED = 2026
OPSET = 17

SHIFTS = (0.5, 1.5)  # mostly positive: random layers behind ReLU and a sharp BatchNorm are chaotic, trained ones are not
BRANCH_SCALE = 0.25  # what a residual branch adds, against 1 of what goes past it
RESIDUAL_BLOCKS = ("Bottleneck", "InvertedResidual", "MBConv", "ResBottleneckBlock")

# name: (picture side, path of the layer that is left out)
NETWORKS = {
    "resnet50": (224, "fc"),
    "mobilenet_v2": (224, "classifier"),
    "efficientnet-lite0": (224, None),
    "efficientnet_b0": (224, "classifier"),
    "mobilenet_v3_large": (224, "classifier"),
    "squeezenet1_1": (224, None),
    "densenet121": (224, "classifier"),
    "inception_v3": (299, "fc"),
    "convnext_tiny": (224, "classifier.2"),
    "regnet_y_400mf": (224, "fc"),
    "vit_b_32": (224, "heads"),
    "vit_b_16": (224, "heads"),
}


# ---- the network ---------------------------------------------------------------------------------------------------

def build(name, settling):
    """The network with random weights, its statistics settled on the batches `settling`, without its classifier."""
    import torch
    import torchvision

    torch.manual_seed(SEED)
    options = {}
    if name == "inception_v3":
        options = {"aux_logits": False, "transform_input": False, "init_weights": True}
    network = getattr(torchvision.models, name)(weights=None, **options)
    head = NETWORKS[name][1]
    if head is not None:
        parent, _, child = head.rpartition(".")
        owner = network.get_submodule(parent)
        if child.isdigit():
            owner[int(child)] = torch.nn.Identity()
        else:
            setattr(owner, child, torch.nn.Identity())
    draw_scales(network)
    settle(network.eval(), settling)
    return network.eval()


def draw_scales(network):
    """What training would have moved away from its first value: BatchNorm's scale and shift, layer scales."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
            torch.nn.init.uniform_(module.bias, *SHIFTS)
        elif hasattr(module, "layer_scale"):
            torch.nn.init.constant_(module.layer_scale, BRANCH_SCALE)
    for block in network.modules():
        if type(block).__name__ in RESIDUAL_BLOCKS:
            last_norm(block).weight.data.mul_(BRANCH_SCALE)


def last_norm(block):
    """The BatchNorm that ends a block's branch; ResNet's way past the branch stands behind it."""
    import torch

    norms = [module for path, module in block.named_modules()
             if isinstance(module, torch.nn.BatchNorm2d) and not path.startswith("downsample")]
    return norms[-1]


def settle(network, batches):
    """BatchNorm's running statistics become the mean over the batches; nothing else is in training mode."""
    import torch

    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None
        module.train()
    with torch.no_grad():
        for batch in batches if norms else []:
            network(torch.from_numpy(batch))


def export(network, size, path):
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter announces its retirement
        torch.onnx.export(
            network, (torch.zeros(2, 3, size, size),), str(path), opset_version=OPSET, dynamo=False,
            do_constant_folding=True, input_names=["image"], output_names=["embedding"],
            dynamic_axes={"image": {0: "batch"}, "embedding": {0: "batch"}})


# ---- int8 ----------------------------------------------------------------------------------------------------------

def quantize(source, target, calibration):
    """The QDQ form of an ONNX file, calibrated (minimum and maximum) on the pictures given."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.batches = iter(np.split(calibration, len(calibration) // 4))

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {"image": batch}

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    has_layer_norm = any(node.op_type == "LayerNormalization" for node in onnx.load(str(source)).graph.node)
    logging.getLogger().setLevel(logging.ERROR)  # it warns of every scale of one dimension
    quantization.quantize_static(
        str(prepared), str(target), Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        op_types_to_quantize=["Conv", "Gemm", "MatMul"] if has_layer_norm else None,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)
    prepared.unlink()


# ---- the command ---------------------------------------------------------------------------------------------------

def some_pictures(arguments, name, count, every):
    size = NETWORKS[name][0]
    if arguments.photos is None:
        return pictures.noise(count, size, SEED + every)
    return pictures.photographs(arguments.photos, count, size, name, every)


def make_one(arguments, name):
    path = arguments.folder / f"{name}.onnx"
    if name == "efficientnet-lite0":
        path.write_bytes((MODELS / path.name).read_bytes())
    else:
        settling = np.split(some_pictures(arguments, name, 32, 3), 4)
        export(build(name, settling), NETWORKS[name][0], path)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", flush=True)


def make_int8(arguments, name):
    target = arguments.folder / "int8" / f"{name}.onnx"
    quantize(arguments.folder / f"{name}.onnx", target, some_pictures(arguments, name, 32, 5))
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*", default=[], help="which networks; all without")
    parser.add_argument("--photos", type=pathlib.Path, help="folder of photographs; noise without")
    parser.add_argument("--no-int8", action="store_true", help="leave the int8 versions out")
    arguments = parser.parse_args()
    names = arguments.names or list(NETWORKS)
    unknown = [name for name in names if name not in NETWORKS]
    if unknown:
        parser.error(f"unknown networks {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    (arguments.folder / "int8").mkdir(parents=True, exist_ok=True)
    for name in names:
        make_one(arguments, name)
    for name in names if not arguments.no_int8 else []:
        make_int8(arguments, name)


if __name__ == "__main__":
    sys.exit(main())
