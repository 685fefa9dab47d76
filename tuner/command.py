"""Command: a planned search, carried out, watched and told."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console

from search_spaces.command_line import EXIT_INTERRUPTED
from tuner.interrupt import stop_on_interrupt
from tuner.layer_report import layer_document, print_layers
from tuner.plan import Plan
from tuner.progress import SearchProgress
from tuner.provenance import command_line
from tuner.record_run import save_recording
from tuner.regret_report import print_regrets
from tuner.report import document, print_next, print_results
from tuner.session import run_session

EXIT_NOTHING_WORKS = 1


def carry_out(plan: Plan, arguments: Sequence[str], console: Console) -> int:
    """Runs the search that ``arguments`` asked for and returns the command's exit status.

    Raises UserError for anything missing or unusable.
    """
    options, command = plan.options, command_line("tuner.search", arguments)
    progress = SearchProgress(console)
    with stop_on_interrupt(progress.note) as stop, progress:
        session = run_session(plan, command, progress, stop)
    print_results(console, session.outcomes)
    print_regrets(console, session.regrets)
    print_layers(console, session.layers)
    if options.record is not None and session.outcomes:
        save_recording(options.record, command, session.outcomes)
        console.print(f"recorded {options.record}", markup=False, soft_wrap=True)
    interrupted = session.status == "interrupted"
    again = arguments if options.resume else [*arguments, "--resume"]
    print_next(console, plan, command_line("tuner.search", again) if interrupted else None)
    if options.json:
        found = document(plan, session.run_id, session.status, session.outcomes, session.regrets)
        found["layers"] = [layer_document(outcome) for outcome in session.layers]
        print(json.dumps(found, indent=2))
    if interrupted:
        return EXIT_INTERRUPTED
    verdicts = [outcome.verdict for outcome in session.outcomes]
    verdicts += [outcome.verdict for outcome in session.layers]
    worked = all(verdict.winner is not None for verdict in verdicts)
    return 0 if worked else EXIT_NOTHING_WORKS
