#!/usr/bin/env bash
# Your pictures, searched by likeness, in one command.
#
#   ./jobs/quickstart.sh [FOLDER]
#
# Installs what is missing, builds, embeds the folder (default: Debian's open clip art),
# indexes it, measures recall, asks for the neighbours of a handful of its pictures and
# writes quickstart/hits.html. Run again, it does only what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-}
out=quickstart
n_queries=${QUICKSTART_QUERIES:-8}

say() { printf '\n== %s\n' "$*"; }

say "Packages and build"
./jobs/setup.sh
if [ -z "$folder" ]; then
    folder=/usr/share/openclipart/png
    if [ ! -d "$folder" ]; then
        say "Installing Debian's open clip art (8,121 pictures)"
        sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
        DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends openclipart-png >/dev/null
    fi
fi
[ -d "$folder" ] || { echo "quickstart: $folder: no such folder" >&2; exit 1; }

# shellcheck source=jobs/env.sh
. jobs/env.sh
ranks=$(myr_ranks)
run() { myr_mpirun "$ranks" build/myriops "$@"; }

# Each folder of pictures has its own place, so that trying another one keeps the first.
place=$out/$(printf '%s' "$(realpath "$folder")" | sha256sum | cut -c1-8)
mkdir -p "$place"

say "Embedding $folder on $ranks ranks"
run embed --label-from-folder --out "$place/embeddings" "$folder" | tee "$place/now.txt"
# A run that found everything done says nothing of the speed: the first one's words stay.
if ! grep -q '^0 in this run' "$place/now.txt" || [ ! -e "$place/embed.txt" ]; then mv "$place/now.txt" "$place/embed.txt"; fi
rm -f "$place/now.txt"

if [ ! -f "$place/index/index.json" ] || [ "$place/embeddings/manifest.json" -nt "$place/index/index.json" ]; then
    say "Building an index of 4 shards"
    run index --shards 4 --out "$place/index" "$place/embeddings"
else
    say "The index is there already"
fi

if [ ! -f "$place/eval.txt" ] || [ "$place/index/index.json" -nt "$place/eval.txt" ]; then
    say "Recall against exact search"
    run eval --index "$place/index" --sample 500 | tee "$place/eval.txt"
fi

say "Asking for the neighbours of $n_queries pictures"
# A spread of pictures, the same each time.
mapfile -t pictures < <(find "$folder" -type f \( -iname '*.png' -o -iname '*.jpg' -o -iname '*.jpeg' -o -iname '*.webp' \) |
    LC_ALL=C sort | awk -v n="$n_queries" '{ line[NR] = $0 } END { step = NR / n; if (step < 1) step = 1
        for (i = step / 2; i < NR; i += step) print line[int(i) + 1] }' | head -n "$n_queries")
run query --index "$place/index" -k 10 --format html --out "$out/hits.html" "${pictures[@]}"

say "Summary"
sed -n 2p "$place/embed.txt"
grep -E '^recall@10 |a query' "$place/eval.txt"
echo "open $PWD/$out/hits.html in a browser"
