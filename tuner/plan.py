"""Plan: everything a run will do, worked out and checked before anything is written."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces import SPACES, space_for
from search_spaces.bucket import Bucket, Skew, bucket_grid
from search_spaces.command_line import choose
from search_spaces.errors import UserError
from search_spaces.gpu import find_gpu
from search_spaces.layer import LayerConfig
from search_spaces.layer_problem import LayerProblem
from search_spaces.layer_space import MOE_LAYER, part_bucket
from search_spaces.models import LAYERS, load_model
from search_spaces.problems import AnyProblem
from search_spaces.shape import parse_shape
from tuner.backends.replay import RecordedView
from tuner.options import DEFAULT_BUCKETS, DEFAULT_MODEL, Options
from tuner.problem_flags import gate_of, layer_of
from tuner.recording import Recording
from tuner.target import Target, resolve_targets
from tuner.view import View
from tuning_db.records import Source
from tuning_db.store import TuningDB

LARGEST_SEED = 1 << 31


@dataclass(frozen=True)
class Place:
    """One search: a problem and a bucket on one GPU model. ``extra`` configs are tried early."""

    problem: AnyProblem
    bucket: Bucket
    target: Target
    source: Source
    view: View
    extra: tuple[Any, ...] = ()

    @property
    def key(self) -> str:
        """What its Optuna studies are called, without their dates."""
        return f"{self.problem.key} {self.bucket} {self.target.gpu.name} {self.source.value}"

    def seed(self, run_seed: int, purpose: str) -> int:
        """A seed of its own for each use, so that no two inputs of a run are alike."""
        return random.Random(f"{run_seed} {self.key} {purpose}").randrange(LARGEST_SEED)


@dataclass(frozen=True)
class Plan:
    """The places to search, in order; those of one target stand together.

    ``layer`` is the MoE layer that they are the parts of, if it is to be measured as a whole.
    """

    options: Options
    places: tuple[Place, ...]
    seed: int
    db_url: str
    note: str | None = None
    recording: Recording | None = None
    layer: LayerProblem | None = None

    @property
    def targets(self) -> tuple[Target, ...]:
        """The GPU models, each once."""
        return tuple(dict.fromkeys(place.target for place in self.places))


def make_plan(options: Options) -> Plan:
    """Resolves names and checks that each place has valid configs. Raises UserError."""
    seed = secrets.randbelow(LARGEST_SEED) if options.seed is None else options.seed
    url = TuningDB.check(options.db, create=not options.resume)
    if options.replay is not None:
        if options.check == "emulate":
            raise UserError("--check emulate does not go with --replay: nothing is built there")
        if options.op == MOE_LAYER.op:
            raise UserError("--op moe_layer does not go with --replay: no layer is recorded")
        recording = Recording.load(options.replay)
        places = _recorded_places(options, recording)
        return Plan(options, places, seed, url, recording=recording)
    layer = _layer(options)
    problems = _problems(options) if layer is None else list(layer.parts)
    grids = {problem: _buckets(options, problem, layer) for problem in problems}
    targets = resolve_targets(options.gpus, options.gpu, options.arch)
    if options.record is not None and [bool(t.cards) for t in targets.found] != [True]:
        raise UserError("--record needs one measured GPU model: choose it with --gpus")
    places = tuple(
        place
        for target in targets.found
        for problem in problems
        for place in _places(_named(options, layer, problem), problem, grids[problem], target)
    )
    return Plan(options, places, seed, url, targets.note, layer=layer)


def _places(
    names: Sequence[str], problem: AnyProblem, buckets: list[Bucket], target: Target
) -> list[Place]:
    view = space_for(problem.op).view(problem, target.gpu)
    view.require()
    extra = tuple(map(view.space.config_type.parse, names))
    for config in extra:
        broken = view.explain(config)
        if broken:
            raise UserError(f"--config {config} is invalid for {problem.key}: {broken[0]}")
    source = Source.MEASURED if target.cards else Source.PREDICTED
    return [Place(problem, bucket, target, source, view, extra) for bucket in buckets]


def _layer(options: Options) -> LayerProblem | None:
    if options.op != MOE_LAYER.op:
        return None
    name = DEFAULT_MODEL if options.model is None else options.model
    return layer_of(name, options.shape, options.numerics)


def _named(options: Options, layer: LayerProblem | None, problem: AnyProblem) -> list[str]:
    """Configs of --config; of a layer's, those of the part ``problem``."""
    if layer is None:
        return list(options.configs)
    part = layer.parts.index(problem)
    return [str(LayerConfig.parse(name).parts[part]) for name in options.configs]


