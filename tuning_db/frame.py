"""Frame: a view as a tidy pandas DataFrame."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tuning_db.columns import KIND
from tuning_db.rows import Rows, read_rows
from tuning_db.store import TuningDB

if TYPE_CHECKING:
    import pandas as pd


def frame(
    path_or_url: str | os.PathLike[str] | None = None, view: str = "best_configs"
) -> pd.DataFrame:
    """``best_configs`` (a row a winner) or ``trials`` (a row a trial) of a tuning DB.

    Numbers are float64, or Int64 where they count something; times of day datetime64 in UTC; text
    "string". Microseconds are named ``_us``. Never makes a database; raises UserError when there
    is none, it cannot be read or ``view`` is another word.
    """
    with TuningDB.open(path_or_url, create=False, readonly=True) as db:
        return to_frame(read_rows(db, view))


def to_frame(rows: Rows) -> pd.DataFrame:
    """One typed column after another: pandas' own guess depends on which values are missing."""
    import pandas as pd  # takes half a second, which who only stores trials need not wait

    by_column = zip(*rows.values, strict=True) if rows.values else [()] * len(rows.columns)
    return pd.DataFrame(
        {
            name: pd.Series(list(values), dtype=KIND[name].value)
            for name, values in zip(rows.columns, by_column, strict=True)
        }
    )
