"""SearchSpace: every valid config of an op, counted, numbered, sampled and explained."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from search_spaces.constraint import Constraint, Violation
from search_spaces.errors import UserError
from search_spaces.gpu import GpuSpec
from search_spaces.parameter import Parameter, Value
from search_spaces.problems import AnyProblem

SNAP_TRIES = 64  # random neighbourhood steps before a proposal is replaced by any untried config


@dataclass(frozen=True)
class SearchSpace:
    """The valid configs of one op are the product of ``parameters`` that pass ``constraints``.

    ``config_type`` is a frozen dataclass whose fields are the parameters, in any order, and whose
    ``parse`` reads its ``str``. ``preferred`` lists configs from best guess to last resort: the
    first valid one is the default, what a user gets who never searched.
    """

    op: str
    config_type: Any
    parameters: tuple[Parameter, ...]
    constraints: tuple[Constraint, ...]
    preferred: Callable[[Any], tuple[Any, ...]]

    def view(self, problem: AnyProblem, gpu: GpuSpec) -> SpaceView:
        """The space of one problem on one GPU."""
        return SpaceView(self, problem, gpu)


class SpaceView:
    """A search space seen for one problem and GPU. Counting walks the tree of partial configs.

    Parameters are fixed in order and each constraint is checked as soon as all it uses is fixed.
    Partial configs that agree on everything later constraints read have equally many completions,
    so their counts are shared: the tree becomes a small graph, and config number i is found by
    walking it once.
    """

    def __init__(self, space: SearchSpace, problem: AnyProblem, gpu: GpuSpec) -> None:
        self.space, self.problem, self.gpu = space, problem, gpu
        names = [p.name for p in space.parameters]
        last_use = [max(names.index(u) for u in c.uses) for c in space.constraints]
        self._due = [
            [c for c, last in zip(space.constraints, last_use, strict=True) if last == level]
            for level in range(len(names))
        ]
        self._read_later = [
            tuple(
                name
                for name in names[:level]
                if any(
                    name in c.uses and last >= level
                    for c, last in zip(space.constraints, last_use, strict=True)
                )
            )
            for level in range(len(names) + 1)
        ]
        self._counts: dict[tuple[int, tuple[Value, ...]], int] = {}
        self._kills: set[str] = set()
        self._deepest = 0

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Those of the space, each with the values that rules about it alone leave.

        A sampler that proposes others only makes work for ``snap``. All values where none is left.
        """
        return tuple(
            replace(p, values=self._possible(p) or p.values) for p in self.space.parameters
        )

    def _possible(self, parameter: Parameter) -> tuple[Value, ...]:
        rules = [rule for rule in self.space.constraints if rule.uses == (parameter.name,)]
        return tuple(
            value
            for value in parameter.values
            if not any(
                rule.check(SimpleNamespace(**{parameter.name: value}), self.problem, self.gpu)
                for rule in rules
            )
        )

    def _count_from(self, level: int, fixed: dict[str, Value]) -> int:
        if level == len(self.space.parameters):
            return 1
        key = (level, tuple(fixed[name] for name in self._read_later[level]))
        if key not in self._counts:
            self._counts[key] = sum(
                self._count_from(level + 1, child) for child in self._children(level, fixed)
            )
        return self._counts[key]

    def _children(self, level: int, fixed: dict[str, Value]) -> Iterator[dict[str, Value]]:
        parameter = self.space.parameters[level]
        for value in parameter.values:
            child = {**fixed, parameter.name: value}
            partial = SimpleNamespace(**child)
            for constraint in self._due[level]:
                if constraint.check(partial, self.problem, self.gpu) is not None:
                    self._kills.add(constraint.name)
                    self._deepest = max(self._deepest, level)
                    break
            else:
                yield child

    @property
    def count(self) -> int:
        """Number of valid configs."""
        return self._count_from(0, {})

    def require(self) -> None:
        """Raise UserError naming the constraints that leave no valid config, if none is left."""
        if self.count == 0:
            raise UserError(
                f"no valid {self.space.op} config for {self.problem.key} on {self.gpu.name}: "
                f"the space is emptied by {', '.join(self._killers())}"
            )

    def _killers(self) -> list[str]:
        """Of the rules that the last survivors broke, those that alone keep the space empty."""
        last = [rule for rule in self._due[self._deepest] if rule.name in self._kills]
        decisive = [
            rule.name
            for rule in last
            if replace(
                self.space, constraints=tuple(c for c in self.space.constraints if c is not rule)
            )
            .view(self.problem, self.gpu)
            .count
        ]
        return decisive or [rule.name for rule in last]

    def at(self, index: int) -> Any:
        """Config number ``index`` of ``count``, in the stable order of enumeration."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        fixed: dict[str, Value] = {}
        for level in range(len(self.space.parameters)):
            for child in self._children(level, fixed):
                below = self._count_from(level + 1, child)
                if index < below:
                    fixed = child
                    break
                index -= below
        return self.space.config_type(**fixed)

    def __iter__(self) -> Iterator[Any]:
        return self._walk(0, {})

    def _walk(self, level: int, fixed: dict[str, Value]) -> Iterator[Any]:
        if level == len(self.space.parameters):
            yield self.space.config_type(**fixed)
            return
        for child in self._children(level, fixed):
            if self._count_from(level + 1, child):
                yield from self._walk(level + 1, child)

    def sample(self, rng: random.Random) -> Any:
        """A config drawn uniformly from all valid ones."""
        self.require()
        return self.at(rng.randrange(self.count))

    def explain(self, config: Any) -> list[Violation]:
        """Every broken rule with its reason; empty when the config is valid."""
        outside = [
            Violation("values", f"{p.name}={getattr(config, p.name)} is not one of {p.values}")
            for p in self.space.parameters
            if getattr(config, p.name) not in p.values
        ]
        if outside:
            return outside
        reasons = [
            (c.name, c.check(config, self.problem, self.gpu)) for c in self.space.constraints
        ]
        return [Violation(name, reason) for name, reason in reasons if reason is not None]

    def default(self) -> Any:
        """The config that runs where nothing was tuned: always a candidate of a search."""
        for config in self.space.preferred(self.problem):
            if not self.explain(config):
                return config
        self.require()
        return self.at(0)

    def neighbours(self, config: Any) -> list[Any]:
        """Valid configs that differ from ``config`` in one parameter, by one step."""
        values = {p.name: getattr(config, p.name) for p in self.space.parameters}
        steps = [
            self.space.config_type(**{**values, p.name: value})
            for p in self.space.parameters
            for value in p.neighbours(values[p.name])
        ]
        return [step for step in steps if not self.explain(step)]

    def snap(self, config: Any, tried: Container[Any], rng: random.Random) -> Any | None:
        """``config`` if it is valid and untried, else a near config that is, else any, else None.

        Walks at random over single-parameter changes, preferring those that break fewer rules, so
        that a sampler's proposal stays close to what the sampler meant.
        """
        current = config
        for _ in range(SNAP_TRIES):
            broken = self.explain(current)
            if not broken and current not in tried:
                return current
            current = self._step(current, len(broken), rng)
        if self.count <= SNAP_TRIES:
            return next((c for c in self if c not in tried), None)
        start, count = rng.randrange(self.count), self.count
        rest = (self.at((start + i) % count) for i in range(count))
        return next((c for c in rest if c not in tried), None)

    def _step(self, config: Any, broken: int, rng: random.Random) -> Any:
        values = {p.name: getattr(config, p.name) for p in self.space.parameters}
        parameters, candidates = self.parameters, []
        for _ in range(8):
            parameter = rng.choice(parameters)
            value = rng.choice(parameter.values)
            candidates.append(self.space.config_type(**{**values, parameter.name: value}))
        return min(candidates, key=lambda c: (len(self.explain(c)), rng.random()))
