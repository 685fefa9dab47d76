"""Combined rows on a CPU: the torch reference by hand and row by row, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine import TunedKernels
from search_spaces import UserError

TOKENS, TOP_K, EXPERTS, N, K = 5, 2, 4, 32, 64
ROWS = TOKENS * TOP_K
Operands = dict[str, Any]


def operands(seed: int = 1) -> Operands:
    """Slots sorted by expert; expert 1 has no rows."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    counts = torch.tensor([3, 0, 4, 3])
    order = torch.randperm(ROWS, generator=generator).split(counts.tolist())
    return {
        "a": normal(ROWS, K).half(),
        "b": normal(EXPERTS, N, K).half(),
        "offsets": torch.tensor([0, *counts.cumsum(0)], dtype=torch.int32),
        "slots": torch.cat([part.sort().values for part in order]).int(),
        "weights": normal(TOKENS, TOP_K).softmax(dim=1),
        "combine": "ordered",
        "top_k": TOP_K,
    }


def combined(**changes: Any) -> torch.Tensor:
    return TunedKernels(None, "cpu").grouped_gemm(**{**operands(), **changes})


@pytest.mark.parametrize("combine", ["ordered", "any"])
def test_a_token_is_the_weighted_sum_of_its_rows(combine: str) -> None:
    given = operands()
    expert = torch.repeat_interleave(torch.arange(EXPERTS), given["offsets"].diff().long())
    expected = torch.zeros(TOKENS, N, dtype=torch.float64)
    for row, slot in enumerate(given["slots"].tolist()):
        token, j = divmod(slot, TOP_K)
        product = given["b"][expert[row]].double() @ given["a"][row].double()
        expected[token] += float(given["weights"][token, j]) * product
    out = torch.full((TOKENS, N), torch.nan).half()
    c = combined(combine=combine, out=out)
    assert c is out
    torch.testing.assert_close(c.double(), expected, rtol=2e-3, atol=1e-2)
    assert torch.equal(combined(combine=combine), c)


def test_weighted_rows_are_rounded_and_summed_with_the_first_slot_first() -> None:
    """2048 + 1 + 1 in fp32 is 2050; 0.3 x 1 is rounded to fp16 before it counts 1,000 times."""
    a, b = torch.zeros(3, 8).half(), torch.ones(3, 8, 8).half()
    a[:, 0] = torch.tensor([2048.0, 1.0, 1.0])
    given: Operands = {
        "b": b, "offsets": torch.tensor([0, 1, 2, 3], dtype=torch.int32), "combine": "ordered",
        "slots": torch.tensor([0, 1, 2], dtype=torch.int32), "top_k": 3,
    }  # fmt: skip
    kernels, ones = TunedKernels(None, "cpu"), torch.ones(1, 3)
    assert kernels.grouped_gemm(a, weights=ones, **given).tolist() == [[2050.0] * 8]
    third = torch.tensor([[0.0, 0.3, 0.0]])
    c = kernels.grouped_gemm(a, weights=third, **given)
    assert torch.equal(c, torch.full((1, 8), 0.3).half())


def test_what_exceeds_half_saturates_before_and_after_the_sum() -> None:
    a, b = torch.full((2, 8), 200.0).half(), torch.full((2, 8, 8), 200.0).half()
    b[1] *= -1
    given: Operands = {
        "offsets": torch.tensor([0, 1, 2], dtype=torch.int32), "combine": "ordered", "top_k": 2,
        "slots": torch.tensor([0, 1], dtype=torch.int32),
    }  # fmt: skip
    kernels = TunedKernels(None, "cpu")
    # 320,000 and -160,000 become 65504 and -65504: their sum is nothing, not 160,000
    c = kernels.grouped_gemm(a, b, weights=torch.tensor([[1.0, 0.5]]), **given)
    assert c.tolist() == [[0.0] * 8]
    c = kernels.grouped_gemm(a, b.abs(), weights=torch.tensor([[1.0, 0.5]]), **given)
    assert c.tolist() == [[65504.0] * 8]
    a[0, 0] = torch.nan
    assert kernels.grouped_gemm(a, b, weights=torch.ones(1, 2), **given).isnan().all()


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def shared_with_weights() -> Operands:
    """An out of halves that begins within the memory of the weights."""
    memory = torch.zeros(TOKENS * N + 2 * ROWS).half()
    weights = memory[: 2 * ROWS].view(torch.float32).view(TOKENS, TOP_K)
    return {"weights": weights, "out": memory[16 : 16 + TOKENS * N].view(TOKENS, N)}


