"""Filled: an op's Jinja template with its constants, as a variant named after what it says."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from templates.literal import literal
from templates.variant import Variant


@lru_cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("templates", ""), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["literal"] = literal
    return environment


def filled(
    op: str, headers: tuple[str, ...], threads: int, smem_bytes: int, **values: Any
) -> Variant:
    """``<op>.cu.jinja`` with ``values``, for tier sm_75. Equal values give equal variants.

    The template calls its kernel ``entry``: lm_ and 16 digits of the hash of all the rest.
    """
    block = _environment().get_template(f"{op}.cu.jinja").render(entry="{entry}", **values)
    entry = f"lm_{hashlib.sha256(block.encode()).hexdigest()[:16]}"
    source = block.replace("{entry}", entry)
    return Variant(op, entry, source, threads, smem_bytes, headers, tier="sm_75")
