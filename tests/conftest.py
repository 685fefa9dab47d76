"""What every test shares: which tests run here, and a world of their own for caches and DBs."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import postgres

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = pytest.StashKey[dict[str, int]]()
HOW_TO_RUN = {
    "gpu": "(no GPU): run scripts/gpu_check.sh on a GPU machine",
    "soak": "(too long for every change): make soak",
}


def cuda_device_count() -> int:
    """CUDA devices this process may use; asks the driver, so nothing heavy is imported."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what cannot or need not run here: deselected, so that nothing is skipped."""
    marks = {"soak": "soak" not in config.option.markexpr, "gpu": False}
    if any(item.get_closest_marker("gpu") for item in items):
        marks["gpu"] = cuda_device_count() == 0
    for mark in (name for name, wanted in marks.items() if wanted):
        gone = [item for item in items if item.get_closest_marker(mark)]
        items[:] = [item for item in items if item not in gone]
        config.stash[LEFT_OUT][mark] = len(gone)
        if gone:
            config.hook.pytest_deselected(items=gone)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Takes the counts over from an xdist worker: every worker collects all tests."""
    counts = getattr(node, "workeroutput", {}).get("left_out", {})
    node.config.stash[LEFT_OUT].update(counts)


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash[LEFT_OUT]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for mark, count in config.stash[LEFT_OUT].items():
        if count:
            tests = "test" if count == 1 else "tests"
            terminalreporter.write_line(f"{count} {mark} {tests} left out {HOW_TO_RUN[mark]}")


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """CI installs all that tests need: a skip there means that something went missing unseen."""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped under CI, where every test must run: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid_skip(report)
    return report


@pytest.fixture(scope="session", autouse=True)
def _own_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One kernel cache for the session (unless one is set), no DB from outside.

    Child processes import the packages from this checkout, installed or not.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LIGHT_MOE_DB", raising=False)
        if "LIGHT_MOE_CACHE" not in os.environ:
            # getbasetemp() differs per xdist worker; its parent is the run's, so all share one.
            base = tmp_path_factory.getbasetemp()
            shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
            patch.setenv("LIGHT_MOE_CACHE", str(shared / "kernel-cache"))
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session")
def _postgres_server() -> Iterator[postgres.PostgresServer]:
    reason = postgres.missing()
    if reason is not None:
        pytest.skip(reason)
    with postgres.server() as server:
        yield server


@pytest.fixture
def postgres_url(_postgres_server: postgres.PostgresServer) -> str:
    """URL of a new, empty database on a private PostgreSQL server that lives for the session."""
    return _postgres_server.new_database()
