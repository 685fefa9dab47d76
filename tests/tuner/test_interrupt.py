"""Ctrl-C at different times."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tuner.interrupt import SIGNALS, stop_on_interrupt

EITHER = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)

# A library that takes Ctrl-C for a broken installation, as NumPy does when datetime fails to load.
LIBRARY = """
import os, sys
from tuner.interrupt import quit_on_interrupt
with quit_on_interrupt():
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
        for _ in range(1000): pass
    except BaseException:
        raise ImportError("please check your installation")
print("went on")
"""


@EITHER
def test_before_a_search_it_quits_with_one_line(number: signal.Signals) -> None:
    line = [sys.executable, "-c", LIBRARY, str(int(number))]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr == "interrupted: nothing was begun\n"
    assert (done.returncode, done.stdout) == (130, "")


@EITHER
def test_in_a_search_the_first_asks_and_the_second_ends(number: signal.Signals) -> None:
    notes: list[str] = []
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), stop_on_interrupt(notes.append) as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(5)
        assert "storing what was found" in notes[0]
        os.kill(os.getpid(), number)
        pytest.fail("the second one raises")
    assert len(notes) == 1
    assert signal.getsignal(number) is before
