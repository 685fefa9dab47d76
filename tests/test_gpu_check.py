"""scripts/gpu_check.sh and its report, as far as they go without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

SAMPLE = """
import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_numbers(number):
    assert number == 1

class TestGroup:
    def test_member(self):
        pass

def test_skipped():
    pytest.skip("no reason")

@pytest.fixture
def broken():
    raise ValueError

def test_broken(broken):
    pass
"""


def report(*arguments: str | Path) -> str:
    script = ROOT / "scripts/gpu_report.py"
    command: list[str | Path] = [
        sys.executable,
        script,
        "--revision",
        "abc123",
        "--command",
        "the command",
    ]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=True).stdout


def test_report_counts_what_pytest_wrote(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    junit = tmp_path / "result.xml"
    pytest_run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--junit-xml={junit}", "-o", "junit_family=xunit1"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    text = report("--junit", junit, "--status", str(pytest_run.returncode))
    # passed: one of test_numbers and TestGroup's; failed, error and skipped: one each
    assert "| test_sample.py | 2 | 1 | 1 | 1 |" in text
    assert "| **all** | 2 | 1 | 1 | 1 |" in text
    assert "exit status: 1" in text
    assert "- failed: `test_sample.py::test_numbers[2]`" in text
    assert "- error: `test_sample.py::test_broken`" in text
    assert "- skipped: `test_sample.py::test_skipped`" in text
    assert "abc123" in text
    assert "`the command`" in text


def test_report_tells_a_run_that_was_cut_short(tmp_path: Path) -> None:
    junit = tmp_path / "result.xml"
    junit.write_text(
        '<testsuites><testsuite><testcase file="tests/test_a.py" name="test_a" time="1.5"/>'
        "</testsuite></testsuites>"
    )
    text = report("--junit", junit, "--status", "1")
    assert "| tests/test_a.py | 1 | 0 | 0 | 0 | 1.5 |" in text
    assert "ended before all tests had run" in text


def test_report_without_results_says_so(tmp_path: Path) -> None:
    text = report("--junit", tmp_path / "never_written.xml", "--status", "124")
    assert "pytest wrote no result: exit status 124" in text


def test_no_gpu_is_a_failure_and_writes_a_report(tmp_path: Path) -> None:
    hidden = {"CUDA_VISIBLE_DEVICES": "", "PYTHON": sys.executable, "OUT": str(tmp_path)}
    done = subprocess.run(
        [ROOT / "scripts/gpu_check.sh", "-r", "abc123", __file__],
        env={**os.environ, **hidden},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5, done.stdout + done.stderr  # pytest's "no tests ran"
    text = (tmp_path / "gpu_check.md").read_text()
    assert "abc123" in text
    assert "exit status: 5" in text
    assert (tmp_path / "gpu_check.xml").exists()
    assert "0 selected" in (tmp_path / "gpu_check.log").read_text()
