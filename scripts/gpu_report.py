"""Says on what machine the GPU tests ran and how they ended, as Markdown.

Without --junit it prints the machine alone; with it, the results that pytest wrote as well.
Called by scripts/gpu_check.sh.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from xml.etree import ElementTree

DISTRIBUTIONS = (
    ("torch",),
    ("cupy-cuda12x", "cupy-cuda13x"),
    ("nvidia-cutlass",),
    ("optuna",),
    ("pytest",),
)


@dataclass(frozen=True)
class TestResult:
    """One test of the JUnit file; `outcome` is passed, failed, error or skipped."""

    file: str
    name: str
    outcome: str
    seconds: float


def gpus() -> str:
    """Every GPU's name, memory and driver as nvidia-smi tells them."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"none (nvidia-smi: {error})"
    return "; ".join(line.strip() for line in done.stdout.splitlines())


def nvrtc_version() -> str:
    """The NVRTC that CuPy loads, which need not be the one of the wheel beside it."""
    try:
        import cupy  # noqa: F401  (finds CUDA's libraries, before its binding loads NVRTC)
        from cupy_backends.cuda.libs import nvrtc
    except ImportError as error:
        return f"none ({error})"
    major, minor = nvrtc.getVersion()
    return f"{major}.{minor}"


def installed(names: tuple[str, ...]) -> str:
    """`name version` of the first of these distributions that is installed."""
    for name in names:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return f"{names[0]} none"


def machine(revision: str, command: str) -> list[tuple[str, str]]:
    return [
        ("date", datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")),
        ("GPU, memory, driver", gpus()),
        ("Python", platform.python_version()),
        ("packages", ", ".join(installed(names) for names in DISTRIBUTIONS)),
        ("NVRTC", nvrtc_version()),
        ("git revision", revision),
        ("command", f"`{command.strip()}`"),
    ]


def read_junit(path: Path) -> list[TestResult]:
    """The tests of a JUnit file (family xunit1, which names files) in the order they ran."""
    results = []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        bad = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        outcome = {"failure": "failed"}.get(bad[0], bad[0]) if bad else "passed"
        seconds = float(case.attrib["time"])
        results.append(TestResult(case.attrib["file"], case.attrib["name"], outcome, seconds))
    return results


def summary(results: list[TestResult], status: int) -> list[str]:
    """Counts per test file, then every test that did not pass."""
    outcomes = ("passed", "failed", "error", "skipped")
    lines = ["", "| test file | " + " | ".join(outcomes) + " | seconds |"]
    lines.append("|---|" + "--:|" * (len(outcomes) + 1))
    groups = {file: [r for r in results if r.file == file] for file in {r.file for r in results}}
    for name, group in [*sorted(groups.items()), ("**all**", results)]:
        counts = [sum(r.outcome == outcome for r in group) for outcome in outcomes]
        cells = [name, *map(str, counts), f"{sum(r.seconds for r in group):.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"pytest's exit status: {status}"]
    unhappy = [r for r in results if r.outcome != "passed"]
    if unhappy:
        lines += ["", "Did not pass:", *(f"- {r.outcome}: `{r.file}::{r.name}`" for r in unhappy)]
    elif status != 0:
        lines += ["", "pytest ended before all tests had run: time limit or interruption."]
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--revision", required=True, help="git revision of the code")
    parser.add_argument("--command", required=True, help="the command line that ran the tests")
    parser.add_argument("--junit", type=Path, help="pytest's JUnit file")
    parser.add_argument("--status", type=int, default=0, help="pytest's exit status")
    arguments = parser.parse_args()

    lines = ["# GPU check", "", "| | |", "|---|---|"]
    rows = machine(arguments.revision, arguments.command)
    lines += [f"| {name} | {value} |" for name, value in rows]
    if arguments.junit is not None:
        if arguments.junit.exists():
            lines += summary(read_junit(arguments.junit), arguments.status)
        else:
            lines += ["", f"pytest wrote no result: exit status {arguments.status}"]
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
