"""LayerChoice: the configs of a MoE layer, from times of all of it where there are any."""

from __future__ import annotations

from dataclasses import dataclass

from engine.kernels.dispatcher import Dispatcher
from search_spaces import Problem, Skew
from search_spaces.gate_problem import GateProblem
from search_spaces.layer import JOINT, LayerConfig
from search_spaces.layer_problem import LayerProblem
from search_spaces.layer_space import PARTS
from tuning_db.records import Source
from tuning_db.selection import Choice


@dataclass(frozen=True)
class LayerChoice:
    """The configs to run and why; ``source`` is that of the layer's times, None for its parts'."""

    config: LayerConfig
    reason: str
    source: Source | None = None


def choose_layer(
    dispatcher: Dispatcher, problem: LayerProblem, tokens: int, *, skew: Skew | None = None
) -> LayerChoice:
    """The configs for T = ``tokens`` >= 1 tokens, whose loads have about that ``skew``.

    Winners of the layer are weighed as those of any op: they were timed one after another, as
    they run, with the L2 that one leaves to the next. Where none speaks for so many tokens, where
    its parts have winners from a better source, or where the caller has forced a part, each part
    goes by itself.
    """
    whole = dispatcher.choose(problem, tokens, top_k=problem.top_k, skew=skew)
    parts = [_choose_part(dispatcher, part, tokens, skew) for part in problem.parts]
    free = not any(map(dispatcher.is_forced, problem.parts))
    if dispatcher.is_forced(problem) or (free and _speaks(whole, parts)):
        return LayerChoice(LayerConfig.parse(whole.config), whole.reason, whole.source)
    reasons = (f"{name}: {part.reason}" for name, part in zip(PARTS, parts, strict=True))
    config = LayerConfig.parse(JOINT.join(part.config for part in parts))
    return LayerChoice(config, "; ".join(reasons))


def _choose_part(
    dispatcher: Dispatcher, part: GateProblem | Problem, tokens: int, skew: Skew | None
) -> Choice:
    count = tokens * part.top_k if isinstance(part, Problem) else tokens
    return dispatcher.choose(part, count, top_k=part.top_k, skew=skew)


def _speaks(whole: Choice, parts: list[Choice]) -> bool:
    """Whether times of the whole layer count for as much as those of its parts, or for more."""
    if whole.source is None:
        return False
    return all(part.source is None or part.source.trust <= whole.source.trust for part in parts)
