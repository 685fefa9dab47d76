#!/usr/bin/env bash
# Measures what docs/results/ holds of whole MoE layers, on this machine's first GPU: searches the
# layers of the models, and their gates on given logits, into one tuning DB; then times the winners
# beside the same layer by others, the gate beside torch's, and counts a layer's launches. A part of
# 0 minutes is left out, so that a machine lent for minutes can do them one at a time on one DB.
# Nothing is fetched. Runs whatever can still run when one part fails.
#
#   scripts/gpu_results_layer.sh [SEARCH [LAYER [GATE]]]    minutes (default: 2 a model, 5, 2)
#
# PYTHON            the Python to use (default: python3)
# LIGHT_MOE_SITE    a folder of extracted wheels, for packages that this Python lacks
# LIGHT_MOE_PEERS   the folder that scripts/peers_site.py makes, for vLLM and Humming
# DB                a tuning DB to add to (default: OUT/tuning.sqlite)
# MODELS, TOKENS    which (default: Mixtral 8x7B, Qwen3-30B-A3B, DeepSeek-V2-Lite, OLMoE; 1 to 8192)
# OUT               where the results go (default: build/results)
#
# Exit status: 0, or the last one that was not.
set -uo pipefail
search=${1:-2}
layer=${2:-5}
gate=${3:-2}
peers=""
if [ -n "${LIGHT_MOE_PEERS:-}" ]; then
    peers=$(realpath -e -- "$LIGHT_MOE_PEERS") || exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/gpu_environment.sh" || exit
export LIGHT_MOE_PEERS=$peers
out=${OUT:-build/results}
mkdir -p "$out" || exit 1
db=${DB:-$out/tuning.sqlite}
models=${MODELS:-mixtral-8x7b,qwen3-30b-a3b,deepseek-v2-lite,olmoe-1b-7b}
tokens=${TOKENS:-1,4,16,64,256,1024,4096,8192}
buckets=0.25,1,4,16,64,256,1024
status=0

part() {
    echo "== $(date +%T) $*"
    "$@" || status=$?
}

search_layers() {
    local model
    for model in ${models//,/ }; do
        part "$python" -m tuner.search --op moe_layer --model "$model" --buckets "$buckets" \
            --gpus 0 --trials 32 --minutes "$search" --db "$db"
        part "$python" -m tuner.search --op fused_gate --logits --model "$model" \
            --buckets "$buckets" --gpus 0 --trials 12 --minutes 0.3 --db "$db"
    done
    part "$python" -m tuning_db export --db "$db" "$out/tuning.parquet"
}

bench_layers() {
    part "$python" -m scripts.moe_peers.warm --models "$models" --tokens "$tokens"
    part "$python" scripts/bench_moe_layer.py --models "$models" --tokens "$tokens" \
        --minutes "$layer" --db "$db" --out "$out"
    part "$python" scripts/profile_moe_layer.py --models "$models" --db "$db" --out "$out"
}

bench_gates() {
    part "$python" scripts/bench_gate.py --models "$models" --tokens "$tokens" \
        --minutes "$gate" --db "$db" --out "$out"
}

[ "$search" = 0 ] || search_layers
[ "$layer" = 0 ] || bench_layers
[ "$gate" = 0 ] || bench_gates
exit "$status"
