"""Card: clock, temperature and other users of one GPU, as NVML tells them."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pynvml


@dataclass(frozen=True)
class CardState:
    """A moment's reading; None where the driver does not tell.

    ``busy`` names the other processes with work on the card, whose times cannot be trusted then.
    """

    sm_clock_mhz: int | None = None
    temperature_c: int | None = None
    busy: str | None = None


class Card:
    """One GPU by its uuid ("GPU-..."): CUDA's device numbers need not be NVML's."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid
        self._handle = None
        # Without NVML (some virtual machines) times are taken all the same, their clock unknown.
        with suppress(pynvml.NVMLError):
            _start()
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)

    def state(self, helpers: Collection[int] = ()) -> CardState:
        """The present reading; processes ``helpers`` are ours. Costs the host some 100 us."""
        if self._handle is None:
            return CardState()
        clock = temperature = busy = None
        with suppress(pynvml.NVMLError):
            clock = int(pynvml.nvmlDeviceGetClockInfo(self._handle, pynvml.NVML_CLOCK_SM))
        with suppress(pynvml.NVMLError):
            sensor = pynvml.NVML_TEMPERATURE_GPU
            temperature = int(pynvml.nvmlDeviceGetTemperature(self._handle, sensor))
        with suppress(pynvml.NVMLError):
            found = pynvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
            ours = {os.getpid(), os.getppid(), *helpers}  # a search and its measuring child
            busy = name_others({process.pid for process in found}, ours)
        return CardState(clock, temperature, busy)


@lru_cache(maxsize=1)
def _start() -> None:
    pynvml.nvmlInit()


def name_others(pids: set[int], ours: set[int]) -> str | None:
    """Processes other than ``ours`` as "python (123), python (456)"; None when there are none.

    Inside a container the driver tells foreign process ids, or none: one of several is us then.
    """
    others = sorted(pids - ours)
    if not pids & ours:
        strangers = len(others) - 1
        return f"{strangers} unnamed processes" if strangers > 0 else None
    return ", ".join(f"{_name(pid)} ({pid})" for pid in others) or None


def _name(pid: int) -> str:
    try:
        return Path(str(pynvml.nvmlSystemGetProcessName(pid))).name
    except pynvml.NVMLError:
        return "process"
