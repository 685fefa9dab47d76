"""``python -m tuner.search``: finds good configs for a problem and stores who won."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from search_spaces.command_line import EXIT_INTERRUPTED, run_command

if TYPE_CHECKING:
    from rich.console import Console

    from tuner.plan import Plan

EXIT_NOTHING_WORKS = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status.

    0: every place has a winner; 1: some place has none; 2: bad input, told in one line;
    130: interrupted, with what was found stored.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    interrupted = "interrupted: finished trials are stored, --resume goes on"
    return run_command(lambda: _search(arguments), interrupted)


def _search(arguments: Sequence[str]) -> int:
    # Imported here, where there is someone to catch Ctrl-C.
    from tuner.options import parse_options
    from tuner.plan import make_plan
    from tuner.report import make_console, print_plan

    options = parse_options(arguments)
    console = make_console(to_stderr=options.json)
    plan = make_plan(options)
    print_plan(console, plan)
    return _carry_out(plan, arguments, console)


def _carry_out(plan: Plan, arguments: Sequence[str], console: Console) -> int:
    # Imported once the command is known to make sense: Optuna alone takes a second.
    from tuner.interrupt import stop_on_interrupt
    from tuner.progress import SearchProgress
    from tuner.provenance import command_line
    from tuner.record_run import save_recording
    from tuner.report import document, print_next, print_results
    from tuner.session import run_session

    options, command = plan.options, command_line("tuner.search", arguments)
    progress = SearchProgress(console)
    with stop_on_interrupt(progress.note) as stop, progress:
        session = run_session(plan, command, progress, stop)
    print_results(console, session.outcomes)
    if options.record is not None and session.outcomes:
        save_recording(options.record, command, session.outcomes)
        console.print(f"recorded {options.record}", markup=False, soft_wrap=True)
    interrupted = session.status == "interrupted"
    again = arguments if options.resume else [*arguments, "--resume"]
    print_next(console, plan, command_line("tuner.search", again) if interrupted else None)
    if options.json:
        found = document(plan, session.run_id, session.status, session.outcomes)
        print(json.dumps(found, indent=2))
    if interrupted:
        return EXIT_INTERRUPTED
    worked = all(outcome.verdict.winner is not None for outcome in session.outcomes)
    return 0 if worked else EXIT_NOTHING_WORKS


if __name__ == "__main__":
    sys.exit(main())
