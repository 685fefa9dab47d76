"""CommandLine: how every command reads its flags, and tells a mistake in one line."""

from __future__ import annotations

import argparse
import difflib
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from search_spaces.errors import UserError

EXIT_USAGE, EXIT_INTERRUPTED = 2, 130


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose mistakes are UserErrors, for :func:`run_command` to tell."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; {self.prog} --help lists what there is")

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """The flags' values. Raises UserError for anything that is not in the help."""
        given, unknown = self.parse_known_args(argv)
        if unknown:
            word = unknown[0].partition("=")[0]
            flags = re.findall(r"(?<!\S)--[a-z][a-z-]*", self.format_help())
            self.error(f"unknown option '{word}'{did_you_mean(word, flags)}")
        return given


def choose(kind: str, word: str, choices: Sequence[str]) -> str:
    """``word`` if it is one of ``choices``. Raises UserError naming them and the nearest."""
    if word in choices:
        return word
    names = ", ".join(choices)
    raise UserError(f"unknown {kind} '{word}'{did_you_mean(word, choices)}: choose one of {names}")


def did_you_mean(word: str, choices: Sequence[str]) -> str:
    """`` (did you mean gate_up?)`` for the nearest of the choices, or nothing."""
    near = difflib.get_close_matches(word, choices, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """A flag's type: whole numbers from ``least`` to ``most``."""
    rule = f"a whole number, {least} or more" if most is None else f"a whole number {least}..{most}"

    def read(text: str) -> int:
        # int() takes 1_000 and digits of any script; a typing error should not be a number.
        if not re.fullmatch(r"-?[0-9]{1,30}", text):
            raise argparse.ArgumentTypeError(f"'{text}' is not {rule}")
        if int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"{text} is not {rule}")
        return int(text)

    return read


def run_command(command: Callable[[], int], interrupted: str = "interrupted") -> int:
    """The exit status of ``command``.

    A UserError becomes ``error: <line>`` on stderr and 2, Ctrl-C the line ``interrupted`` and
    130; a reader that closed the pipe early (head, less) has seen enough, which is 0. A character
    that the locale lacks is written as a question mark.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        status = command()
        sys.stdout.flush()
    except UserError as error:
        print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:
        # Python flushes once more as it ends, and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return EXIT_INTERRUPTED
    return status
