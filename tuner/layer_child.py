"""LayerChild: whole layers measured by the engine, in a process of its own.

The tuner imports nothing of the engine: it starts ``python -m engine.measure`` with a request on
stdin, and reads events from stdout. A child that dies or hangs while it checks a config costs that
config; another one goes on with the rest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from search_spaces.bucket import Skew
from search_spaces.command_line import EXIT_USAGE
from search_spaces.errors import UserError
from search_spaces.layer_problem import LayerProblem
from tuning_db.records import TrialStatus

COMMAND = (sys.executable, "-m", "engine.measure", "--op", "moe_layer", "--json")
BEGIN = 600.0  # seconds until the first event: weights and reference of a large layer are made
SILENCE = 300.0  # seconds without an event: a kernel that is not in the cache is compiled
_BLINK = 0.05  # seconds between two looks


class Stopped(Exception):  # noqa: N818 (an answer, not a mistake)
    """The user does not want to wait for the child any longer."""


@dataclass(frozen=True)
class Question:
    """What every child is asked about. ``device`` is a CUDA device number or ``cpu``."""

    problem: LayerProblem
    tokens: int
    skew: Skew
    seed: int
    device: str

    def line(self, configs: Sequence[str]) -> bytes:
        """The request, one line of JSON."""
        request: dict[str, Any] = {
            "problem": str(self.problem), "tokens": self.tokens, "skew": str(self.skew),
            "configs": list(configs), "seed": self.seed, "device": self.device,
        }  # fmt: skip
        return json.dumps(request).encode() + b"\n"


@dataclass(frozen=True)
class Finding:
    """What became of one config: times in microseconds where ``status`` is ok."""

    config: str
    status: TrialStatus
    time_us: float | None = None
    spread_us: float | None = None
    rel_error: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Answer:
    """A child's events, and how it was lost, if it was: the status of what it was at, and why."""

    events: tuple[Mapping[str, Any], ...]
    lost: TrialStatus | None = None
    reason: str | None = None

    def of(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """Events of a kind by config."""
        return {event["config"]: event for event in self.events if event["event"] == kind}


@dataclass(frozen=True)
class LayerChild:
    """How children are started and watched. ``stopped`` says when nobody waits any more;
    ``watch`` is called with the child's process id every now and then."""

    stopped: Callable[[], bool]
    watch: Callable[[int], None] = lambda pid: None
    environment: Mapping[str, str] | None = None
    command: Sequence[str] = COMMAND
    begin: float = BEGIN
    silence: float = SILENCE

    def measure(self, question: Question, configs: Sequence[str]) -> list[Finding]:
        """A finding for every config, in their order.

        Raises UserError when the child refuses the request, and Stopped.
        """
        found: dict[str, Finding] = {}
        waiting = list(configs)
        while waiting:
            answer = self._ask(question, waiting)
            found.update(_findings(answer, waiting))
            waiting = [config for config in waiting if config not in found]
        return [found[config] for config in configs]

    def _ask(self, question: Question, configs: Sequence[str]) -> Answer:
        # Files, not pipes: nobody has to read them for the child to go on.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = self._start(out, err)
            assert process.stdin is not None
            with process.stdin as stdin:  # the child ends when this is closed, or we are gone
                stdin.write(question.line(configs))
                stdin.flush()
                patience = self._wait(process, out)
            out.seek(0)
            err.seek(0)
            # The last line of a killed child may be half a line.
            lines = [line for line in out.read().splitlines(True) if line.endswith(b"\n")]
            said = err.read().decode(errors="replace").strip().splitlines()
        events = tuple(json.loads(line) for line in lines)
        if patience is not None:
            reason = f"no sign of life for {patience:g} s"
            return Answer(events, TrialStatus.TIMEOUT, reason)
        return _ended(process.returncode, events, said[-1] if said else "no word")

    def _start(self, out: IO[bytes], err: IO[bytes]) -> subprocess.Popen[bytes]:
        paths = os.pathsep.join(filter(None, sys.path))
        return subprocess.Popen(
            self.command,
            env={**os.environ, "PYTHONPATH": paths, **(self.environment or {})},
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            start_new_session=True,  # Ctrl-C is for us
        )

    def _wait(self, process: subprocess.Popen[bytes], out: IO[bytes]) -> float | None:
        """Until it ends; the seconds of silence that it was killed for. Raises Stopped."""
        size, since = 0, time.monotonic()
        try:
            while process.poll() is None:
                if self.stopped():
                    raise Stopped
                if os.fstat(out.fileno()).st_size > size:
                    size, since = os.fstat(out.fileno()).st_size, time.monotonic()
                patience = self.silence if size else self.begin
                if time.monotonic() - since > patience:
                    return patience
                self.watch(process.pid)
                time.sleep(_BLINK)
        finally:
            process.kill()
            process.wait()
        return None


def _ended(status: int, events: tuple[Mapping[str, Any], ...], last_word: str) -> Answer:
    """Raises UserError when the child refused the request."""
    if status == EXIT_USAGE:
        raise UserError(last_word.removeprefix("error: "))
    if events and events[-1]["event"] == "done":
        return Answer(events)
    if status < 0:
        last_word = f"the process was ended by {signal.Signals(-status).name}"
    return Answer(events, TrialStatus.LAUNCH_ERROR, last_word)


def _findings(answer: Answer, configs: Sequence[str]) -> dict[str, Finding]:
    """What an answer tells of configs; those it tells nothing of are to be asked for again."""
    checked, timed = answer.of("checked"), answer.of("timed")
    found = {}
    for config, event in checked.items():
        status = TrialStatus(event["status"])
        if status is not TrialStatus.OK:
            found[config] = Finding(
                config, status, rel_error=event["rel_error"], error=event["error"]
            )
        elif config in timed:
            times = timed[config]
            found[config] = Finding(
                config, status, times["time_us"], times["spread_us"], event["rel_error"]
            )
    if answer.lost is None:
        return found
    begun = any(event["event"] == "ready" for event in answer.events)
    unchecked = [config for config in configs if config not in checked]
    # Lost in a check it is that config's doing, and the others are asked for again. Before the
    # first check and in the race nobody knows whose it is: another child would fare alike.
    guilty = unchecked[:1] if begun and unchecked else [c for c in configs if c not in found]
    found.update({c: Finding(c, answer.lost, error=answer.reason) for c in guilty})
    return found
