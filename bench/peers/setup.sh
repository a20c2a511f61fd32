#!/usr/bin/env bash
# A Python environment with the peers of the benchmarks, and what the networks are exported with.
#
#   bench/peers/setup.sh [FOLDER]      default .venv-peers beside the sources; prints the Python to use
#
# About 1 GB to download. The versions are those that the figures were made with.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-.venv-peers}

[ -x "$folder/bin/python" ] || python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --upgrade pip
"$folder/bin/python" -m pip install --quiet \
    onnxruntime==1.32.0 openvino==2026.4.1 onnx==1.23.2 numpy pillow
"$folder/bin/python" -m pip install --quiet --extra-index-url https://download.pytorch.org/whl/cpu \
    torch==2.15.0 torchvision==0.29.2
echo "$(cd "$folder" && pwd)/bin/python"
