"""Exporting: trials of a DB to a file that another DB can take in."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from search_spaces.errors import UserError
from tuning_db.exchange import vllm
from tuning_db.exchange.formats import Format, format_of
from tuning_db.frame import to_frame
from tuning_db.rows import Rows, Value, read_rows
from tuning_db.store import TuningDB

SCHEMA = "light-moe/trials/1"  # raised when the columns of the trials view change


def export(
    db: TuningDB,
    path: Path,
    *,
    format_name: str | None = None,
    gpu: str | None = None,
    model: str | None = None,
) -> int:
    """Writes the trials (``gpu`` and ``model`` choose some) and returns how many there are.

    The file holds the view ``trials``, in which ``is_winner`` marks the best configs. A vLLM file
    holds winners alone, one for each token count. The file appears whole or not at all. Raises
    UserError when it cannot be written.
    """
    kind = format_of(path, format_name)
    if path.is_dir():
        raise UserError(f"{path} is a directory: name a file in it")
    if kind is Format.VLLM:
        table = vllm.table(db, path, gpu=gpu, model=model)
        _write(path, (json.dumps(table, indent=4) + "\n").encode())
        return len(table)
    rows = read_rows(db, "trials", gpu=gpu, model=model)
    _write(path, _ENCODE[kind](rows))
    return len(rows.values)


def plain_json(value: Value) -> str | int | float | bool | None:
    """The value as JSON has it; times of day in ISO 8601, infinity (no JSON number) as text."""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if value in (float("inf"), float("-inf")) else value


def _csv(rows: Rows) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows.columns)
    writer.writerows([plain_json(value) for value in row] for row in rows.values)
    return text.getvalue().encode()


def _json(rows: Rows) -> bytes:
    trials = [{k: plain_json(v) for k, v in row.items()} for row in rows.dicts()]
    return (json.dumps({"schema": SCHEMA, "trials": trials}, indent=1) + "\n").encode()


def _parquet(rows: Rows) -> bytes:
    content: bytes = to_frame(rows).to_parquet(index=False)
    return content


_ENCODE: dict[Format, Callable[[Rows], bytes]] = {
    Format.CSV: _csv,
    Format.JSON: _json,
    Format.PARQUET: _parquet,
}


def _write(path: Path, content: bytes) -> None:
    """Through a file beside it that takes its place at the end."""
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".export-", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
        temporary.chmod(0o666 & ~_umask())  # a temporary file is private, an export is not
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
