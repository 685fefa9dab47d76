"""Gate and up weights interleaved, against transformers' fused layout taken apart by chunk."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from engine import TunedKernels
from engine.kernels import interleave_gate_up
from search_spaces import UserError

ACTIVATIONS = {
    "swiglu": F.silu,
    "geglu": lambda x: F.gelu(x, approximate="tanh"),
    "reglu": F.relu,
}


def test_rows_alternate_in_blocks_of_eight() -> None:
    """Row numbers themselves: 16 gate rows and 16 up rows of one expert."""
    fused = torch.arange(32).view(1, 32, 1).expand(1, 32, 2)
    rows = interleave_gate_up(fused)[0, :, 0].tolist()
    assert rows == [*range(8), *range(16, 24), *range(8, 16), *range(24, 32)]


@pytest.mark.parametrize("epilogue", ACTIVATIONS)
def test_a_fused_layer_equals_permute_multiply_chunk_and_activate(epilogue: str) -> None:
    generator = torch.Generator().manual_seed(1)
    tokens, top_k, experts, inner, k = 7, 3, 5, 24, 40
    hidden = torch.randn(tokens, k, generator=generator).half()
    fused = torch.randn(experts, 2 * inner, k, generator=generator).half() / 6
    scores = torch.rand(tokens, experts, generator=generator)
    chosen = scores.topk(top_k).indices.flatten()
    order = torch.argsort(chosen, stable=True)
    rows = (order // top_k).int()
    offsets = F.pad(torch.bincount(chosen, minlength=experts).cumsum(0), (1, 0)).int()
    c = TunedKernels(None, "cpu").grouped_gemm(
        hidden, interleave_gate_up(fused), offsets, rows=rows, epilogue=epilogue, top_k=top_k
    )
    weights = fused[chosen[order]].float()
    gate, up = torch.einsum("rk,rnk->rn", hidden[rows].float(), weights).chunk(2, dim=-1)
    assert c.shape == (tokens * top_k, inner)
    expected = ACTIVATIONS[epilogue](gate) * up
    torch.testing.assert_close(c.float(), expected, rtol=1e-3, atol=1e-5)


def test_the_copy_is_contiguous_and_keeps_dtype() -> None:
    given = torch.randn(3, 64, 16, dtype=torch.bfloat16)
    made = interleave_gate_up(given)
    assert made.is_contiguous() and made.dtype is given.dtype and made.shape == given.shape


@pytest.mark.parametrize("shape", [(2, 24, 8), (32, 8)])
def test_odd_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="I a multiple of 8"):
        interleave_gate_up(torch.zeros(shape))
