"""vLLM's fused-MoE JSON: the right file name, token counts and launch parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from search_spaces.bucket import Bucket, Skew
from search_spaces.errors import UserError
from search_spaces.problem import Numerics, Problem
from tests.tuning_db.samples import CONFIG, DOWN, GATE_UP, OTHER, begin, predicted, trial
from tuning_db import TuningDB
from tuning_db.exchange import export, read_trials

FILE = "E=8,N=14336,device_name=NVIDIA_H100_80GB_HBM3.json"


def win(db: TuningDB, problem: Problem, bucket: Bucket, config: str) -> None:
    number = db.add_trial(trial(begin(db), problem=problem, bucket=bucket, config=config))
    assert db.set_winner(problem, bucket, "H100", number)


@pytest.fixture
def tuned(sqlite_file: Path) -> Iterator[TuningDB]:
    with TuningDB.open(sqlite_file) as db:
        win(db, GATE_UP, Bucket(0.25), OTHER)  # top_k / E: one token
        win(db, GATE_UP, Bucket(16), CONFIG)
        win(db, GATE_UP, Bucket(16, Skew("zipf", 1.2)), OTHER)
        win(db, DOWN, Bucket(16), OTHER)
        run = begin(db)
        number = db.add_trial(predicted(run, bucket=Bucket(256)))
        db.set_winner(GATE_UP, Bucket(256), "RTX 2080 Ti", number)
        yield db


def test_winners_become_tritons_parameters_by_token_count(tuned: TuningDB, tmp_path: Path) -> None:
    assert export(tuned, tmp_path / FILE) == 2
    # 16 rows per expert x 8 experts / top-2 = 64 tokens. A side below 16 is no Triton tile.
    assert json.loads((tmp_path / FILE).read_text()) == {
        "1": {
            "BLOCK_SIZE_M": 16,
            "BLOCK_SIZE_N": 128,
            "BLOCK_SIZE_K": 64,
            "GROUP_SIZE_M": 1,
            "num_warps": 4,
            "num_stages": 3,
        },
        "64": {
            "BLOCK_SIZE_M": 128,
            "BLOCK_SIZE_N": 128,
            "BLOCK_SIZE_K": 32,
            "GROUP_SIZE_M": 8,
            "num_warps": 4,
            "num_stages": 2,
        },
    }


def test_a_tile_of_eight_rows_is_widened(tuned: TuningDB, tmp_path: Path) -> None:
    win(tuned, GATE_UP, Bucket(1), OTHER.replace("16x128x64", "8x128x64"))
    export(tuned, tmp_path / FILE)
    assert json.loads((tmp_path / FILE).read_text())["4"]["BLOCK_SIZE_M"] == 16


def test_the_name_says_which_card(tuned: TuningDB, tmp_path: Path) -> None:
    file = tmp_path / "E=8,N=14336,device_name=NVIDIA_GeForce_RTX_2080_Ti.json"
    assert export(tuned, file) == 1
    assert set(json.loads(file.read_text())) == {"1024"}


@pytest.mark.parametrize(
    ("name", "choice", "message"),
    [
        ("moe.json", {"format_name": "vllm"}, "vLLM finds its files by name, use one such as E=8"),
        ("E=8,N=14336,device_name=NVIDIA_H100,dtype=fp8_w8a8.json", {}, "'dtype=fp8_w8a8' stands"),
        ("E=64,N=14336,device_name=NVIDIA_H100.json", {}, "no winner on H100 is of a gate_up"),
        ("E=8,N=2048,device_name=NVIDIA_H100.json", {}, "no winner on H100"),  # down's N is 4096
        (FILE, {"model": "olmoe-1b-7b"}, "no winner on H100"),
        (FILE, {"gpu": "A100"}, "is a file for H100, not for A100"),
    ],
)
def test_a_file_vllm_would_not_use_is_refused(
    tuned: TuningDB, tmp_path: Path, name: str, choice: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        export(tuned, tmp_path / name, **choice)
    assert not (tmp_path / name).exists()


def test_two_problems_of_that_shape_need_a_choice(tuned: TuningDB, tmp_path: Path) -> None:
    fp32 = replace(GATE_UP, numerics=Numerics.FP32)
    win(tuned, fp32, Bucket(16), CONFIG)
    with pytest.raises(UserError, match=f"choose one with --model: {fp32.key} or {GATE_UP.key}"):
        export(tuned, tmp_path / FILE)
    assert export(tuned, tmp_path / FILE, model=fp32.key) == 1


def test_import_is_refused(tuned: TuningDB, tmp_path: Path) -> None:
    export(tuned, tmp_path / FILE)
    with pytest.raises(UserError, match="there is nothing to import"):
        read_trials(tmp_path / FILE)
