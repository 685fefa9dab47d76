"""Runs contests of MoE layers on one GPU, one model's weights at a time."""

from __future__ import annotations

import torch

from engine import TunedKernels
from scripts.moe_layer_contest import contest
from scripts.moe_layer_tables import Result
from scripts.moe_peers import humming, torch_grouped_mm, torch_loop, transformers_block, vllm_triton
from scripts.moe_peers.layer import Layer, draw_hidden, make_layer
from scripts.moe_peers.ours import Ours
from scripts.moe_peers.peer import Peer
from search_spaces import Skew, UserError
from search_spaces.models import ModelShape
from tuner.card import Card
from tuner.timing import Stopwatch

PEERS = (
    torch_loop.PEER,
    torch_grouped_mm.PEER,
    transformers_block.PEER,
    transformers_block.COMPILED,
    vllm_triton.PEER,
    vllm_triton.NEAR,
    humming.PEER,
)


def choose_peers(text: str) -> list[Peer]:
    """``all``, or those named, separated by commas. Raises UserError for an unknown name."""
    if text == "all":
        return list(PEERS)
    known = {peer.name: peer for peer in PEERS}
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"--peers '{unknown[0]}': known are {', '.join(known)}")
    return [known[name] for name in names]


class Runs:
    """Contests on CUDA device ``device``, whose tuned kernels are those of ``db``."""

    def __init__(
        self, db: str | None, device: int, uuid: str, peers: str, most_tokens: int
    ) -> None:
        self._peers = choose_peers(peers)
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = False
        self._device = torch.device("cuda", device)
        self._ours = Ours(TunedKernels(db, self._device), most_tokens)
        self._stopwatch = Stopwatch(self._device, Card(uuid))
        self._layers: dict[torch.dtype, Layer] = {}

    def run(self, model: ModelShape, skew: Skew, tokens: int, alone: bool, seed: int) -> Result:
        """One contest; weights are drawn anew when the model is another than before."""
        layers = self._layers_of(model, seed)
        layer = layers[torch.float16]
        hidden = draw_hidden(model, layer.router, tokens, skew, seed + tokens)
        _, ids = layer.choose(hidden.float() @ layer.router.float().T)
        peers = [self._ours.peer, *([] if alone else self._peers)]
        entries = contest(self._stopwatch, peers, layers, hidden, seed + tokens)
        return Result(model, skew, tokens, int(ids.unique().numel()), tuple(entries))

    def _layers_of(self, model: ModelShape, seed: int) -> dict[torch.dtype, Layer]:
        known = self._layers.get(torch.float16)
        if known is None or known.model != model:
            self._layers = {}
            torch.cuda.empty_cache()
            layer = make_layer(model, seed, self._device)
            self._layers = {d: layer.cast(d) for d in (torch.float16, torch.bfloat16)}
        return self._layers
