"""Disassembly: machine code as SASS, by NVIDIA's nvdisasm."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

from search_spaces.errors import UserError


def disassemble(cubin: bytes) -> str:
    """SASS of every function of a cubin. Raises UserError when there is no nvdisasm."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(_nvdisasm()), "--print-code", file.name]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"nvdisasm failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _nvdisasm() -> Path:
    """From a toolkit on PATH, or from Triton's wheel, which comes with torch and carries one."""
    found = shutil.which("nvdisasm")
    if found:
        return Path(found)
    spec = find_spec("triton")
    for folder in spec.submodule_search_locations or () if spec else ():
        tool = Path(folder) / "backends" / "nvidia" / "bin" / "nvdisasm"
        if tool.is_file():
            return tool
    raise UserError(
        "--sass needs nvdisasm: install triton, or put a CUDA toolkit's bin folder on PATH"
    )
