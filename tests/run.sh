#!/usr/bin/env bash
# Builds and runs every test, from any folder, asking nothing. The last line is "N passed, N failed"
# (", N skipped" where some were); the status is 1 when one failed or none ran.
#
# Three builds: the one that is shipped, with all tests; one with AddressSanitizer and UBSan; one without oneDNN.
#
# usage: tests/run.sh [--quick]     --quick: the first build only
#
# MYRIOPS_DATA       folder of real test data; default ../shared/data beside the project, where it exists
# MYRIOPS_BUILD_DIR  where to build (default: build/ in the project)
set -uo pipefail
exec </dev/null

quick=0
if [ "${1:-}" = --quick ]; then quick=1; fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${MYRIOPS_BUILD_DIR:-$root/build}

give_up() {
    echo "tests/run.sh: $1" >&2
    echo "0 passed, 1 failed"
    exit 1
}

if [ -z "${MYRIOPS_DATA:-}" ] && [ -d "$root/../shared/data" ]; then
    MYRIOPS_DATA=$(cd "$root/../shared/data" && pwd)
fi
[ -z "${MYRIOPS_DATA:-}" ] || export MYRIOPS_DATA

MYRIOPS_BUILD_DIR=$build bash "$root/jobs/setup.sh" --tests || give_up "the build failed"
. "$root/jobs/env.sh"
passed=0 failed=0 skipped=0

# A number among the attributes of the report's first element: <testsuite tests= failures= disabled= skipped=
attribute() {
    grep -o -m1 "^[[:space:]]*$1=\"[0-9]*\"\|<testsuite [^>]*$1=\"[0-9]*\"" "$report" | head -n1 | sed 's/.*="\([0-9]*\)"$/\1/'
}

# run_stage NAME FOLDER [ctest options]: runs and counts the tests of a build.
run_stage() {
    local name=$1 folder=$2 total wrong left_out
    shift 2
    report=$folder/tests.xml
    echo "== $name"
    rm -f "$report"
    (cd "$folder" && ctest --output-on-failure -j2 --output-junit "$report" "$@")
    [ -s "$report" ] || give_up "ctest left no report ($name)"
    total=$(attribute tests)
    # ctest calls a test it could not start "skipped" too; only those that asked for it are.
    left_out=$(grep -c '<skipped message="SKIP_' "$report")
    wrong=$(($(attribute failures) + $(attribute skipped) - left_out))
    left_out=$((left_out + $(attribute disabled)))
    passed=$((passed + total - wrong - left_out))
    failed=$((failed + wrong))
    skipped=$((skipped + left_out))
}

# build_variant FOLDER [cmake options]
build_variant() {
    local folder=$1 generator=()
    shift
    if [ ! -e "$folder/CMakeCache.txt" ]; then generator=(-G Ninja); fi
    cmake -S "$root" -B "$folder" "${generator[@]}" -DMYRIOPS_TESTS=ON "$@" >/dev/null && cmake --build "$folder" --parallel "$(nproc)" ||
        give_up "the build in $folder failed"
}

run_stage "Release" "$build"
if [ "$quick" = 0 ]; then
    build_variant "$build-sanitized" -DCMAKE_BUILD_TYPE=Debug -DMYRIOPS_SANITIZE=ON
    run_stage "AddressSanitizer and UBSan" "$build-sanitized" -E '^(without-|house/|cli/test_(oracle|install|commands|resume|plan|hosts|scaling|slurm|torture|straggler|million|topology|one_rank|knn_graph|labels|cluster))'
    build_variant "$build-openblas" -DCMAKE_BUILD_TYPE=Release -DMYRIOPS_ONEDNN=OFF
    run_stage "Without oneDNN" "$build-openblas" -R '^(unit/(nn|encoder)/|mpi/test_dist/|cli/test_ranks)'
fi

if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ] && [ $((passed + failed)) -gt 0 ]
