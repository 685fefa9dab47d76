"""Reading: an exported file back to rows, checked against the columns it must have."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_spaces.errors import UserError
from tuning_db.columns import KIND, REQUIRED, TRIAL_COLUMNS, Kind
from tuning_db.exchange.exporting import SCHEMA
from tuning_db.exchange.formats import Format, format_of
from tuning_db.rows import Value, plain

LONGEST = 1 << 30  # characters of a CSV field: compilers' logs exceed Python's limit of 131,072


def read_trials(path: Path, format_name: str | None = None) -> list[dict[str, Value]]:
    """Rows of a file that :func:`export` wrote, each with exactly the view's columns.

    Raises UserError when the file cannot be read, is another kind of file, has other columns or
    holds a value that does not fit its column.
    """
    kind = format_of(path, format_name)
    if kind is Format.VLLM:
        raise UserError(
            f"{path}: a vLLM file holds Triton configs without times or trials, there is nothing "
            "to import"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    rows = _DECODE[kind](path, content)
    return [_checked(path, number, row) for number, row in enumerate(rows, 1)]


def _csv(path: Path, content: bytes) -> list[dict[str, Any]]:
    csv.field_size_limit(LONGEST)
    try:
        reader = csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True)
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise _foreign(path, f"no CSV in UTF-8 ({error})") from error
    header = list(reader.fieldnames or ())
    if not rows and "uid" not in header:
        raise _foreign(path, "no header with a 'uid' column")
    return [{name: value or None for name, value in row.items()} for row in rows]


def _json(path: Path, content: bytes) -> list[dict[str, Any]]:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise _foreign(path, f"no JSON ({error})") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise _foreign(path, f"its schema is {schema!r}, not '{SCHEMA}'")
    rows = document.get("trials")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _foreign(path, "'trials' is no list of objects")
    return rows


def _parquet(path: Path, content: bytes) -> list[dict[str, Any]]:
    import pyarrow  # only Parquet needs it, and it takes a while to import
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
    except pyarrow.ArrowException as error:
        raise _foreign(path, f"no Parquet ({str(error).splitlines()[0]})") from error
    if "uid" not in table.column_names:
        raise _foreign(path, "no 'uid' column")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


_DECODE = {Format.CSV: _csv, Format.JSON: _json, Format.PARQUET: _parquet}


def _checked(path: Path, number: int, row: Mapping[str, Any]) -> dict[str, Value]:
    for name in TRIAL_COLUMNS:
        if name not in row:
            raise _foreign(path, f"row {number} has no '{name}'")
    for name in row:
        if name not in TRIAL_COLUMNS:
            raise _foreign(path, f"row {number} has '{name}', which is no column here")
    values: dict[str, Value] = {}
    for name in TRIAL_COLUMNS:
        try:
            values[name] = plain(row[name], KIND[name])
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{path} row {number}: {name}={row[name]!r} is no {_WORDS[KIND[name]]}"
            ) from error
        if values[name] is None and name in REQUIRED:
            raise UserError(f"{path} row {number}: {name} is empty")
    return values


_WORDS = {
    Kind.TEXT: "text",
    Kind.INT: "whole number",
    Kind.FLOAT: "number",
    Kind.BOOL: "true or false",
    Kind.TIME: "date and time",
}


def _foreign(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is no export of this version's python -m tuning_db export: {reason}")
