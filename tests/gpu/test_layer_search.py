"""``python -m tuner.search --op moe_layer`` and ``python -m engine.measure`` on a real card."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine import TunedKernels
from search_spaces import Bucket
from search_spaces.gate_problem import GateProblem
from search_spaces.layer import LayerConfig
from search_spaces.layer_problem import LayerProblem
from templates.device import device_spec, device_uuid
from tuning_db import Source, TrialRecord, TrialStatus, TuningDB, Verified

pytestmark = pytest.mark.gpu

SHAPE = "E=8,H=1024,I=512,top_k=2"
LAYER = LayerProblem(GateProblem(8, 1024, 2), 512)
BUCKET = Bucket(16.0)
ARGUMENTS = ("--op", "moe_layer", "--shape", SHAPE, "--buckets", "16", "--trials", "6",
             "--gpus", "0", "--json")  # fmt: skip


def run(folder: Path, module: str, *arguments: str) -> str:
    """What the command says on stdout."""
    line = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layer")


@pytest.fixture(scope="module")
def document(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(folder, "tuner.search", *ARGUMENTS))
    return found


def stored(folder: Path) -> list[TrialRecord]:
    with TuningDB.open(folder / "tuning.sqlite", readonly=True) as db:
        return db.trials(LAYER, BUCKET, device_spec(0).name)


def test_layers_are_proved_and_timed_together(folder: Path, document: dict[str, Any]) -> None:
    [layer] = document["layers"]
    assert (layer["source"], layer["verified"], layer["stored"]) == ("measured", "gpu", True)
    assert layer["statuses"] == {"ok": len(stored(folder))}
    assert layer["time_us"] <= layer["default_us"]
    assert sum(layer["shares"]) == pytest.approx(1)
    for trial in stored(folder):
        assert (trial.status, trial.source) == (TrialStatus.OK, Source.MEASURED)
        assert (trial.verified, trial.gpu_uuid) == (Verified.GPU, device_uuid(0))
        assert trial.rel_error is not None and 0 < trial.rel_error < 0.05
        assert trial.time_us is not None and trial.time_us > 5


def test_a_layer_takes_about_as_long_as_its_parts(document: dict[str, Any]) -> None:
    """The parts' winners together are a candidate; the L2 keeps what the next part reads."""
    [layer] = document["layers"]
    parts = sum(place["winner"]["time_us"] for place in document["places"])
    assert 0.3 * parts < layer["time_us"] < 2 * parts


def test_the_engine_runs_what_won(folder: Path, document: dict[str, Any]) -> None:
    kernels = TunedKernels(folder / "tuning.sqlite", "cuda:0")
    choice = kernels.choose_layer(LAYER, BUCKET.tokens(LAYER))
    assert (str(choice.config), choice.source) == (document["layers"][0]["config"], Source.MEASURED)


@pytest.mark.usefixtures("document")
def test_resume_measures_nothing_again(folder: Path) -> None:
    before = stored(folder)
    found = json.loads(run(folder, "tuner.search", *ARGUMENTS, "--resume"))
    assert found["layers"][0]["stored"]
    assert stored(folder) == before


@pytest.mark.usefixtures("document")
@pytest.mark.parametrize("skew", ["uniform", "zipf:1.2"])
def test_people_can_measure_what_runs(folder: Path, skew: str) -> None:
    flags = ["--problem", LAYER.key, "--tokens", "64", "--skew", skew]
    _, _, _, *rows = run(folder, "engine.measure", *flags).splitlines()
    assert 1 <= len(rows) <= 2
    for row in rows:
        time_us, _, error, config = row.split()
        assert float(time_us) > 5 and 0 < float(error) < 0.05
        assert str(LayerConfig.parse(config)) == config
