"""Measurement: a request carried out, told event by event."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

from engine.measuring.layer_measurer import LayerMeasurer
from engine.measuring.request import Request

Event: TypeAlias = "Mapping[str, Any]"
Tell: TypeAlias = "Callable[[Event], None]"


def measure(request: Request, tell: Tell) -> bool:
    """Whether any config is right. Events, of which a reader that loses us needs all it can get:

    ``{"event": "ready"}`` once inputs and reference are there; ``"checked"`` for each config, in
    order, with its ``status``, ``rel_error`` and ``error``; ``"timed"`` for each right one, with
    ``time_us`` and ``spread_us``, after all of them have been timed in turns; ``"done"`` at last.
    Raises UserError without the device.
    """
    measurer = LayerMeasurer(request)
    tell({"event": "ready"})
    right = []
    for config in request.configs:
        found = measurer.check(config)
        tell({"event": "checked", "config": str(config), **asdict(found)})
        if found.status == "ok":
            right.append(config)
    for config, timing in zip(right, measurer.race(right) if right else [], strict=True):
        times = {"time_us": timing.median_us, "spread_us": timing.spread_us}
        tell({"event": "timed", "config": str(config), **times})
    tell({"event": "done"})
    return bool(right)


def tell_json(event: Event) -> None:
    """One line on stdout, at once."""
    print(json.dumps(event), flush=True)


class Table:
    """Events as a table for people, shown when the last one is there."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._checked: dict[str, Event] = {}
        self._timed: dict[str, Event] = {}

    def __call__(self, event: Event) -> None:
        if event["event"] == "checked":
            self._checked[event["config"]] = event
        elif event["event"] == "timed":
            self._timed[event["config"]] = event

    def __str__(self) -> str:
        request = self._request
        where = f"GPU {request.device}"
        if request.device == "cpu":
            where = "the CPU (the torch reference: configs make no difference)"
        lines = [
            f"{request.problem} on {where}",
            f"{request.tokens} tokens, {request.skew}, seed {request.seed}",
            f"{'us':>12} {'+-':>8} {'error':>9}  config",
        ]
        for config in self._checked:
            lines.append(f"{self._figures(config)}  {config}")
        return "\n".join(lines)

    def _figures(self, config: str) -> str:
        checked, timed = self._checked[config], self._timed.get(config)
        if timed is None:
            return f"{checked['status']:>31}  {checked['error'] or ''}"
        error = checked["rel_error"]
        return f"{timed['time_us']:12.1f} {timed['spread_us']:8.1f} {error:9.2g}"
