"""LayerMeasurer: configs of one layer, proved right on a device and timed there in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from engine.kernels import TunedKernels
from engine.layers import MoE, MoEConfig
from engine.measuring.layer_inputs import make_inputs
from engine.measuring.layer_oracle import allowed_error, layer_oracle
from engine.measuring.request import Request
from engine.measuring.stopwatch import Timing, stopwatch_for
from search_spaces import UserError
from search_spaces.layer import LayerConfig


@dataclass(frozen=True)
class Checked:
    """``status`` is ok, wrong_result or launch_error; ``rel_error`` the largest of a token."""

    status: str
    rel_error: float | None = None
    error: str | None = None


class LayerMeasurer:
    """Makes the layer, its input and the oracle's answer from the request, on its device.

    On a CPU torch references answer, whatever the config. Raises UserError without that device, and
    where the layer does not fit its memory.
    """

    def __init__(self, request: Request) -> None:
        self.request, self.device = request, request.torch_device()
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        self._kernels = TunedKernels(None, self.device, request.problem.numerics)
        try:
            self._prepare()
        except torch.OutOfMemoryError as error:
            reason = str(error).partition(". ")[0]
            raise UserError(
                f"{request.problem} with {request.tokens} tokens does not fit the GPU's memory "
                f"({reason}): measure fewer tokens"
            ) from None

    def _prepare(self) -> None:
        problem, tokens = self.request.problem, self.request.tokens
        inputs = make_inputs(problem, tokens, self.request.skew, self.request.seed, self.device)
        self._hidden = inputs.hidden
        self._answer = torch.empty_like(inputs.hidden)
        self._layer = MoE(MoEConfig(problem), inputs.weights, self._kernels, max_tokens=tokens)
        self._oracle = layer_oracle(inputs)

    def check(self, config: LayerConfig) -> Checked:
        """Runs once into memory full of NaN, and compares every token that has one right answer."""
        self._answer.fill_(torch.nan)
        try:
            self._force(config)
            self._run()
        except UserError as error:  # it does not build, or the driver does not take it
            return Checked("launch_error", error=str(error))
        found = self._oracle.error(self._answer)
        allowed = allowed_error(self.request.problem, config)
        if not found <= allowed:
            reason = f"a token is off by {found:.3g} of its norm, more than {allowed:.3g}"
            return Checked("wrong_result", found, reason)
        return Checked("ok", found)

    def race(self, configs: Sequence[LayerConfig]) -> list[Timing]:
        """Times configs that were found right."""
        launches = [self._launch(config) for config in configs]
        for launch in launches:
            launch()
        return stopwatch_for(self.device).race(launches, self.request.seed)

    def _force(self, config: LayerConfig) -> None:
        for part, chosen in zip(self.request.problem.parts, config.parts, strict=True):
            self._kernels.force(part, str(chosen))

    def _run(self) -> None:
        with torch.inference_mode():
            self._layer(self._hidden, out=self._answer)

    def _launch(self, config: LayerConfig) -> Callable[[], object]:
        """The config alone: a CUDA graph of its launches, on a CPU a call."""
        if self.device.type == "cpu":
            return self._run
        self._force(config)
        graphed = self._layer.capture(self.request.tokens)
        graphed.hidden.copy_(self._hidden)
        return graphed.replay
