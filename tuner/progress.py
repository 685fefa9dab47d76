"""Progress: what a person sees while a search runs."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from tuner.plan import Place
from tuning_db.records import TrialRecord

UNLIMITED = 500  # how many trials a search without a limit is taken for


class SearchProgress:
    """A bar per place on a terminal, plain lines elsewhere: one per improvement and per tenth."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[best]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._title, self._done = "", 0
        self._total: int | None = None
        self._best: float | None = None

    def __enter__(self) -> SearchProgress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def begin(self, place: Place, total: int | None, done: int, best_us: float | None) -> None:
        """Turns to the next place; ``done`` trials are there, ``total`` is None without limit."""
        self._title = f"{place.target.gpu.name} {place.problem.label} {place.bucket}"
        self._total, self._done, self._best = total, done, best_us
        shown = "" if best_us is None else f"best {best_us:.4g} µs"
        self._task = self._bars.add_task(self._title, total=total, completed=done, best=shown)
        if done:
            self._say(f"{self._title}: resumed with {done} trials")

    def trial(self, record: TrialRecord) -> None:
        """Counts a finished trial."""
        assert self._task is not None, "begin comes first"
        self._done += 1
        improved = record.time_us is not None and record.time_us < (self._best or float("inf"))
        if improved:
            self._best = record.time_us
        best = "" if self._best is None else f"best {self._best:.4g} µs"
        self._bars.update(self._task, completed=self._done, best=best)
        count = f"{self._done}" if self._total is None else f"{self._done}/{self._total}"
        if improved:
            self._say(f"{self._title}: {count} {best} {record.config}")
        elif self._done % max(1, (self._total or UNLIMITED) // 10) == 0:
            self._say(f"{self._title}: {count} {best}")

    def note(self, text: str) -> None:
        """A line between the bars."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _say(self, text: str) -> None:
        if not self._console.is_terminal:
            self.note(text)
