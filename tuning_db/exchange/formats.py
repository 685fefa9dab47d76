"""Formats: the kinds of file, told by name."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from search_spaces.errors import UserError
from tuning_db.exchange import vllm


class Format(str, Enum):
    """Kind of file; VLLM is fused-MoE's table of configs by token count, and for export only."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    VLLM = "vllm"


SUFFIXES = {".csv": Format.CSV, ".json": Format.JSON, ".parquet": Format.PARQUET}


def format_of(path: Path, name: str | None) -> Format:
    """The named format, else the one that the file's own name tells.

    vLLM finds its files by name, so ``E=…,N=…,device_name=….json`` is one of them. Raises
    UserError when neither tells.
    """
    if name is not None:
        if name not in [each.value for each in Format]:
            raise UserError(f"unknown format '{name}': choose {_choice()}")
        return Format(name)
    if vllm.NAME.fullmatch(path.name):
        return Format.VLLM
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"{path}: its suffix '{path.suffix}' tells no format, add --format {_choice()}"
        )
    return SUFFIXES[path.suffix.lower()]


def _choice() -> str:
    return "|".join(each.value for each in Format)
