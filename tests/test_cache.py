"""The kernel cache: what it keeps, what it notices, and what happens under many hands."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from search_spaces.errors import UserError
from templates.build import build_batch
from templates.built import Built, Target
from templates.cache import KernelCache
from templates.compiler import compile_batch
from tests.build_variants import BOTH, TARGET, scale

HOPPER = Target("compute_75", ("sm_90",))


def built(cache: KernelCache, entry: str = "lm_a", target: Target = TARGET) -> Built:
    (result,) = build_batch(cache, [scale(entry)], target)
    assert isinstance(result, Built)
    return result


@pytest.fixture
def cache(tmp_path: Path) -> KernelCache:
    return KernelCache(tmp_path / "cache")


def test_what_went_in_comes_out(cache: KernelCache) -> None:
    assert cache.load(scale("lm_a"), TARGET) is None
    made = built(cache)
    assert cache.load(scale("lm_a"), TARGET) == made
    path = cache.cubin_path(made.variant, "compute_75", "sm_75")
    assert path.read_bytes() == made.binaries["sm_75"].cubin
    assert (path.parent / "source.cu").read_text().count("lm_a_ns") == 1
    assert (path.parent / "kernel.ptx").read_text() == made.ptx
    report = json.loads((path.parent / "report.json").read_text())
    assert report["resources"]["sm_75"]["registers"] == made.binaries["sm_75"].resources.registers


def test_key_knows_content_and_no_batch_mate(cache: KernelCache) -> None:
    build_batch(cache, [scale("lm_a"), scale("lm_b"), scale("lm_c")], TARGET)
    together = cache.folder(scale("lm_b"), "compute_75")
    before = (together / "kernel.ptx").read_bytes()
    elsewhere = KernelCache(cache.root.parent / "other")
    built(elsewhere, "lm_b")
    alone = elsewhere.folder(scale("lm_b"), "compute_75")
    assert alone.name == together.name
    assert (alone / "kernel.ptx").read_bytes() == before
    assert cache.folder(scale("lm_b", factor=3), "compute_75") != together
    assert cache.folder(scale("lm_b"), "compute_80") != together


def test_an_architecture_added_later_joins_the_entry(cache: KernelCache) -> None:
    first = built(cache)
    assert cache.load(scale("lm_a"), BOTH) is None
    both = built(cache, target=BOTH)
    assert both.binaries["sm_75"] == first.binaries["sm_75"]
    assert cache.load(scale("lm_a"), BOTH) == both
    assert list(built(cache, target=HOPPER).binaries) == ["sm_90"]
    assert cache.size().kernels == 1


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "truncated": lambda path: os.truncate(path, 10),
    "empty": lambda path: os.truncate(path, 0),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize(
    "name", ["source.cu", "kernel.ptx", "kernel.sm_75.cubin", "kernel.sm_90.cubin", "report.json"]
)
def test_damage_is_seen_and_built_again(cache: KernelCache, name: str, how: str) -> None:
    made = built(cache, target=BOTH)
    DAMAGE[how](cache.folder(made.variant, "compute_75") / name)
    damaged = cache.load(made.variant, BOTH)
    assert damaged is None or (name, how) == ("report.json", "flipped"), "a digit of the seconds"
    again = built(cache, target=BOTH)
    assert (again.ptx, again.binaries) == (made.ptx, made.binaries)
    assert cache.load(made.variant, BOTH) == again
    assert [entry.name for entry in (cache.root / "tmp").iterdir()] == []


WRITER = """
import sys, random
from pathlib import Path
from templates.cache import KernelCache
from templates.compiler import compile_batch
from templates.built import Target
from tests.build_variants import scale

root, rounds = Path(sys.argv[1]), int(sys.argv[2])
cache = KernelCache(root)
ready = [
    (target, compile_batch([scale(f"lm_{i}") for i in range(4)], target))
    for target in (Target("compute_75", ("sm_75",)), Target("compute_75", ("sm_90",)))
]
print("ready", flush=True)
for _ in range(rounds):
    for target, results in ready:
        for built in random.sample(results, 4):
            cache.store(built, target.ptx_arch)
