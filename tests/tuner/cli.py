"""Runs ``python -m tuner.search`` as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# No GPU is visible to these runs, whatever the machine has.
HIDDEN = {"CUDA_VISIBLE_DEVICES": "-1"}


def command(*arguments: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "tuner.search", *arguments]


def environment(**more: str) -> dict[str, str]:
    """This process's environment without GPUs, plus ``more``."""
    return {**os.environ, **HIDDEN, **more}


def search(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in ``folder`` to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=240,
    )


def error_line(result: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr that a bad command gives, after checking that it is just that."""
    assert result.returncode == 2, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]
