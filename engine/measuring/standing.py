"""Standing: the configs that a layer runs as things stand."""

from __future__ import annotations

from engine.kernels.dispatcher import Dispatcher
from engine.kernels.layer_choice import choose_layer
from engine.kernels.tuned import ASSUMED_ARCH
from engine.measuring.request import Request
from search_spaces import reference_gpu
from search_spaces.layer import LayerConfig
from search_spaces.views import view_of
from templates.device import device_spec
from tuning_db.tunings import Tunings


def standing(request: Request, db: str | None) -> tuple[LayerConfig, ...]:
    """What the tuning DB ``db`` makes the engine run, then the default if that is another.

    On a CPU, where configs make no difference, the default alone. Raises UserError without that
    GPU, and for a DB that cannot be read.
    """
    device = request.torch_device()
    if device.type == "cpu":
        return (view_of(request.problem, reference_gpu(ASSUMED_ARCH)).default(),)
    gpu = device_spec(device.index)
    dispatcher = Dispatcher(Tunings(db, gpu), request.skew)
    chosen = choose_layer(dispatcher, request.problem, request.tokens).config
    return tuple(dict.fromkeys([chosen, view_of(request.problem, gpu).default()]))
