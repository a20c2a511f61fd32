#!/usr/bin/env bash
# Fetches what is missing (Debian, apt) and builds build/myriops. Run it as often as you like.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: jobs/setup.sh [--packages-only] [--tests]

  --packages-only  install packages, build nothing
  --tests          also what the tests need; the build gets MYRIOPS_TESTS=ON
  --help           this text

MYRIOPS_BUILD_DIR  where to build (default: build/ in the project)
Asks nothing. Uses sudo for apt unless run as root; calls apt only when something is missing.
TEXT
}

packages_only=0
tests=0
for argument in "$@"; do
    case $argument in
    --packages-only) packages_only=1 ;;
    --tests) tests=1 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "setup.sh: unknown argument $argument" >&2; usage >&2; exit 2 ;;
    esac
done

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${MYRIOPS_BUILD_DIR:-$root/build}

packages=(
    build-essential cmake ninja-build pkg-config libopenmpi-dev openmpi-bin openssh-client libopenblas-dev
    libhdf5-dev zlib1g-dev libdnnl-dev libjpeg62-turbo-dev libspng-dev libwebp-dev libprotobuf-c-dev
    protobuf-c-compiler libonnx-dev libjansson-dev libinih-dev nettle-dev libxxhash-dev
)
if [ "$tests" = 1 ]; then
    packages+=(procps iproute2 strace libcmocka-dev libonnx-testdata python3-pil python3-h5py python3-numpy python3-onnx slurm-wlm munge)
fi

# A package counts when it, or one that provides it, is installed.
missing_packages() {
    local installed package
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package} ${Provides}\n' | sed -n 's/^installed //p' |
        sed 's/([^)]*)//g; s/,/ /g' | tr -s ' ' '\n' | sort -u)
    for package in "${packages[@]}"; do
        grep -qxF -- "$package" <<<"$installed" || echo "$package"
    done
}

if ! command -v dpkg-query >/dev/null; then
    echo "setup.sh: no dpkg here, so packages are left to you. Needed: ${packages[*]}" >&2
else
    mapfile -t missing < <(missing_packages)
    if [ "${#missing[@]}" -gt 0 ]; then
        as_root=()
        if [ "$(id -u)" != 0 ]; then
            if ! command -v sudo >/dev/null; then
                echo "setup.sh: not root and no sudo; ask for these packages: ${missing[*]}" >&2
                exit 1
            fi
            as_root=(sudo)
        fi
        echo "setup.sh: installing ${missing[*]}"
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null
    fi
fi
[ "$packages_only" = 0 ] || exit 0

generator=()
# A build folder keeps the generator it began with.
if [ ! -e "$build/CMakeCache.txt" ] && command -v ninja >/dev/null; then
    generator=(-G Ninja)
fi
switches=(-DCMAKE_BUILD_TYPE=Release)
if [ "$tests" = 1 ]; then
    switches+=(-DMYRIOPS_TESTS=ON)
elif [ ! -e "$build/CMakeCache.txt" ]; then
    switches+=(-DMYRIOPS_TESTS=OFF) # a build folder made for tests keeps them
fi
cmake -S "$root" -B "$build" "${generator[@]}" "${switches[@]}"
cmake --build "$build" --parallel "$(nproc)"
if [ -x "$build/myriops" ]; then
    echo "setup.sh: built $build/myriops"
elif [ "$tests" = 0 ]; then
    echo "setup.sh: the build ended without $build/myriops" >&2
    exit 1
fi
