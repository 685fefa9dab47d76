"""ValidConfig: the config that a command was given, if the search space allows it."""

from __future__ import annotations

from typing import Any

from search_spaces.errors import UserError
from search_spaces.space import SpaceView


def valid_config(config: Any | None, view: SpaceView) -> Any:
    """The config if it is valid, the default for None. Raises UserError with every reason."""
    if config is None:
        return view.default()
    broken = view.explain(config)
    if broken:
        reasons = "; ".join(map(str, broken))
        raise UserError(f"{config} is invalid for {view.problem} on {view.gpu.name}: {reasons}")
    return config
