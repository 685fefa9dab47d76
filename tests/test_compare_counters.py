"""Nsight Compute's counts held against the emulator's: the reader, the comparison, bad input.

``ncu_handwritten.csv`` was written by hand in the form of ``ncu --csv --page raw``; no GPU has made
it. Its counts of instructions and stores follow from the problem, its load sectors from nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.compare_counters import (
    ALLOWED,
    CONFIGS,
    COUNTERS,
    PROBLEM,
    SHAPE,
    Comparison,
    body,
    compare,
    status,
)
from scripts.ncu_profile import COUNTS, LDMATRIX, LOAD_SECTORS, WAVEFRONTS, read_profile
from search_spaces import UserError, find_gpu, space_for
from search_spaces.shape import parse_shape
from tests.conftest import ROOT
from tests.tuner.cli import environment, error_line

PROFILE = Path(__file__).with_name("ncu_handwritten.csv")


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = PROFILE.read_text()
    assert old in text
    path = tmp_path / "changed.csv"
    path.write_text(text.replace(old, new))
    return path


def test_a_profile_is_read_with_and_without_separators() -> None:
    profile = read_profile(PROFILE)
    assert set(profile.counts) == set(COUNTS)
    assert profile.counts[LDMATRIX] == 41280
    assert profile.counts[WAVEFRONTS] == 249600
    assert profile.counts[LOAD_SECTORS] == 1_000_000
    assert (profile.gpu, profile.kernel) == ("NVIDIA Handwritten", "lm_0123456789abcdef")
    assert (profile.grid, profile.block) == ("(25, 1, 1)", "(128, 1, 1)")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"41,280"', '"n/a"', f"says 'n/a' for {LDMATRIX}"),
        (LDMATRIX, "another_metric", f"does not have it for {LDMATRIX}"),
        ('"ID",', '"Id",', "has no table"),
        ('"ID",', "==ERROR== no right to read counters\n", "no right to read counters"),
        ('"0","4242"', '"","4242"', "0 launches"),
    ],
)
def test_a_profile_without_a_count_is_refused(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    with pytest.raises(UserError, match=told):
        read_profile(changed(tmp_path, old, new))


def test_the_configs_are_six_valid_ones_of_the_shape_that_is_profiled() -> None:
    assert len(set(CONFIGS)) == 6
    assert parse_shape(SHAPE, op="grouped_gemm", numerics=PROBLEM.numerics) == PROBLEM
    for gpu in ("RTX 2080 Ti", "H100"):
        view = space_for("grouped_gemm").view(PROBLEM, find_gpu(gpu))
        for name in CONFIGS:
            assert view.explain(view.space.config_type.parse(name)) == []


def test_an_emulated_launch_is_held_against_its_profile(tmp_path: Path) -> None:
    """20 of 25 CTAs find rows: 4 experts x 5 tiles of N, one tile of M each.

    Each runs 32 k-tiles of 4 k-steps on 4 warps: 32 MMAs and 4 ldmatrix a step, and one more step
    is loaded ahead. 192 rows of C are 65 chunks of 16 bytes, which 4 lanes write.
    """
    found = compare(CONFIGS[0], read_profile(PROFILE))
    steps = 20 * 4 * 32 * 4
    assert found.counts["mma"] == (327680, 32 * steps)
    assert found.counts["ldmatrix"] == (41280, 4 * (steps + 20 * 4))
    assert found.counts["bank conflicts"] == (0, 0)
    assert found.counts["store sectors"] == (12480, 192 * 65)
    assert found.counts["load sectors"][0] == 1_000_000
    assert not found.equal
    other = changed(tmp_path, "(25, 1, 1)", "(26, 1, 1)")
    with pytest.raises(UserError, match=r"of grid \(26, 1, 1\) and block \(128, 1, 1\), not of"):
        compare(CONFIGS[0], read_profile(other))


def comparison(mma: int) -> Comparison:
    counts = {counter.name: (7, 7) for counter in COUNTERS}
    return Comparison("CONFIG", "GPU", {**counts, "mma": (7, mma)})


def test_two_configs_may_differ_and_a_third_may_not() -> None:
    same, other = comparison(7), comparison(8)
    assert ALLOWED == 2
    assert status([same] * 6) == 0
    assert status([same] * 4 + [other] * 2) == 0
    assert status([same] * 3 + [other] * 3) == 1
    text = "\n".join(body([same] * 5 + [other]))
    assert text.count("**7 / 8**") == 1
    assert "5 of 6 configs agree in everything." in text


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/compare_counters.py"), "--out", "out"]
    done = subprocess.run(
        [*command, "--profiles", str(tmp_path)],
        env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert f"{CONFIGS[0]}.csv: No such file" in error_line(done)
    assert list(tmp_path.iterdir()) == []


def test_without_nsight_compute_the_script_says_so(tmp_path: Path) -> None:
    script = ROOT / "scripts/compare_counters.sh"
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)
    env = environment(NCU="no-such-ncu", OUT=str(tmp_path), PYTHON=sys.executable)
    done = subprocess.run([script], env=env, capture_output=True, text=True, timeout=60)
    assert error_line(done) == "error: no Nsight Compute ('no-such-ncu'): name it in NCU"
