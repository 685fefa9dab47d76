"""``python -m tests.tuner.planted_layer [race]``: engine.measure, but some configs are fatal.

The raster order of the second GEMM says how: 16 makes it raise what CUDA raises, 4 hangs it. With
``race`` all are right, and the race ends the process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence

from engine.measure import main
from engine.measuring import layer_measurer
from engine.measuring.layer_measurer import Checked, LayerMeasurer
from engine.measuring.stopwatch import Timing
from search_spaces.layer import LayerConfig

right = LayerMeasurer.check


def check(self: LayerMeasurer, config: LayerConfig) -> Checked:
    """Fatal, or as it should be."""
    match config.down.group_m:
        case 16:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        case 4:
            time.sleep(600)
    return right(self, config)


def race(self: LayerMeasurer, configs: Sequence[LayerConfig]) -> list[Timing]:
    """Always fatal."""
    os.kill(os.getpid(), signal.SIGKILL)
    return []


if __name__ == "__main__":
    if sys.argv[1:] == ["race"]:
        layer_measurer.LayerMeasurer.race = race  # type: ignore[method-assign]
    else:
        layer_measurer.LayerMeasurer.check = check  # type: ignore[method-assign]
    sys.exit(main(["--json"]))
