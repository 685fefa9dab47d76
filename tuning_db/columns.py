"""Columns: the type that each column of the views has outside SQL."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """Type of a column, whose value is the pandas dtype. Any column may have gaps."""

    TEXT = "string"
    INT = "Int64"
    FLOAT = "float64"
    BOOL = "boolean"
    TIME = "datetime64[us, UTC]"


_NAMES = {
    Kind.TEXT: (
        "gpu model problem op bucket skew config status source verified error gpu_busy "
        "template_hash gpu_uuid gpu_arch gpu_driver run_command run_versions run_git_revision "
        "run_status run_uid uid"
    ),
    Kind.INT: (
        "id trial_id registers spills smem_bytes registers_native spills_native gpu_sms "
        "gpu_memory_bytes run_id run_seed"
    ),
    Kind.FLOAT: (
        "tokens_per_expert time_us time_spread_us tflops gbps roofline default_us "
        "speedup_vs_default rel_error sm_clock_mhz temperature_c compile_seconds"
    ),
    Kind.BOOL: "is_default is_finalist is_winner",
    Kind.TIME: "run_started_at run_ended_at created_at decided_at",
}
KIND = {name: kind for kind, names in _NAMES.items() for name in names.split()}

# best_configs has these two in place of a trial's own id and uid; trials has all the others.
_OF_WINNERS = {"trial_id", "decided_at"}
TRIAL_COLUMNS = tuple(name for name in KIND if name not in _OF_WINNERS)

# Never empty in a trial; everything else may be unknown.
REQUIRED = frozenset(
    {"gpu", "gpu_arch", "model", "problem", "bucket", "tokens_per_expert", "skew", "config"}
    | {"status", "source", "verified", "is_default", "is_finalist", "is_winner", "created_at"}
    | {"run_uid", "run_versions", "run_seed", "run_status", "run_started_at", "uid"}
)
