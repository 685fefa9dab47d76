"""Provenance: what has to stand beside a figure so that it can be had again."""

from __future__ import annotations

import platform
import shlex
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("light-moe", "torch", "cupy-cuda12x", "cupy-cuda13x", "nvidia-cutlass", "optuna")


def command_line(module: str, argv: Sequence[str]) -> str:
    """The command as one may type it again."""
    return shlex.join(["python", "-m", module, *argv])


def versions() -> dict[str, str]:
    """Version of Python and of each package that shapes a result, where it is installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """Commit of this checkout, with "-dirty" behind it when files differ; None without one."""
    here = Path(__file__).resolve()
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        # An installed copy may lie inside somebody else's repository, which does not track it.
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        return _git(here.parent, *describe)
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