"""


def writer(root: Path, rounds: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), str(rounds)], stdout=subprocess.PIPE, text=True
    )


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def test_many_builders_at_once_leave_whole_entries(cache: KernelCache) -> None:
    processes = [writer(cache.root, rounds=3) for _ in range(4)]
    for process in processes:
        with process:
            assert process.wait(120) == 0
    for i in range(4):
        entry = cache.load(scale(f"lm_{i}"), BOTH)
        (expected,) = compile_batch([scale(f"lm_{i}")], BOTH)
        assert entry is not None and isinstance(expected, Built)
        assert (entry.ptx, entry.binaries) == (expected.ptx, expected.binaries)
    assert cache.size().kernels == 4
    assert list((cache.root / "tmp").iterdir()) == []


def test_killed_builders_leave_nothing_half_written(cache: KernelCache) -> None:
    """Every entry that shows is whole, whenever the builder dies; what stays behind is pruned."""
    rng = random.Random(5)
    for _ in range(3):
        with writer(cache.root, rounds=1_000_000) as process:
            wait_until_ready(process)
            time.sleep(rng.uniform(0.01, 0.2))
            process.send_signal(signal.SIGKILL)
        for folder in (cache.root / "kernels").glob("*/*"):
            assert (folder / "report.json").is_file() and (folder / "kernel.ptx").is_file()
        for i in range(4):
            entry = cache.load_any(scale(f"lm_{i}"), "compute_75")
            shown = cache.folder(scale(f"lm_{i}"), "compute_75").exists()
            assert (entry is not None) == shown
    for folder in (cache.root / "tmp").iterdir():
        os.utime(folder, (0, 0))
    cache.prune(days=1)
    assert list((cache.root / "tmp").iterdir()) == []


FILLING_UP = """
import resource, sys
from pathlib import Path
from search_spaces.errors import UserError
from templates.build import build_batch
from templates.built import Target
from templates.cache import KernelCache
from tests.build_variants import scale

# No file may grow beyond 2,000 bytes: write() fails as it does on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    build_batch(KernelCache(Path(sys.argv[1])), [scale("lm_a")], Target("compute_75", ("sm_75",)))
except UserError as error:
    print(error)
"""


def test_full_disk_is_one_clear_line_and_no_half_entry(cache: KernelCache) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", FILLING_UP, str(cache.root)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert "File too large" in line and "LIGHT_MOE_CACHE" in line and str(cache.root) in line
    assert [path for path in cache.root.rglob("*") if path.is_file()] == []


def test_a_place_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "cache"):
        for use in (built, KernelCache.size, KernelCache.check):
            with pytest.raises(UserError, match=r"the kernel cache .*(Not a dir|File exists)"):
                use(KernelCache(root))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_environment_names_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHT_MOE_CACHE", str(tmp_path / "here"))
    assert KernelCache().root == tmp_path / "here"
    monkeypatch.delenv("LIGHT_MOE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert KernelCache().root == tmp_path / "home" / "light-moe"


def run_cli(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "templates.cache", *arguments],
        env={**os.environ, "LIGHT_MOE_CACHE": str(root)},
        capture_output=True,
        text=True,
    )


def test_command_line(cache: KernelCache) -> None:
    built(cache, "lm_old")
    built(cache, "lm_new")
    total = sum(f.stat().st_size for f in (cache.root / "kernels").rglob("*") if f.is_file())
    size = run_cli(cache.root, "--size", "--json")
    assert json.loads(size.stdout) == {
        "action": "size", "root": str(cache.root), "kernels": 2, "bytes": total,
    }  # fmt: skip
    week = time.time() - 8 * 86400
    os.utime(cache.folder(scale("lm_old"), "compute_75") / "report.json", (week, week))
    assert run_cli(cache.root, "--prune").stdout.startswith("removed 0 kernels")
    assert run_cli(cache.root, "--prune", "--days", "7").stdout.startswith("removed 1 kernels")
    assert cache.load(scale("lm_old"), TARGET) is None
    assert cache.load(scale("lm_new"), TARGET) is not None
    assert run_cli(cache.root, "--prune", "--days", "0", "--json").returncode == 0
    assert run_cli(cache.root, "--size").stdout == f"0 kernels (0.0 MB) in {cache.root}\n"


def test_use_keeps_an_entry_young(cache: KernelCache) -> None:
    built(cache)
    report = cache.folder(scale("lm_a"), "compute_75") / "report.json"
    os.utime(report, (0, 0))
    assert cache.load(scale("lm_a"), TARGET) is not None
    assert cache.prune(days=1).kernels == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--prune", "--days", "-1"], "--days: -1 is not a whole number"),
        (["--prune", "--days", "x"], "'x'"),
        (["--size", "--days", "3"], "--days goes with --prune"),
        (["--size", "--prune"], "not allowed with"),
        ([], "--size"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = run_cli(tmp_path / "cache", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ") and told in line
    assert not (tmp_path / "cache").exists()
