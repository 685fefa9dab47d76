"""``python -m tuner.search``: finds good configs for a problem and stores who won."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from search_spaces.command_line import run_command
from tuner.interrupt import quit_on_interrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status.

    0: every place has a winner; 1: some place has none; 2: bad input, told in one line;
    130: interrupted, with what was found stored.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    interrupted = "interrupted: finished trials are stored, --resume goes on"
    return run_command(lambda: _search(arguments), interrupted)


def _search(arguments: Sequence[str]) -> int:
    with quit_on_interrupt():
        from tuner.options import parse_options

        options = parse_options(arguments)
        from tuner.plan import make_plan
        from tuner.report import make_console, print_plan

        console = make_console(to_stderr=options.json)
        plan = make_plan(options)
        print_plan(console, plan)
        # Once the command is known to make sense: Optuna alone takes a second.
        from tuner.command import carry_out
    return carry_out(plan, arguments, console)


if __name__ == "__main__":
    sys.exit(main())
