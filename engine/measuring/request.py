"""Request: which layer is to be measured, at how many tokens, with which configs, and where."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch

from search_spaces import Skew, UserError
from search_spaces.layer import LayerConfig
from search_spaces.layer_problem import LayerProblem
from search_spaces.problems import parse_problem
from templates.device import device_spec

MOST_TOKENS = 1 << 24
LARGEST_SEED = (1 << 63) - 1
CPU = "cpu"


@dataclass(frozen=True)
class Request:
    """``tokens`` is T, before top-k. ``device`` is ``cpu`` or the number of a GPU."""

    problem: LayerProblem
    tokens: int
    skew: Skew
    configs: tuple[LayerConfig, ...]
    seed: int
    device: str

    def __post_init__(self) -> None:
        if not 1 <= self.tokens <= MOST_TOKENS:
            raise UserError(f"{self.tokens} tokens: must lie in 1..{MOST_TOKENS}")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise UserError(f"seed {self.seed}: must lie in 0..{LARGEST_SEED}")
        if self.device != CPU and not self.device.isdecimal():
            raise UserError(f"device '{self.device}': use the number of a GPU, or {CPU}")

    @classmethod
    def from_json(cls, text: str) -> Request:
        """Reads ``{"problem": KEY, "tokens": 32, "skew": "uniform", "configs": [NAME, ...],
        "seed": 1, "device": "0"}``. Raises UserError for anything else."""
        try:
            given = json.loads(text)
            values = {name: given[name] for name in cls.__dataclass_fields__}
            numbers = {name: int(values[name]) for name in ("tokens", "seed")}
            configs = tuple(LayerConfig.parse(str(name)) for name in values["configs"])
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"the request on stdin cannot be read ({type(error).__name__}: {error}): expected "
                f"one line of JSON with {', '.join(cls.__dataclass_fields__)}"
            ) from None
        return cls(
            problem=layer_of(str(values["problem"])),
            skew=Skew.parse(str(values["skew"])),
            configs=configs,
            device=str(values["device"]),
            **numbers,
        )

    def torch_device(self) -> torch.device:
        """Raises UserError where there is no such GPU."""
        if self.device == CPU:
            return torch.device(CPU)
        try:
            device_spec(int(self.device))
        except UserError as error:
            raise UserError(f"{error}; --device {CPU} times the torch reference") from None
        return torch.device("cuda", int(self.device))


def layer_of(key: str) -> LayerProblem:
    """The layer of a key. Raises UserError for another op's."""
    problem = parse_problem(key)
    if not isinstance(problem, LayerProblem):
        raise UserError(f"{key} is no moe_layer: give the key of a whole layer")
    return problem
