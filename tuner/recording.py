"""Recording: measured trials as one compact file, to be searched again where there is no GPU.

A file is one gzip'd JSON object: a header that tells where the numbers come from, the config
names once, and a table per (problem, bucket) that refers to them by position.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from search_spaces.bucket import Bucket
from search_spaces.errors import UserError
from search_spaces.problems import AnyProblem, parse_problem
from tuner.backends.base import Measurement
from tuning_db.records import TrialStatus

SCHEMA = 1
_DIGITS = 5  # significant digits kept: well below any run-to-run spread


@dataclass(frozen=True)
class RecordedTrial:
    """How one config did. Times are microseconds, None unless ``status`` is ok."""

    status: TrialStatus
    time_us: float | None = None
    spread_us: float | None = None
    rel_error: float | None = None

    @classmethod
    def of(cls, measurement: Measurement) -> RecordedTrial:
        """What a recording keeps of a measurement."""
        return cls(
            measurement.status, measurement.time_us, measurement.spread_us, measurement.rel_error
        )


Trials: TypeAlias = "dict[str, RecordedTrial]"  # config name -> how it did, in the order tried
Tables: TypeAlias = "dict[tuple[AnyProblem, Bucket], Trials]"


@dataclass(frozen=True)
class Recording:
    """Trials of one GPU model.

    ``gpu`` is its canonical name. ``command``, ``date`` (ISO 8601) and ``versions`` say how the
    numbers came about, ``grid`` which values of which parameters were covered (empty: unknown).
    """

    gpu: str
    command: str
    date: str
    versions: Mapping[str, str]
    trials: Tables
    grid: Mapping[str, list[Any]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the file in one step. Raises UserError when that is impossible."""
        text = json.dumps(_encode(self), separators=(",", ":"), allow_nan=False)
        # A fixed time stamp: equal recordings are equal files.
        data = gzip.compress(text.encode(), compresslevel=9, mtime=0)
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_bytes(data)
            scratch.replace(path)
        except OSError as error:
            with suppress(OSError):
                scratch.unlink()
            raise UserError(f"cannot write recording {path}: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read a file back. Raises UserError when it is absent, damaged or of another schema."""
        try:
            document = json.loads(gzip.decompress(path.read_bytes()))
        except FileNotFoundError:
            raise UserError(f"recording {path} does not exist") from None
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise UserError(f"{path} is no recording (gzip'd JSON expected): {error}") from error
        schema = document.get("schema") if isinstance(document, dict) else None
        if schema != SCHEMA:
            raise UserError(
                f"{path} has recording schema {schema}, this version reads {SCHEMA}: record it "
                "again with scripts/record_exhaustive.py"
            )
        try:
            return _decode(document)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise UserError(f"recording {path} is damaged: {error!r}") from error


def _encode(recording: Recording) -> dict[str, Any]:
    names = list(dict.fromkeys(name for trials in recording.trials.values() for name in trials))
    index = {name: number for number, name in enumerate(names)}
    return {
        "schema": SCHEMA,
        "gpu": recording.gpu,
        "command": recording.command,
        "date": recording.date,
        "versions": dict(recording.versions),
        "grid": dict(recording.grid),
        "configs": names,
        "tables": [
            {
                "problem": str(problem),
                "bucket": str(bucket),
                "config": [index[name] for name in trials],
                "status": [trial.status.value for trial in trials.values()],
                "time_us": [_short(trial.time_us) for trial in trials.values()],
                "spread_us": [_short(trial.spread_us) for trial in trials.values()],
                "rel_error": [_short(trial.rel_error) for trial in trials.values()],
            }
            for (problem, bucket), trials in recording.trials.items()
        ],
    }


def _decode(document: dict[str, Any]) -> Recording:
    names: list[str] = document["configs"]
    trials: Tables = {}
    for table in document["tables"]:
        columns = (table[key] for key in ("status", "time_us", "spread_us", "rel_error"))
        rows = zip(table["config"], *columns, strict=True)
        trials[parse_problem(table["problem"]), Bucket.parse(table["bucket"])] = {
            names[number]: RecordedTrial(TrialStatus(status), *numbers)
            for number, status, *numbers in rows
        }
    return Recording(
        gpu=document["gpu"],
        command=document["command"],
        date=document["date"],
        versions=document["versions"],
        trials=trials,
        grid=document["grid"],
    )


def _short(value: float | None) -> float | None:
    """Rounded; None for what JSON has no word for, the infinite error of an output with NaNs."""
    return float(f"{value:.{_DIGITS}g}") if value is not None and math.isfinite(value) else None
