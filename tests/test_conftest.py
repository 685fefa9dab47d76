"""What conftest.py promises: what is left out is counted, and CI accepts no skip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SAMPLE = """
import pytest

@pytest.mark.gpu
@pytest.mark.parametrize("number", range(3))
def test_gpu(number):
    pass

@pytest.mark.soak
def test_soak():
    pass

def test_plain(request):
    pass
"""
SKIPPING = {
    "in the test": "def test_it():\n    pytest.skip('went missing')",
    "by a mark": "@pytest.mark.skip(reason='went missing')\ndef test_it():\n    pass",
    "in a fixture": (
        "@pytest.fixture\ndef thing():\n    pytest.skip('went missing')\n"
        "def test_it(thing):\n    pass"
    ),
    "whole module": "pytest.importorskip('a_module_that_is_nowhere', reason='went missing')",
}


def run_sample(folder: Path, source: str, *arguments: str, ci: bool = False) -> tuple[int, str]:
    """Exit status and output of a pytest of its own that has our conftest as a plugin."""
    (folder / "test_sample.py").write_text(source)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {"CI": str(ci).lower(), "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-rs", *arguments],
        cwd=folder, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_what_is_left_out_is_counted(tmp_path: Path, workers: tuple[str, ...]) -> None:
    status, output = run_sample(tmp_path, SAMPLE, *workers, ci=True)
    assert status == 0, output
    assert "1 passed" in output
    assert "3 gpu tests left out (no GPU): run scripts/gpu_check.sh" in output
    assert "1 soak test left out" in output


def test_soak_tests_run_when_named(tmp_path: Path) -> None:
    status, output = run_sample(tmp_path, SAMPLE, "-m", "soak")
    assert status == 0, output
    assert "1 passed" in output
    assert "soak test left out" not in output


def test_gpu_tests_alone_are_no_success_without_a_gpu(tmp_path: Path) -> None:
    status, output = run_sample(tmp_path, SAMPLE, "-m", "gpu")
    assert status == pytest.ExitCode.NO_TESTS_COLLECTED, output


@pytest.mark.parametrize("how", SKIPPING)
def test_a_skip_fails_under_ci_and_only_there(tmp_path: Path, how: str) -> None:
    source = "import pytest\n\n" + SKIPPING[how] + "\n\ndef test_other():\n    pass\n"
    status, output = run_sample(tmp_path, source)
    assert "went missing" in output
    assert status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED), output
    status, output = run_sample(tmp_path, source, ci=True)
    assert "skipped under CI" in output
    assert "went missing" in output
    assert status in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED), output


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    source = "import pytest\n\n@pytest.mark.xfail\ndef test_it():\n    assert False\n"
    status, output = run_sample(tmp_path, source, ci=True)
    assert status == 0, output
    assert "1 xfailed" in output


def test_the_world_of_a_test(tmp_path: Path) -> None:
    """No DB from outside; one kernel cache, which child processes and xdist workers share."""
    source = (
        "import os, pytest\n\n"
        "@pytest.mark.parametrize('number', range(4))\n"
        "def test_world(number):\n"
        "    assert 'LIGHT_MOE_DB' not in os.environ\n"
        f"    with open({str(tmp_path / 'caches')!r}, 'a') as file:\n"
        "        print(os.environ['LIGHT_MOE_CACHE'], file=file)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHT_MOE_DB", "somebody.sqlite")
        patch.delenv("LIGHT_MOE_CACHE")
        status, output = run_sample(tmp_path, source, "-n", "2", "--dist", "each")
    assert status == 0, output
    caches = (tmp_path / "caches").read_text().splitlines()
    assert len(caches) == 8  # four tests on each of two workers
    assert len(set(caches)) == 1