BAD: list[tuple[str, Callable[[Operands], Operands], tuple[str, ...]]] = [
    ("slots alone", lambda o: {"combine": ""}, ("slots and weights", "combine='ordered'")),
    ("no slots", lambda o: {"slots": None}, ("combine='ordered' needs slots",)),
    ("no weights", lambda o: {"weights": None, "top_k": None}, ("needs weights and top_k",)),
    ("unknown", lambda o: {"combine": "sum"}, ("unknown combine 'sum'", "ordered, any")),
    ("slots type", lambda o: {"slots": [0] * ROWS}, ("slots is a list",)),
    ("slots dtype", lambda o: {"slots": o["slots"].long()}, ("slots is torch.int64", "int32")),
    ("slots device", lambda o: {"slots": o["slots"].to("meta")}, ("slots is on meta",)),
    ("slots few", lambda o: {"slots": o["slots"][1:]}, ("slots has 9 elements", "10 rows")),
    ("slots strided", lambda o: {"slots": ints(*range(2 * ROWS))[::2]}, ("strides [2]",)),
    ("weights dtype", lambda o: {"weights": o["weights"].half()}, ("weights is torch.float16",)),
    ("weights dims", lambda o: {"weights": o["weights"].flatten()}, ("2 dimensions",)),
    ("weights few", lambda o: {"weights": o["weights"][1:]}, ("shape [4, 2]", "[5, 2]")),
    ("weights strided", lambda o: {"weights": torch.ones(TOP_K, TOKENS).T}, ("contiguous",)),
    ("top_k", lambda o: {"top_k": 3}, ("10 rows, no whole tokens of top_k=3",)),
    ("top_k zero", lambda o: {"top_k": 0}, ("no whole tokens of top_k=0",)),
    ("gather", lambda o: {"rows": ints(*range(ROWS)), "top_k": 1, "weights": torch.ones(ROWS, 1)},
     ("combine does not go with gather",)),
    ("gated", lambda o: {"epilogue": "swiglu"}, ("does not go with epilogue swiglu",)),
    ("slot beyond", lambda o: {"slots": o["slots"] + 1}, ("is 10: must lie in 0..9",)),
    ("slot twice", lambda o: {"slots": o["slots"].clamp(min=1)}, ("slot 1 has 2 rows",)),
    ("rows left out", lambda o: {"offsets": ints(0, 3, 3, 7, 9)}, ("from 0 to 9", "0 to 10")),
    ("out shape", lambda o: {"out": torch.empty(ROWS, N).half()}, ("[10, 32]", "[5, 32]")),
    ("out is weights", lambda o: shared_with_weights(), ("shares memory with slots or weights",)),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_combination(change: Callable[[Operands], Operands], words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as error:
        combined(**change(operands()))
    line = str(error.value)
    assert [word for word in words if word not in line] == []
    assert "\n" not in line


def test_no_tokens() -> None:
    none = torch.empty(0, dtype=torch.int32)
    c = combined(
        a=torch.empty(0, K).half(), slots=none, weights=torch.empty(0, TOP_K),
        offsets=torch.zeros(EXPERTS + 1, dtype=torch.int32),
    )  # fmt: skip
    assert c.shape == (0, N)
