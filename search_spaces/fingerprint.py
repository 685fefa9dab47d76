"""Fingerprint of a template: tells whether a trial was measured on today's code."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from search_spaces.errors import UserError


@lru_cache
def template_fingerprint(op: str) -> str:
    """First 16 hex digits of SHA-256 over the files that make the op's machine code what it is.

    These are its template and generator, the CuTe headers, the layouts and their spelling, and the
    compiler options.

    Found by path, without importing ``templates``, so that the tuning DB can ask as well.
    Raises UserError when there is no template of that op.
    """
    spec = find_spec("templates")
    assert spec is not None and spec.origin is not None
    root = Path(spec.origin).parent
    own = sorted(root.glob(f"{op}.*"))
    if not own:
        raise UserError(f"op '{op}' has no template in this version of Light-MoE")
    digest = hashlib.sha256()
    shared = [Path(__file__).with_name("layouts.py"), root / "literal.py", root / "options.py"]
    for file in [*own, *shared, *sorted((root / "include" / "light_moe").rglob("*.cuh"))]:
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
