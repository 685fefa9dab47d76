"""RegretRows: what winners lose at the edges of their buckets, as rows for a table or JSON."""

from __future__ import annotations

from search_spaces.problems import parse_problem
from tuning_db.regret import Regret, regrets
from tuning_db.rows import Rows, Value, read_rows
from tuning_db.store import TuningDB

COLUMNS = (
    "gpu", "model", "problem", "bucket", "point", "place", "config", "time_us", "best_config",
    "best_us", "regret", "selected_us", "selected_regret", "split", "source",
)  # fmt: skip


def regret_rows(db: TuningDB, *, gpu: str | None = None, model: str | None = None) -> Rows:
    """Every regret the DB can tell, of the GPUs and models that :func:`read_rows` would choose.

    ``point`` is in tokens per expert, ``place`` where it lies in the bucket's range: low, middle or
    high. Regrets are shares, 0.03 for 3 %; without a time and a regret a winner fails there.
    ``selected`` is what a dispatcher takes that weighs the buckets on both sides.
    """
    best = read_rows(db, "best_configs", gpu=gpu, model=model).dicts()
    places = dict.fromkeys(
        (str(row["gpu"]), str(row["model"]), str(row["problem"])) for row in best
    )
    return Rows(
        COLUMNS,
        [
            _row(name, label, regret)
            for name, label, key in places
            for regret in regrets(db, parse_problem(key), name)
        ],
    )


def _row(gpu: str, model: str, regret: Regret) -> tuple[Value, ...]:
    fails = regret.time_us is None
    return (
        gpu, model, regret.problem.key, str(regret.bucket), regret.point.tokens_per_expert,
        regret.where, regret.winner, regret.time_us, regret.best, regret.best_us,
        None if fails else regret.share, regret.selected_us, regret.selected_share, regret.split,
        regret.source.value,
    )  # fmt: skip
