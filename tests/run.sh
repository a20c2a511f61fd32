#!/usr/bin/env bash
# Builds and runs every test, from any folder, asking nothing. The last line is "N passed, N failed"
# (", N skipped" where some were); the status is 1 when one failed or none ran.
#
# MYRIOPS_DATA       folder of real test data; default ../shared/data beside the project, where it exists
# MYRIOPS_BUILD_DIR  where to build (default: build/ in the project)
set -uo pipefail
exec </dev/null

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${MYRIOPS_BUILD_DIR:-$root/build}
report=$build/tests.xml

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

rm -f "$report"
(cd "$build" && ctest --output-on-failure -j2 --output-junit "$report")
[ -s "$report" ] || give_up "ctest left no report"

# The counts are attributes of the first element: <testsuite tests= failures= disabled= skipped=
attribute() {
    grep -o -m1 "^[[:space:]]*$1=\"[0-9]*\"\|<testsuite [^>]*$1=\"[0-9]*\"" "$report" | head -n1 | sed 's/.*="\([0-9]*\)"$/\1/'
}
total=$(attribute tests)
failed=$(attribute failures)
# ctest calls a test it could not start "skipped" too; only those that asked for it are.
skipped=$(grep -c '<skipped message="SKIP_' "$report")
failed=$((failed + $(attribute skipped) - skipped))
skipped=$((skipped + $(attribute disabled)))
passed=$((total - failed - skipped))
if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ] && [ $((passed + failed)) -gt 0 ]
