#!/usr/bin/env bash
# Runs every test marked `gpu` on this machine, with its own python3 and nothing fetched: no pip,
# no network, at most 10 minutes. Writes what ran, where and how it ended into a folder:
# gpu_check.md (to commit under docs/results/), gpu_check.xml (JUnit) and gpu_check.log, whose last
# line names the test that was running, should one hang.
#
#   scripts/gpu_check.sh [-r REVISION] [--] [pytest arguments]
#
# -r REVISION       git revision to write down, where the checkout has come without its history
# PYTHON            the Python to use (default: python3)
# LIGHT_MOE_SITE    a folder of extracted wheels, for packages that this Python lacks
# OUT               where the result goes (default: build/gpu_check)
#
# Exit status: pytest's; a machine without a usable GPU runs no test and fails with status 5.
set -uo pipefail
command_line="scripts/gpu_check.sh $*"
source "$(dirname "${BASH_SOURCE[0]}")/gpu_environment.sh" || exit

revision=""
while getopts r: option; do
    case $option in
        r) revision=$OPTARG ;;
        *) echo "usage: scripts/gpu_check.sh [-r REVISION] [--] [pytest arguments]" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ -n "$revision" ] || revision=$(git describe --always --dirty 2>/dev/null || echo unknown)

out=${OUT:-build/gpu_check}
mkdir -p "$out" || exit 1
rm -f "$out"/gpu_check.{md,xml,log}

report=("$python" scripts/gpu_report.py --revision "$revision" --command "$command_line")
"${report[@]}" || exit 1

# The session limit lets pytest end by itself with a full report. The outer one is for a test
# that hangs inside the driver, where Python's own timers never fire: the log then has the stacks
# of all threads, too.
timeout --signal=INT --kill-after=15 570 \
    "$python" -m pytest -m gpu -p no:cacheprovider --session-timeout=540 --timeout=150 \
    -o verbosity_test_cases=1 -o faulthandler_timeout=120 \
    --junit-xml="$out/gpu_check.xml" -o junit_family=xunit1 --durations=20 "$@" 2>&1 |
    tee -i "$out/gpu_check.log"
status=${PIPESTATUS[0]}

"${report[@]}" --junit "$out/gpu_check.xml" --status "$status" >"$out/gpu_check.md"
echo "result: $out/gpu_check.md (exit status $status)"
exit "$status"
