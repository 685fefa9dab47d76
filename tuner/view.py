"""View: the valid configs that a sampler may propose, whatever stands behind them."""

from __future__ import annotations

import random
from collections.abc import Container, Iterator
from typing import Any, Protocol

from search_spaces.constraint import Violation
from search_spaces.parameter import Parameter
from search_spaces.space import SearchSpace


class View(Protocol):
    """What a search needs of :class:`search_spaces.SpaceView`; a recording offers it as well."""

    @property
    def space(self) -> SearchSpace:
        """The parameters, and the type of a config."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Those of the space, with the values that can be part of a valid config."""

    @property
    def count(self) -> int:
        """Number of valid configs."""

    def __iter__(self) -> Iterator[Any]:
        """All of them, in a stable order."""

    def default(self) -> Any:
        """The config that runs where nothing was tuned."""

    def sample(self, rng: random.Random) -> Any:
        """A config drawn uniformly."""

    def neighbours(self, config: Any) -> list[Any]:
        """Valid configs that differ in one parameter, by one step."""

    def explain(self, config: Any) -> list[Violation]:
        """Why a config is not one of them; empty when it is."""

    def snap(self, config: Any, tried: Container[Any], rng: random.Random) -> Any | None:
        """The config, or a near one that is valid and not in ``tried``; None when none is left."""
