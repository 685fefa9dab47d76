"""Rows: a view's rows as plain Python values, the same from every database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import bindparam, text

from search_spaces.errors import UserError
from search_spaces.gpu import canonical_name
from tuning_db.columns import KIND, Kind
from tuning_db.schema import VIEWS
from tuning_db.store import TuningDB

Value = str | int | float | bool | datetime | None

# In reading order: smaller buckets first, trials as they came.
_ORDER = {
    "best_configs": "gpu, op, model, problem, skew, tokens_per_expert",
    "trials": "id",
}


@dataclass(frozen=True)
class Rows:
    """``columns`` and, row by row, one value for each."""

    columns: tuple[str, ...]
    values: list[tuple[Value, ...]]

    def dicts(self) -> list[dict[str, Value]]:
        """Each row by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.values]


def read_rows(db: TuningDB, view: str, *, gpu: str | None = None, model: str | None = None) -> Rows:
    """Rows of ``best_configs`` or ``trials``.

    ``gpu`` is a name in any spelling; ``model`` a model ("mixtral-8x7b"), a model with its layer
    ("mixtral-8x7b/gate_up") or a problem's key. Raises UserError for any other view.
    """
    if view not in VIEWS:
        raise UserError(f"unknown view '{view}': choose {' or '.join(VIEWS)}")
    clauses, values = ["1 = 1"], {}
    if gpu is not None:
        clauses.append("gpu = :gpu")
        values["gpu"] = canonical_name(gpu)
    if model is not None:
        clauses.append("(model = :model OR model LIKE :layers ESCAPE '!' OR problem = :model)")
        values["model"] = model
        values["layers"] = _literal(model) + "/%"
    query = text(f"SELECT * FROM {view} WHERE {' AND '.join(clauses)} ORDER BY {_ORDER[view]}")
    with db.reading() as session:
        result = session.execute(query.bindparams(*map(bindparam, values)), values)
        columns = tuple(result.keys())
        kinds = [KIND[name] for name in columns]
        found = [
            tuple(plain(value, kind) for value, kind in zip(row, kinds, strict=True))
            for row in result
        ]
    return Rows(columns, found)


def plain(value: Any, kind: Kind) -> Value:
    """A database's or a file's value in the column's own type.

    Raises ValueError when it cannot be read as that type.
    """
    if value is None:
        return None
    if kind is Kind.TIME:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).astimezone(
            timezone.utc
        )
    if kind is Kind.BOOL:
        return _boolean(value)
    if kind is Kind.INT:
        return int(value)
    return float(value) if kind is Kind.FLOAT else str(value)


def _boolean(value: Any) -> bool:
    known = {"0": False, "1": True, "false": False, "true": True}
    text_value = str(value).lower()
    if text_value not in known:
        raise ValueError(f"'{value}' is neither true nor false")
    return known[text_value]


def _literal(pattern: str) -> str:
    """The text with LIKE's wildcards taken for themselves."""
    for char in "!%_":
        pattern = pattern.replace(char, "!" + char)
    return pattern
