"""What stands beside a figure that was had on a CPU."""

from __future__ import annotations

import os
import platform
import re
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from templates.toolchain import toolchain
from tuner.provenance import git_revision, versions


def host_facts(command: str) -> dict[str, str]:
    """The machine, the software and the command, in the order of telling."""
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores ({_processor()})",
        "load average": f"{os.getloadavg()[0]:.1f} over the last minute",
        "NVRTC": ".".join(map(str, toolchain().nvrtc_version)),
        "packages": f"{packages}, numpy {np.__version__}",
        "git revision": git_revision() or "unknown (no checkout)",
        "command": f"`{command}`",
    }


def _processor() -> str:
    """As Linux names it; virtual machines often say little."""
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else "unnamed"
