"""The commands that warnings name tune exactly the gate, the GEMMs or the layer that was asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine import NotTunedWarning, TunedKernels
from engine.kernels.dispatcher import Dispatcher
from search_spaces import Skew, find_gpu
from search_spaces.gate_problem import GateProblem
from search_spaces.layer_problem import LayerProblem
from search_spaces.problems import AnyProblem
from search_spaces.shape import parse_shape
from tests.engine.test_tuned_kernels import options_of
from tests.engine.tuned_db import CARD
from tuner.options import Options
from tuner.problem_flags import gate_of, layer_of
from tuning_db.tunings import Tunings

GATE = GateProblem(
    64, 2048, 6, score="sigmoid", bias=True, groups=8, topk_group=4, group_score="top2",
    renormalise=True, shared=2,
)  # fmt: skip
LAYER = LayerProblem(GATE, 1408)


@pytest.mark.parametrize("problem", [*LAYER.parts, LAYER], ids=str)
def test_a_command_tunes_what_it_was_asked_for(problem: AnyProblem, tmp_path: Path) -> None:
    dispatcher = Dispatcher(Tunings(tmp_path / "none.sqlite", find_gpu(CARD)), Skew())
    options = options_of(dispatcher.search_command(problem))
    assert meant(options) == problem


def meant(options: Options) -> AnyProblem:
    """What tuner.search takes a command's flags for."""
    assert options.shape is not None
    if options.op == "fused_gate":
        return gate_of("", options.shape, logits=options.logits)
    if options.op == "moe_layer":
        return layer_of("", options.shape, options.numerics)
    fused: Any = {"gather": options.gather, "combine": options.combine}
    return parse_shape(options.shape, epilogue=options.epilogue, **fused)


def test_a_layer_that_nobody_tuned_warns_of_each_part_once(tmp_path: Path) -> None:
    kernels = TunedKernels(tmp_path / "none.sqlite", "cpu")
    with pytest.warns(NotTunedWarning) as caught:
        for tokens in (1, 64):
            kernels.choose_layer(LAYER, tokens)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 3
    assert all(part.op in message for part, message in zip(LAYER.parts, messages, strict=True))


def test_a_part_that_is_forced_does_not_warn(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    kernels = TunedKernels(tmp_path / "none.sqlite", "cpu")
    with pytest.warns(NotTunedWarning):
        default = kernels.choose_layer(LAYER, 1).config
    fresh = TunedKernels(tmp_path / "none.sqlite", "cpu")
    for part, config in zip(LAYER.parts, default.parts, strict=True):
        fresh.force(part, str(config))
    recwarn.clear()
    assert fresh.choose_layer(LAYER, 1).config == default
    assert not recwarn.list and fresh.revision == 3
