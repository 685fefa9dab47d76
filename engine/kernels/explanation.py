"""Explanation: which config would run for a number of tokens, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.kernels.dispatcher import Dispatcher
from engine.kernels.problems import checked_tokens
from search_spaces import Problem, bucket_grid
from tuning_db.selection import Choice


@dataclass(frozen=True)
class Explanation:
    """Prints as a few lines. ``tokens`` is T before top-k, ``command`` tunes exactly this place."""

    problem: Problem
    gpu: str
    tokens: int
    default: str
    choice: Choice
    outdated: tuple[str, ...]
    command: str

    @property
    def config(self) -> str:
        """Name of the config that would run."""
        return self.choice.config

    @property
    def rows(self) -> int:
        """Rows of the grouped GEMM: T x top_k."""
        return self.tokens * self.problem.top_k

    @property
    def tokens_per_expert(self) -> float:
        """Mean rows of an expert, what buckets are named by."""
        return self.rows / self.problem.experts

    def __str__(self) -> str:
        problem = self.problem
        lines = [
            f"{problem} on {self.gpu}",
            f"  tokens  {self.tokens} x top {problem.top_k} = {self.rows} rows over "
            f"{problem.experts} experts: {self.tokens_per_expert:g} tokens per expert",
            f"  config  {self.config}" + (" (the default)" if self.config == self.default else ""),
            f"  why     {self.choice.reason}",
        ]
        source = self.choice.source.value if self.choice.source else ""
        for name, time_us in self.choice.times_us.items():
            mark = " (the default)" if name == self.default else ""
            lines.append(f"  expect  {time_us:.1f} us, {source}: {name}{mark}")
        lines += [f"  ignored {line}" for line in self.outdated]
        return "\n".join([*lines, f"  tune    {self.command}"])


def explain(dispatcher: Dispatcher, problem: Problem, tokens: int) -> Explanation:
    """What ``dispatcher`` would run for T = ``tokens`` >= 1 tokens, each sent to top_k experts."""
    rows = checked_tokens(tokens) * problem.top_k
    tuning = dispatcher.tuning(problem)
    per_expert = rows / problem.experts
    nearest = min(
        bucket_grid(problem), key=lambda b: abs(math.log(b.tokens_per_expert / per_expert))
    )
    return Explanation(
        problem=problem,
        gpu=dispatcher.gpu.name,
        tokens=tokens,
        default=tuning.default,
        choice=dispatcher.choose(problem, rows, top_k=problem.top_k),
        outdated=tuning.outdated,
        command=dispatcher.search_command(problem, f"{nearest.tokens_per_expert:g}"),
    )
