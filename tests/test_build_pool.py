"""CompilePool with real workers: order, batches, crashes, interrupts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path

import pytest

from search_spaces.errors import UserError
from templates.built import BuildError, Built
from templates.cache import KernelCache
from templates.child import ORPHANED, start_child
from templates.compiler import compile_batch
from templates.pool import CompilePool
from templates.worker import CHILD, CompileWorker, WorkerDiedError
from tests.build_variants import BOTH, TARGET, broken, chatty, endless, scale


@pytest.fixture
def cache(tmp_path: Path) -> KernelCache:
    return KernelCache(tmp_path / "cache")


@pytest.fixture
def pool(cache: KernelCache) -> Iterator[CompilePool]:
    with CompilePool(workers=1, cache=cache) as pool:
        yield pool


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_results_come_in_order_and_equal_a_build_without_pool(
    cache: KernelCache, capfd: pytest.CaptureFixture[str]
) -> None:
    variants = [scale(f"lm_{i}", i) for i in range(11)] + [chatty("lm_c", 1), broken("lm_b")]
    with CompilePool(workers=2, cache=cache) as pool:
        results = pool.build(variants, BOTH)
        assert len(pool.worker_pids()) == 2
    expected = compile_batch(variants[:-1], BOTH)
    assert results[:-1] == expected
    assert isinstance(results[-1], BuildError) and "undeclared" in results[-1].log
    assert capfd.readouterr() == ("", ""), "workers keep the terminal clean"


def test_what_is_cached_starts_no_worker(pool: CompilePool) -> None:
    variants = [scale("lm_a"), scale("lm_b")]
    first = pool.build(variants, TARGET)
    with CompilePool(workers=1, cache=pool.cache) as second:
        assert second.build(variants, TARGET) == first
        assert second.worker_pids() == []
    assert pool.build([], TARGET) == []


def test_workers_live_on(pool: CompilePool) -> None:
    pool.build([scale("lm_a")], TARGET)
    pids = pool.worker_pids()
    pool.build([scale("lm_b")], TARGET)
    assert pool.worker_pids() == pids


def test_the_same_variant_twice_at_once(pool: CompilePool) -> None:
    first = pool.submit([scale("lm_a"), scale("lm_a")], TARGET)
    second = pool.submit([scale("lm_a")], TARGET)
    assert first.result() == second.result() * 2


def test_only_the_variant_that_kills_its_worker_fails(pool: CompilePool) -> None:
    """The killer stands in for a crash: it ends whichever worker compiles for over 3 CPU-s."""
    stop = threading.Event()
    killed: list[int] = []

    def killer() -> None:
        while not stop.wait(0.05):
            for pid in pool.worker_pids():
                if pid not in killed and cpu_seconds(pid) > 3:
                    killed.append(pid)
                    os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        results = pool.build([scale("lm_a"), endless("lm_b"), scale("lm_c")], TARGET)
    finally:
        stop.set()
        thread.join()
    assert [type(result) for result in results] == [Built, BuildError, Built]
    assert results[1] == BuildError("lm_b", "the compiler's process was ended by SIGKILL")
    assert len(killed) == 2
    assert isinstance(pool.build([scale("lm_d")], TARGET)[0], Built), "the pool goes on"


def test_an_idle_worker_that_died_is_replaced(pool: CompilePool) -> None:
    pool.build([scale("lm_a")], TARGET)
    (pid,) = pool.worker_pids()
    os.kill(pid, signal.SIGKILL)
    (result,) = pool.build([scale("lm_b")], TARGET)
    assert isinstance(result, Built)
    assert pool.worker_pids() != [pid]


def test_a_worker_that_breaks_down_says_why(cache: KernelCache) -> None:
    worker = CompileWorker(cache.root)
    two_preludes = [scale("lm_a"), replace(scale("lm_b"), headers=())]
    with pytest.raises(WorkerDiedError) as caught:
        worker.build(two_preludes, TARGET)
    assert str(caught.value) == (
        "the compiler's process ended with status 1: "
        "AssertionError: one translation unit, one prelude"
    )


def test_a_hang_up_ends_a_busy_child_with_a_status_of_its_own(cache: KernelCache) -> None:
    link, process = start_child(CHILD, [str(cache.root)], stderr=None)
    link.send(((scale("lm_a"),), TARGET))
    assert len(link.recv()) == 1
    link.send(((endless("lm_b"),), TARGET))
    before = cpu_seconds(process.pid)
    wait_for(lambda: cpu_seconds(process.pid) > before + 0.5)
    link.close()
    assert process.wait(10) == ORPHANED


def test_closing_cancels_and_leaves_no_process(cache: KernelCache) -> None:
    with CompilePool(workers=1, cache=cache) as pool:
        started = pool.submit([endless("lm_a")], TARGET)
        wait_for(lambda: len(pool.worker_pids()) == 1)
        waiting = pool.submit([scale("lm_b")], TARGET)
        (pid,) = pool.worker_pids()
    for future in (started, waiting):
        with pytest.raises(CancelledError):
            future.result(timeout=0)
    assert not alive(pid)


def test_a_cache_that_cannot_be_written_fails_the_future(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    root.mkdir()
    (root / "tmp").touch()
    with (
        CompilePool(workers=1, cache=KernelCache(root)) as pool,
        pytest.raises(UserError, match="cannot write the kernel cache"),
    ):
        pool.build([scale("lm_a")], TARGET)


def test_no_workers_are_bad_input(cache: KernelCache) -> None:
    with pytest.raises(UserError, match="0 compile workers"):
        CompilePool(workers=0, cache=cache)


BUSY_PARENT = """
import sys, threading, time
from pathlib import Path
from templates.cache import KernelCache
from templates.pool import CompilePool
from tests.build_variants import TARGET, endless

with CompilePool(workers=1, cache=KernelCache(Path(sys.argv[1]))) as pool:
    future = pool.submit([endless("lm_a")], TARGET)
    while not pool.worker_pids():
        time.sleep(0.01)
    print(*pool.worker_pids(), flush=True)
    future.result()
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent(cache: KernelCache, how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BUSY_PARENT, str(cache.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None and parent.stderr is not None
        pid = int(parent.stdout.readline())
        wait_for(lambda: cpu_seconds(pid) > 1.5)  # in the middle of the compile
        os.killpg(parent.pid, how)
        parent.wait(30)
        errors = parent.stderr.read()
    wait_for(lambda: not alive(pid), seconds=10)
    if how == signal.SIGINT:
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert errors.count("Traceback") == 1, errors
