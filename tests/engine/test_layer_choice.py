"""Which three configs a layer runs: what was timed together, else each part's own winner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.kernels.dispatcher import Dispatcher
from engine.kernels.layer_choice import choose_layer
from search_spaces import Skew, find_gpu
from search_spaces.gate_problem import GateProblem
from search_spaces.layer import LayerConfig
from search_spaces.layer_problem import LayerProblem
from search_spaces.layer_space import LayerView
from search_spaces.views import view_of
from tests.engine.tuned_db import CARD, add_bucket
from tuning_db import Source
from tuning_db.tunings import Tunings

LAYER = LayerProblem(GateProblem(4, 64, 2), 64)
GPU = find_gpu(CARD)
VIEW = view_of(LAYER, GPU)
DEFAULT = VIEW.default()


def another(part: int) -> LayerConfig:
    """The default with another valid config of one part."""
    assert isinstance(VIEW, LayerView)
    near = VIEW.parts[part].neighbours(DEFAULT.parts[part])[0]
    return replace(DEFAULT, **{("gate", "gate_up", "down")[part]: near})


FAST = another(1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tuning.sqlite"


def dispatcher(file: Path) -> Dispatcher:
    return Dispatcher(Tunings(file, GPU), Skew())


def add_layer(file: Path, bucket: str, config: LayerConfig, source: Source) -> None:
    times = {str(config): 90.0, str(DEFAULT): 100.0}
    add_bucket(file, bucket, times, problem=LAYER, source=source)


def add_part(file: Path, bucket: str, part: int, source: Source) -> LayerConfig:
    """A winner of one part; the layer config that runs it, and defaults beside."""
    config = another(part)
    times = {str(config.parts[part]): 9.0, str(DEFAULT.parts[part]): 10.0}
    add_bucket(file, bucket, times, problem=LAYER.parts[part], source=source)
    return config


def test_nothing_tuned_runs_the_defaults(file: Path) -> None:
    choice = choose_layer(dispatcher(file), LAYER, 32)
    assert (choice.config, choice.source) == (DEFAULT, None)


@pytest.mark.parametrize("tokens", [20, 32, 100])
def test_a_winner_of_the_layer_runs_near_its_bucket(file: Path, tokens: int) -> None:
    add_layer(file, "16", FAST, Source.MEASURED)  # 32 tokens
    choice = choose_layer(dispatcher(file), LAYER, tokens)
    assert (choice.config, choice.source) == (FAST, Source.MEASURED)
    assert "16@uniform" in choice.reason


def test_far_from_any_layer_parts_go_by_themselves(file: Path) -> None:
    add_layer(file, "1", FAST, Source.MEASURED)
    wanted = add_part(file, "512", 2, Source.MEASURED)
    choice = choose_layer(dispatcher(file), LAYER, 1024)
    assert (choice.config, choice.source) == (wanted, None)
    assert "down: at the measured bucket 512@uniform" in choice.reason


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_measured_part_beats_a_predicted_layer(file: Path, part: int) -> None:
    add_layer(file, "16", FAST, Source.PREDICTED)
    assert choose_layer(dispatcher(file), LAYER, 32).config == FAST
    wanted = add_part(file, "16", part, Source.MEASURED)
    assert choose_layer(dispatcher(file), LAYER, 32).config == wanted


def test_a_measured_layer_beats_its_parts(file: Path) -> None:
    add_layer(file, "16", FAST, Source.MEASURED)
    add_part(file, "16", 2, Source.MEASURED)
    assert choose_layer(dispatcher(file), LAYER, 32).config == FAST


def test_what_the_caller_forces_runs(file: Path) -> None:
    add_layer(file, "16", FAST, Source.MEASURED)
    asked, wanted = dispatcher(file), another(0)
    asked.force(LAYER.gate, str(wanted.gate))
    assert choose_layer(asked, LAYER, 32).config == wanted
    asked.force(LAYER, str(another(2)))
    assert choose_layer(asked, LAYER, 32).config == another(2)
    asked.force(LAYER, None)
    asked.force(LAYER.gate, None)
    assert choose_layer(asked, LAYER, 32).config == FAST
