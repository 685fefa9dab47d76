"""The torch reference against an einsum row by row, and against arithmetic done by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.kernels import grouped_gemm_reference


def tensors(
    counts: list[int], n: int, k: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """a [sum(counts), K], b [E, N, K] and offsets [E + 1] of these rows per expert."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(sum(counts), k, generator=generator).half()
    b = torch.randn(len(counts), n, k, generator=generator).half()
    offsets = torch.tensor([0, *np.cumsum(counts)], dtype=torch.int32)
    return a, b, offsets


@pytest.mark.parametrize("counts", [[3, 0, 5, 1], [0, 0, 0], [7], [0, 9], [1] * 16])
def test_every_row_times_the_weights_of_its_expert(counts: list[int]) -> None:
    a, b, offsets = tensors(counts, 24, 40, seed=len(counts))
    expert_of_row = np.repeat(np.arange(len(counts)), counts)
    weights = b.double().numpy()[expert_of_row]
    expected = np.einsum("tk,tnk->tn", a.double().numpy(), weights)
    c = grouped_gemm_reference(a, b, offsets)
    assert c.dtype is torch.float16
    assert c.shape == (sum(counts), 24)
    # fp32 sums of 40 products, then one rounding to fp16: half of 2^-10 relative.
    np.testing.assert_allclose(c.double().numpy(), expected, rtol=2**-10, atol=1e-4)


def test_sums_do_not_overflow_half_on_the_way() -> None:
    """65504 is the largest half: 2 x 40000 - 79000 fits only if sums are kept in fp32."""
    a = torch.tensor([[200.0, 200.0, -395.0] + [0.0] * 5]).half()
    b = torch.full((1, 8, 8), 200.0).half()
    c = grouped_gemm_reference(a, b, torch.tensor([0, 1], dtype=torch.int32))
    assert c.tolist() == [[1000.0] * 8]


def test_rows_outside_the_offsets_stay_as_they_are() -> None:
    a, b, _ = tensors([6, 0], 8, 8, seed=1)
    offsets = torch.tensor([1, 3, 4], dtype=torch.int32)
    out = torch.full((6, 8), 7.0).half()
    c = grouped_gemm_reference(a, b, offsets, out)
    assert c is out
    assert (out[[0, 4, 5]] == 7).all()
    assert torch.equal(out[1:4], grouped_gemm_reference(a, b, offsets)[1:4])
    assert (grouped_gemm_reference(a, b, offsets)[[0, 4, 5]] == 0).all()
