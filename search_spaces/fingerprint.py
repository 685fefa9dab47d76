"""Fingerprint of a template: tells whether a trial was measured on today's code."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from search_spaces.errors import UserError

COMPOSED = {"moe_layer": ("fused_gate", "grouped_gemm")}  # ops that are launches of others

# Modules from here that decide what its template is filled with.
ASKED = {"fused_gate": ("gate", "gate_layout", "permutation"), "moe_permute": ("permutation",)}
_INCLUDE = re.compile(r"#include <(light_moe/[\w./]+)>")


@lru_cache
def template_fingerprint(op: str) -> str:
    """First 16 hex digits of SHA-256 over the files that make the op's machine code what it is.

    These are its template and generator, the headers of ours that it includes, how a template is
    filled, the layouts and their spelling, what else it asks ``search_spaces`` for, and the
    compiler options; for a composed op, those of its parts.

    Found by path, without importing ``templates``, so that the tuning DB can ask as well.
    Raises UserError when there is no template of that op.
    """
    if op in COMPOSED:
        parts = "".join(template_fingerprint(part) for part in COMPOSED[op])
        return hashlib.sha256(parts.encode()).hexdigest()[:16]
    spec = find_spec("templates")
    assert spec is not None and spec.origin is not None
    root = Path(spec.origin).parent
    own = sorted(root.glob(f"{op}.*"))
    if not own:
        raise UserError(f"op '{op}' has no template in this version of Light-MoE")
    digest = hashlib.sha256()
    names = ("filled.py", "literal.py", "options.py")
    shared = [Path(__file__).with_name("layouts.py"), *(root / name for name in names)]
    asked = [Path(__file__).with_name(f"{name}.py") for name in ASKED.get(op, ())]
    for file in [*own, *shared, *asked, *_included(own, root / "include")]:
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _included(files: Sequence[Path], include: Path) -> list[Path]:
    """Headers of ours that ``files`` include, and those that these do; other ops' are left out."""
    found: set[Path] = set()
    waiting = list(files)
    while waiting:
        for name in _INCLUDE.findall(waiting.pop().read_text(encoding="utf-8")):
            header = include / name
            if header not in found:
                found.add(header)
                waiting.append(header)
    return sorted(found)
