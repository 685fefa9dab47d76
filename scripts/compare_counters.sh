#!/usr/bin/env bash
# Holds the emulator's counters against those of Nsight Compute, on this machine's first GPU:
# profiles one launch of each config that compare_counters.py names, then emulates the same launches
# and compares. Nothing is fetched.
#
#   scripts/compare_counters.sh
#
# NCU               Nsight Compute's command (default: ncu); it needs the right to read counters
# PYTHON            the Python to use (default: python3)
# LIGHT_MOE_SITE    a folder of extracted wheels, for packages that this Python lacks
# OUT               where the results go (default: build/results)
#
# Exit status: 0, 1 when more than two configs differ, 2 when one could not be profiled.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/gpu_environment.sh" || exit
ncu=${NCU:-ncu}
out=${OUT:-build/results}
mkdir -p "$out/ncu" || exit 1
command -v "$ncu" >/dev/null || { echo "error: no Nsight Compute ('$ncu'): name it in NCU" >&2; exit 2; }

metrics=$("$python" scripts/compare_counters.py --metrics) || exit 2
commands=$("$python" scripts/compare_counters.py --commands) || exit 2
while read -r config flags; do
    echo "== $config"
    # The first launch is the one that is checked, the second warms up, the third is profiled, as
    # it runs otherwise: clocks and caches do not change what is counted.
    # shellcheck disable=SC2086  # flags are several words
    "$ncu" --csv --page raw --print-units base --metrics "$metrics" \
        --kernel-name regex:^lm_ --launch-skip 2 --launch-count 1 \
        --clock-control none --cache-control none --log-file "$out/ncu/$config.csv" \
        "$python" -m tuner.run --config "$config" $flags --iterations 1 </dev/null || exit 2
done <<<"$commands"
exec "$python" scripts/compare_counters.py --profiles "$out/ncu" --out "$out"
