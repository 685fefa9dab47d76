#!/usr/bin/env bash
# Measures what docs/results/ holds of a GPU, on this machine's first one: searches Mixtral 8x7B and
# OLMoE into one tuning DB, then times the winners beside their default and torch, then the host's
# cost of a dispatch. Nothing is fetched. Runs whatever can still run when one part fails.
#
#   scripts/gpu_results.sh [MINUTES]    for each model's search (default: 4)
#
# PYTHON            the Python to use (default: python3)
# LIGHT_MOE_SITE    a folder of extracted wheels, for packages that this Python lacks
# OUT               where the results go (default: build/results)
#
# Exit status: 0, or the last one that was not.
set -uo pipefail
minutes=${1:-4}
source "$(dirname "${BASH_SOURCE[0]}")/gpu_environment.sh" || exit
out=${OUT:-build/results}
mkdir -p "$out" || exit 1
db=$out/tuning.sqlite
buckets=1,4,16,64,256,1024,2048,4096
status=0

part() {
    echo "== $*"
    "$@" || status=$?
}

for model in mixtral-8x7b olmoe-1b-7b; do
    part "$python" -m tuner.search --op grouped_gemm --model "$model" --buckets "$buckets" \
        --gpus 0 --trials 32 --minutes "$minutes" --db "$db"
done
part "$python" -m tuning_db export --db "$db" "$out/tuning.parquet"
part "$python" scripts/bench_grouped_gemm.py --db "$db" --buckets "$buckets" --out "$out"
part "$python" scripts/bench_dispatch.py --db "$db" --out "$out"
exit "$status"
