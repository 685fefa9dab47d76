"""Bad tensors: each is refused with one line that names what is wrong and what would be right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from engine import TunedKernels
from search_spaces import UserError

ROWS, EXPERTS, N, K = 10, 4, 32, 64
Operands = dict[str, Any]


def operands() -> Operands:
    return {
        "a": torch.ones(ROWS, K).half(),
        "b": torch.ones(EXPERTS, N, K).half(),
        "offsets": torch.tensor([0, 3, 3, 7, ROWS], dtype=torch.int32),
    }


def shifted(tensor: torch.Tensor) -> torch.Tensor:
    """The same values, one element further on in memory."""
    return torch.cat([tensor.new_zeros(1), tensor.flatten()])[1:].view(tensor.shape)


def offsets(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def shared_with_rows() -> Operands:
    """An out of halves that begins within the memory of rows."""
    memory = torch.zeros(ROWS * N + 2 * ROWS).half()
    rows = memory[: 2 * ROWS].view(torch.int32)
    return {"rows": rows, "out": memory[16 : 16 + ROWS * N].view(ROWS, N)}


BAD: list[tuple[str, Callable[[Operands], Operands], tuple[str, ...]]] = [
    ("not a tensor", lambda o: {"a": o["a"].numpy()}, ("a is a ndarray", "torch.Tensor")),
    ("a dtype", lambda o: {"a": o["a"].float()}, ("a is torch.float32", ".to(torch.float16)")),
    ("b dtype", lambda o: {"b": o["b"].bfloat16()}, ("b is torch.bfloat16", "float16")),
    ("offsets dtype", lambda o: {"offsets": o["offsets"].long()}, ("int64", "torch.int32")),
    ("a device", lambda o: {"a": o["a"].to("meta")}, ("a is on meta", "must be on cpu")),
    ("b device", lambda o: {"b": o["b"].to("meta")}, ("b is on meta", "must be on cpu")),
    ("offsets device", lambda o: {"offsets": o["offsets"].to("meta")}, ("offsets is on meta",)),
    ("a dims", lambda o: {"a": o["a"][None]}, ("a has shape [1, 10, 64]", "2 dimensions")),
    ("b dims", lambda o: {"b": o["b"][0]}, ("b has shape [32, 64]", "3 dimensions")),
    ("offsets dims", lambda o: {"offsets": o["offsets"][None]}, ("1 dimensions",)),
    ("a strided", lambda o: {"a": torch.ones(K, ROWS).half().T}, ("strides [1, 10]", ".contig")),
    ("b strided", lambda o: {"b": o["b"][:, ::2]}, ("strides [2048, 128, 1]", ".contiguous()")),
    ("offsets strided", lambda o: {"offsets": offsets(*range(10))[::2]}, ("strides [2]",)),
    ("a misaligned", lambda o: {"a": shifted(o["a"])}, ("2 bytes past a multiple of 16", "clone")),
    ("b misaligned", lambda o: {"b": shifted(o["b"])}, ("2 bytes past a multiple of 16", "clone")),
    ("K differs", lambda o: {"a": torch.ones(ROWS, 72).half()}, ("K=72", "K=64", "equal")),
    ("E differs", lambda o: {"offsets": offsets(0, 5, ROWS)}, ("3 elements", "4 experts", "5")),
    ("no offsets", lambda o: {"offsets": offsets()}, ("0 elements", "needs 5")),
    ("N odd", lambda o: {"b": torch.ones(EXPERTS, 30, K).half()}, ("N=30", "multiple of 8", "32")),
    (
        "K odd",
        lambda o: {"a": torch.ones(ROWS, 4).half(), "b": torch.ones(EXPERTS, N, 4).half()},
        ("K=4", "multiple of 8"),
    ),
    ("top_k", lambda o: {"top_k": 5}, ("top_k=5", "1..E=4")),
    ("top_k zero", lambda o: {"top_k": 0}, ("top_k=0", "1..E=4")),
    ("descending", lambda o: {"offsets": offsets(0, 5, 3, 7, ROWS)}, ("from 5 to 3", "expert 1")),
    ("beyond", lambda o: {"offsets": offsets(0, 3, 3, 7, 11)}, ("to 11", "0..10")),
    ("negative", lambda o: {"offsets": offsets(-1, 3, 3, 7, 10)}, ("from -1", "0..10")),
    ("gradient", lambda o: {"b": o["b"].requires_grad_()}, ("gradient", "inference_mode")),
    ("rows type", lambda o: {"rows": [0] * ROWS}, ("rows is a list",)),
    ("rows dtype", lambda o: {"rows": torch.zeros(ROWS)}, ("rows is torch.float32", "int32")),
    ("rows device", lambda o: {"rows": offsets(*range(ROWS)).to("meta")}, ("rows is on meta",)),
    ("rows dims", lambda o: {"rows": offsets(*range(ROWS))[None]}, ("rows has shape [1, 10]",)),
    ("rows strided", lambda o: {"rows": offsets(*range(2 * ROWS))[::2]}, ("strides [2]",)),
    ("rows too few", lambda o: {"rows": offsets(1, 2, 3)}, ("to 10", "0..3, the rows of c")),
    ("rows not T x k", lambda o: {"rows": offsets(*range(ROWS)), "top_k": 2},
     ("rows has 10 elements", "10 tokens with top_k=2 have 20")),
    ("rows beyond", lambda o: {"rows": offsets(*range(1, ROWS + 1))}, ("rows[9] is 10", "0..9")),
    ("rows negative", lambda o: {"rows": offsets(-1, *range(9))}, ("rows[0] is -1", "0..9")),
    ("epilogue", lambda o: {"epilogue": "silu"}, ("unknown epilogue 'silu'", "swiglu, geglu")),
    ("N and pairs", lambda o: {"epilogue": "reglu", "b": torch.ones(EXPERTS, 24, K).half()},
     ("N=24", "multiple of 16", "32")),
    ("gated out", lambda o: {"epilogue": "reglu", "out": torch.ones(ROWS, N).half()},
     ("[10, 32]", "[10, 16]")),
    ("out is rows", lambda o: shared_with_rows(), ("shares memory",)),
    ("out dtype", lambda o: {"out": torch.empty(ROWS, N)}, ("out is torch.float32",)),
    ("out shape", lambda o: {"out": torch.empty(ROWS, K).half()}, ("[10, 64]", "[10, 32]")),
    ("out device", lambda o: {"out": torch.empty(ROWS, N).half().to("meta")}, ("out is on meta",)),
    ("out strided", lambda o: {"out": torch.empty(N, ROWS).half().T}, ("out has strides",)),
    ("out misaligned", lambda o: {"out": shifted(torch.ones(ROWS, N).half())}, ("out starts 2",)),
    ("out is a", lambda o: {"out": o["a"].view(-1)[: ROWS * N].view(ROWS, N)}, ("shares memory",)),
    ("out in b", lambda o: {"out": o["b"].view(-1, N)[8 : 8 + ROWS]}, ("shares memory",)),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_tensor(change: Callable[[Operands], Operands], words: tuple[str, ...]) -> None:
    good = operands()
    with pytest.raises(UserError) as error:
        TunedKernels(None, "cpu").grouped_gemm(**{**good, **change(good)})
    line = str(error.value)
    assert [word for word in words if word not in line] == []
    assert "\n" not in line


def test_the_tensors_that_the_table_spoils_are_good() -> None:
    c = TunedKernels(None, "cpu").grouped_gemm(**operands(), check=True)
    assert torch.equal(c, torch.full((ROWS, N), float(K)).half())


def test_neighbours_in_one_storage_do_not_overlap() -> None:
    """A workspace that holds a and out side by side is a common way to run without allocations."""
    good = operands()
    both = torch.zeros(ROWS * (K + N)).half()
    a, out = both[: ROWS * K].view(ROWS, K), both[ROWS * K :].view(ROWS, N)
    a.copy_(good["a"])
    c = TunedKernels(None, "cpu").grouped_gemm(a, good["b"], good["offsets"], out=out)
    assert c is out
    assert np.unique(c.numpy()).tolist() == [K]


def test_weights_that_carry_gradients_are_welcome_in_inference() -> None:
    good = operands()
    good["b"].requires_grad_()
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            c = TunedKernels(None, "cpu").grouped_gemm(**good)
        assert not c.requires_grad
