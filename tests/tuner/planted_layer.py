"""``python -m tests.tuner.planted_layer HOW``: engine.measure, but the second config is fatal."""

from __future__ import annotations

import os
import signal
import sys
import time

from engine.measure import main
from engine.measuring.layer_measurer import Checked, LayerMeasurer
from search_spaces.layer import LayerConfig

FATAL = 2  # which check it is, of this process
right = LayerMeasurer.check
race = LayerMeasurer.race


def check(self: LayerMeasurer, config: LayerConfig) -> Checked:
    """As it should be, but for configs whose GEMM 1 has another raster order than 1."""
    if config.gate_up.group_m != 1:
        fail()
    return right(self, config)


def fail() -> None:
    """What the command line says."""
    how = sys.argv[1]
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "raises":
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    time.sleep(600)


if __name__ == "__main__":
    LayerMeasurer.check = check  # type: ignore[method-assign]
    sys.exit(main(["--json"]))