def _problems(options: Options) -> list[AnyProblem]:
    choose("op", options.op, [*SPACES, MOE_LAYER.op])  # the first thing to tell
    name = DEFAULT_MODEL if options.model is None else options.model
    if options.op == "fused_gate":
        return [gate_of(name, options.shape, logits=options.logits)]
    first_only: dict[str, Any] = {"epilogue": options.epilogue, "gather": options.gather}
    fused = {**first_only, "combine": options.combine}
    if options.shape is not None:
        if options.layer is not None:
            raise UserError("--layer goes with --model: a --shape is one layer already")
        return [parse_shape(options.shape, op=options.op, numerics=options.numerics, **fused)]
    model = load_model(name)
    if options.layer is not None:
        return [model.problem(options.layer, options.numerics, **fused)]
    first, *others = LAYERS  # gate_up alone has an epilogue and tokens to gather, down combines
    down = [model.problem(name, options.numerics, combine=options.combine) for name in others]
    return [model.problem(first, options.numerics, **first_only), *down]


def _buckets(
    options: Options, problem: AnyProblem, layer: LayerProblem | None = None
) -> list[Bucket]:
    """The buckets asked for, of a layer's part those with as many tokens."""
    if layer is not None:
        parts = (part_bucket(layer, problem, bucket) for bucket in _buckets(options, layer))
        return list(dict.fromkeys(parts))
    skew = Skew.parse(options.skew)
    if options.buckets == "all":
        return bucket_grid(problem, skew)
    sizes = _sizes(DEFAULT_BUCKETS if options.buckets is None else options.buckets)
    smallest = problem.top_k / problem.experts
    if sizes[0] < smallest * (1 - 1e-9):
        raise UserError(
            f"bucket {sizes[0]:g} is less than one token: {problem.key} starts at {smallest:g}"
        )
    return [Bucket(size, skew) for size in sizes]


def _sizes(text: str) -> list[float]:
    """Tokens per expert, ascending, each once."""
    words = [word.strip() for word in text.split(",")]
    if not all(words) or "@" in text:
        raise UserError(
            f"--buckets '{text}': expected tokens per expert, e.g. {DEFAULT_BUCKETS}, or all"
        )
    return sorted({Bucket.parse(word).tokens_per_expert for word in words})


def _recorded_places(options: Options, recording: Recording) -> tuple[Place, ...]:
    given = {
        "--model": options.model,
        "--shape": options.shape,
        "--layer": options.layer,
        "--epilogue": options.epilogue if options.epilogue != "plain" else None,
        "--gather": options.gather or None,
        "--combine": options.combine or None,
        "--logits": options.logits or None,
        "--config": options.configs or None,
        "--record": options.record,
    }
    for flag, value in given.items():
        if value is not None:
            raise UserError(f"{flag} does not go with --replay: a recording has its own problems")
    wanted = None if options.buckets in (None, "all") else _sizes(options.buckets or "")
    target = Target(find_gpu(recording.gpu))
    views = {place: recorded_view(recording, *place) for place in recording.trials}
    places = tuple(
        Place(problem, bucket, target, Source.REPLAYED, view)
        for (problem, bucket), view in views.items()
        if view is not None and (wanted is None or bucket.tokens_per_expert in wanted)
    )
    if not places:
        there = ", ".join(dict.fromkeys(str(bucket) for _, bucket in recording.trials))
        raise UserError(f"the recording has no trials of bucket {options.buckets}: it has {there}")
    return places


def recorded_view(recording: Recording, problem: AnyProblem, bucket: Bucket) -> RecordedView | None:
    """The configs recorded for a place, None where there are none."""
    trials = recording.trials.get((problem, bucket))
    if not trials:
        return None
    return RecordedView(space_for(problem.op), problem, find_gpu(recording.gpu), trials)
