"""Command lines: what every command has in common when something is mistyped or cut short."""

from __future__ import annotations

import subprocess
import sys

import pytest

from search_spaces.command_line import Parser, choose, run_command, whole_number
from search_spaces.errors import UserError
from tests.conftest import ROOT


@pytest.fixture
def parser() -> Parser:
    parser = Parser(prog="tool")
    parser.add_argument("--trials", type=whole_number(1))
    parser.add_argument("--days", type=whole_number(0, 9))
    parser.add_argument("--sampler", required=True)
    return parser


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--sampler", "argument --sampler: expected one argument"),
        ("", "the following arguments are required: --sampler"),
        ("--sampler a --trial 1", "unknown option '--trial' (did you mean --trials?)"),
        ("--sampler a --what=1", "unknown option '--what'"),
        ("--sampler a file", "unknown option 'file'"),
        ("--sampler a --trials 0", "argument --trials: 0 is not a whole number, 1 or more"),
        ("--sampler a --trials x", "argument --trials: 'x' is not a whole number, 1 or more"),
        ("--sampler a --trials 1_0", "argument --trials: '1_0' is not a whole number, 1 or more"),
        ("--sampler a --days 10", "argument --days: 10 is not a whole number 0..9"),
    ],
)
def test_a_mistake_names_itself_and_the_way_to_help(parser: Parser, line: str, told: str) -> None:
    with pytest.raises(UserError) as refused:
        parser.read(line.split())
    assert str(refused.value) == f"{told}; tool --help lists what there is"


def test_what_is_right_is_read(parser: Parser) -> None:
    given = parser.read(["--sampler", "tpe", "--trials", "12", "--days", "0"])
    assert (given.sampler, given.trials, given.days) == ("tpe", 12, 0)


def test_a_choice_names_the_nearest() -> None:
    assert choose("layer", "down", ("gate_up", "down")) == "down"
    with pytest.raises(UserError, match=r"'gateup' \(did you mean gate_up\?\): choose"):
        choose("layer", "gateup", ("gate_up", "down"))
    with pytest.raises(UserError, match=r"unknown layer 'x': choose one of gate_up, down$"):
        choose("layer", "x", ("gate_up", "down"))


def test_a_mistake_is_one_line_even_when_its_value_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command() -> int:
        raise UserError("file 'a\nb' is not there")

    assert run_command(command) == 2
    assert capsys.readouterr().err == "error: file 'a b' is not there\n"


def test_ctrl_c_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise KeyboardInterrupt

    assert run_command(command) == 130
    assert capsys.readouterr().err == "interrupted\n"


PRINTS = """
import sys
from search_spaces.command_line import run_command
def command():
    for _ in range(int(sys.argv[1])):
        print("µ", "x" * 1000)
    return 7
sys.exit(run_command(command))
"""


def test_a_closed_pipe_is_no_error() -> None:
    line = ["bash", "-c", 'set -o pipefail; "$@" | head -n 1 >/dev/null', "_", sys.executable]
    done = subprocess.run(
        [*line, "-c", PRINTS, "100000"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_locale_without_the_character() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINTS, "1"],
        cwd=ROOT, env={"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.startswith("? xxx")
