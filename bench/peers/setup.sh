#!/usr/bin/env bash
# A Python environment with the peers of the benchmarks, and what the networks are exported with.
#
#   bench/peers/setup.sh [FOLDER]      default .venv-peers beside the sources; prints the Python to use
#
# hnswlib is Debian's, a header. About 1 GB to download. The versions are those that the figures were made with.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-.venv-peers}

[ -x "$folder/bin/python" ] || python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --upgrade pip
"$folder/bin/python" -m pip install --quiet \
    onnxruntime==1.32.0 openvino==2026.4.1 onnx==1.23.2 numpy h5py pillow faiss-cpu==1.15.1 scalable-vs==0.5.0
"$folder/bin/python" -m pip install --quiet --extra-index-url https://download.pytorch.org/whl/cpu \
    torch==2.15.0 torchvision==0.29.2
if ! dpkg-query -W -f '${Status}' libhnswlib-dev 2>/dev/null | grep -q 'ok installed'; then
    sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends libhnswlib-dev >/dev/null
fi
echo "$(cd "$folder" && pwd)/bin/python"
