"""TunedKernels on a machine without a GPU: answers, explanations, and what the DB is read for."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch

from engine import TunedKernels
from engine.kernels import NotTunedWarning, grouped_gemm_reference
from engine.kernels.dispatcher import Dispatcher
from search_spaces import Numerics, Problem, Skew, UserError, find_gpu
from search_spaces.shape import parse_shape
from tests.conftest import ROOT
from tests.engine.test_reference import tensors
from tests.engine.tuned_db import CARD, DEFAULT, FEW, GATE_UP, MANY, add_bucket
from tuner.options import Options, parse_options
from tuning_db import Source, TuningDB
from tuning_db.tunings import Tunings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tuning.sqlite"


def config_for(file: Path, tokens: int, *, gpu: str | None = None, skew: str = "uniform") -> str:
    return TunedKernels(file, "cpu", skew=skew).explain(GATE_UP, tokens, gpu=gpu).config


def options_of(command: str) -> Options:
    """What tuner.search itself makes of a command line, once a shell has split it."""
    python, flag, module, *words = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s\\n' {command}"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert (python, flag, module) == ("python", "-m", "tuner.search")
    return parse_options(words)


def test_on_a_cpu_the_reference_answers_without_a_word(tmp_path: Path) -> None:
    kernels = TunedKernels(tmp_path / "none.sqlite", "cpu")
    a, b, offsets = tensors([3, 0, 5], 24, 40, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        c = kernels.grouped_gemm(a, b, offsets, top_k=2)
        kernels.warm_up("mixtral-8x7b/down", [1, 64])
    assert torch.equal(c, grouped_gemm_reference(a, b, offsets))
    out = torch.empty_like(c)
    assert kernels.grouped_gemm(a, b, offsets, out=out) is out
    assert torch.equal(out, c)
    assert kernels.grouped_gemm(a[:0], b, torch.zeros(4, dtype=torch.int32)).shape == (0, 24)


def test_without_a_database_the_default_runs_and_no_file_appears(file: Path) -> None:
    explanation = TunedKernels(file, "cpu").explain(GATE_UP, 64)
    assert explanation.config == explanation.default == DEFAULT
    assert not file.exists()


def test_a_prediction_is_found_under_any_spelling_of_the_card(file: Path) -> None:
    add_bucket(file, "16", {FEW: 50.0, DEFAULT: 80.0}, source=Source.PREDICTED)
    assert config_for(file, 64) == FEW
    assert config_for(file, 64, gpu="geforce rtx 2080 ti") == FEW
    assert config_for(file, 64, gpu="H100") == DEFAULT


def test_a_measured_winner_replaces_the_predicted_one(file: Path) -> None:
    add_bucket(file, "16", {FEW: 50.0, DEFAULT: 80.0}, source=Source.PREDICTED)
    add_bucket(file, "16", {MANY: 500.0, DEFAULT: 800.0}, source=Source.MEASURED)
    choice = TunedKernels(file, "cpu").explain(GATE_UP, 64).choice
    assert (choice.config, choice.source) == (MANY, Source.MEASURED)
    assert choice.times_us == {MANY: 500.0, DEFAULT: 800.0}


def test_between_buckets_times_from_both_searches_are_weighed(file: Path) -> None:
    """FEW wins at 16 and was also tried at 64; MANY was tried at 64 only."""
    add_bucket(file, "16", {FEW: 50.0, DEFAULT: 80.0})
    add_bucket(file, "64", {MANY: 100.0, FEW: 110.0, DEFAULT: 160.0})
    explanation = TunedKernels(file, "cpu").explain(GATE_UP, 128)
    assert explanation.tokens_per_expert == 32
    assert explanation.config == FEW
    assert explanation.choice.times_us[FEW] == pytest.approx((50 * 110) ** 0.5)
    assert explanation.choice.times_us[MANY] == pytest.approx(100.0)


def test_of_several_trials_the_one_beside_the_winner_counts(file: Path) -> None:
    """Another day's clock says that the default takes 10 us; the winner's own run says 80."""
    add_bucket(file, "16", {DEFAULT: 10.0, MANY: 11.0})
    add_bucket(file, "16", {FEW: 50.0, DEFAULT: 80.0})
    assert TunedKernels(file, "cpu").explain(GATE_UP, 64).choice.times_us == {
        FEW: 50.0,
        DEFAULT: 80.0,
    }


def test_tuning_belongs_to_the_shape_not_to_the_model_or_top_k(file: Path) -> None:
    add_bucket(file, "16", {FEW: 50.0, DEFAULT: 80.0})
    kernels = TunedKernels(file, "cpu")
    assert kernels.explain("mixtral-8x7b/gate_up", 64).config == FEW
    assert kernels.explain("grouped_gemm/E8.N28672.K4096.top2.f16.promoted", 64).config == FEW
    assert kernels.explain("grouped_gemm/E8.N28672.K4096.top1.f16.promoted", 128).config == FEW
    assert kernels.explain("mixtral-8x7b/down", 64).config == DEFAULT


def test_numerics_are_part_of_the_problem(file: Path) -> None:
    add_bucket(file, "16", {FEW: 50.0, DEFAULT: 80.0})
    fp32 = TunedKernels(file, "cpu", "fp32")
    explanation = fp32.explain("mixtral-8x7b/gate_up", 64)
    assert explanation.choice.buckets == ()
    assert options_of(explanation.command).numerics is Numerics.FP32


def test_winners_of_the_skew_asked_for(file: Path) -> None:
    add_bucket(file, "16", {FEW: 50.0, DEFAULT: 80.0})
    add_bucket(file, "16@zipf:1.2", {MANY: 60.0, DEFAULT: 80.0})
    assert config_for(file, 64) == FEW
    assert config_for(file, 64, skew="zipf:1.2") == MANY


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (FEW.replace("_f32_", "_f16_"), "numerics: acc=f16 is not allowed with promoted"),
        (FEW.replace("16x128", "16x8192"), "tile_n=8192"),
        ("128x128_of_the_future", "another version"),
    ],
)
def test_a_winner_that_cannot_run_is_passed_over_aloud(file: Path, config: str, why: str) -> None:
    add_bucket(file, "16", {config: 50.0, DEFAULT: 80.0})
    explanation = TunedKernels(file, "cpu").explain(GATE_UP, 64)
    assert explanation.config == DEFAULT
    assert [why in line and config in line for line in explanation.outdated] == [True]
    assert why in str(explanation)
    dispatcher = Dispatcher(Tunings(file, find_gpu(CARD)), Skew())
    with pytest.warns(NotTunedWarning, match="cannot run"):
        dispatcher.warn_once(GATE_UP)


def test_an_explanation_tells_tokens_config_reason_times_and_what_to_type(file: Path) -> None:
    add_bucket(file, "16", {FEW: 50.0, DEFAULT: 80.0})
    explanation = TunedKernels(str(file), "cpu").explain("mixtral-8x7b/gate_up", 60)
    text = str(explanation)
    for part in (
        "mixtral-8x7b/gate_up",
        "on RTX 2080 Ti",
        "60 x top 2 = 120 rows over 8 experts: 15 tokens per expert",
        f"config  {FEW}",
        "measured bucket 16@uniform",
        f"expect  50.0 us, measured: {FEW}",
        f"expect  80.0 us, measured: {DEFAULT} (the default)",
        explanation.command,
    ):
        assert part in text
    options = options_of(explanation.command)
    assert options.shape is not None
    assert parse_shape(options.shape) == GATE_UP
    assert (options.buckets, options.gpu, options.db) == ("16", "RTX 2080 Ti", str(file))


def test_nothing_tuned_is_told_once_a_shape_with_a_command_that_tunes_it(tmp_path: Path) -> None:
    file = tmp_path / "my tuning.sqlite"
    add_bucket(file, "16", {FEW: 50.0, DEFAULT: 80.0})
    dispatcher = Dispatcher(
        Tunings(file, find_gpu(CARD)), Skew.parse("zipf:1.2"), target="--gpus 1", db=str(file)
    )
    other = Problem("grouped_gemm", 64, 2048, 1024, 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for problem in (other, GATE_UP, other, Problem("grouped_gemm", 64, 2048, 1024, 8)):
            dispatcher.warn_once(problem)
    (warning,) = caught
    assert warning.category is NotTunedWarning
    assert warning.filename == __file__
    text = str(warning.message)
    assert "the default config runs" in text
    options = options_of(text[text.index("python -m") :])
    assert options.shape is not None
    assert parse_shape(options.shape) == other
    assert (options.gpus, options.skew, options.buckets) == ("1", "zipf:1.2", "all")
    assert options.db == str(file)


def test_a_missing_database_is_named(file: Path) -> None:
    dispatcher = Dispatcher(Tunings(file, find_gpu(CARD)), Skew())
    with pytest.warns(NotTunedWarning, match=f"no tuning DB at {file}"):
        dispatcher.warn_once(GATE_UP)


def test_none_means_the_database_of_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_bucket(file, "16", {FEW: 50.0, DEFAULT: 80.0})
    monkeypatch.setenv("LIGHT_MOE_DB", str(file))
    explanation = TunedKernels(None, "cpu").explain(GATE_UP, 64)
    assert explanation.config == FEW
    assert options_of(explanation.command).db is None


def test_the_database_is_only_read(file: Path) -> None:
    add_bucket(file, "16", {FEW: 50.0, DEFAULT: 80.0})
    with TuningDB.open(file) as db, db.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    before = hashlib.sha256(file.read_bytes()).digest()
    file.chmod(0o444)
    assert config_for(file, 64) == FEW
    assert hashlib.sha256(file.read_bytes()).digest() == before


def test_threads_share_one_object(file: Path) -> None:
    add_bucket(file, "16", {FEW: 50.0, DEFAULT: 80.0})
    kernels = TunedKernels(file, "cpu")
    found: list[str] = []

    def ask() -> None:
        for tokens in (64, 60, 4, 100):
            found.append(kernels.explain(GATE_UP, tokens, gpu=CARD).config)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(found)) == sorted({FEW, DEFAULT})
    assert len(found) == 24


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((None, "tpu"), "cpu, cuda or cuda:N"),
        ((None, "meta"), "cpu, cuda or cuda:N"),
        ((None, "cpu", "bf16"), "fp32, promoted, fp16"),
        (("", "cpu"), "names no file"),
        (("oracle://host/db", "cpu"), "oracle"),
    ],
)
def test_bad_arguments_are_told_in_one_line(arguments: tuple[str, ...], named: str) -> None:
    with pytest.raises(UserError, match=named) as error:
        TunedKernels(*arguments)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_database_is_told(file: Path) -> None:
    file.write_text("not a database, but long enough to be mistaken for one" * 40)
    with pytest.raises(UserError, match="no SQLite file"):
        TunedKernels(file, "cpu")


@pytest.mark.parametrize(
    ("problem", "tokens", "gpu", "named"),
    [
        ("mixtral-9x9b/gate_up", 1, None, "mixtral-8x7b"),
        ("mixtral-8x7b/gate", 1, None, "gate_up"),
        ("mixtral-8x7b", 1, None, "no problem key"),
        (GATE_UP, 0, None, "at least 1"),
        (GATE_UP, 1.5, None, "whole number"),
        (GATE_UP, 1, "Voodoo 2", "RTX 2080 Ti"),
        ("grouped_gemm/E8.N28672.K4096.top2.f16.fp32", 1, None, "numerics='fp32'"),
    ],
)
def test_questions_that_make_no_sense(
    problem: Problem | str, tokens: int, gpu: str | None, named: str
) -> None:
    with pytest.raises(UserError, match=named):
        TunedKernels(None, "cpu").explain(problem, tokens, gpu=gpu)


def test_importing_the_engine_loads_no_tuner_and_asks_no_driver() -> None:
    code = (
        "import sys, engine, torch\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('tuner', 'optuna')]\n"
        "assert 'cupy' not in sys.modules and not torch.cuda.is_initialized()"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
