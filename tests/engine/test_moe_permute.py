"""TunedKernels.moe_permute on a CPU, and what it refuses anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.kernels import TunedKernels
from engine.kernels.routing import Routing
from search_spaces import UserError
from search_spaces.permute_problem import PermuteProblem
from tests.permutation_oracle import POISON, Sorted, groups_here, placement, sorted_slots

MAPPED = PermuteProblem(experts=12, top_k=3, groups=7, replicas=2)
PLAIN = PermuteProblem(experts=12, top_k=3, groups=12)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> TunedKernels:
    folder: Path = tmp_path_factory.mktemp("db")
    return TunedKernels(folder / "none.sqlite", "cpu")


def some_ids(tokens: int) -> torch.Tensor:
    return torch.randint(-1, 12, (tokens, 3), dtype=torch.int32)


def some_map() -> torch.Tensor:
    return torch.tensor(placement(12, 2, 7, seed=1), dtype=torch.int32)


def poisoned(ids: torch.Tensor, groups: int) -> Routing:
    def ints(*shape: int) -> torch.Tensor:
        return torch.full(shape, POISON, dtype=torch.int32)

    slots = ids.numel()
    return Routing(ids, None, ints(groups + 1), ints(slots), ints(slots), ints(*ids.shape), None)


def lists(routing: Routing) -> Sorted:
    found = (routing.offsets, routing.rows, routing.slots, routing.inverse)
    return Sorted(*(tensor.flatten().tolist() for tensor in found))


@pytest.mark.parametrize("valid", [None, 0, 17, 40])
def test_all_of_a_ranks_slots(kernels: TunedKernels, valid: int | None) -> None:
    """Padding holds garbage; rows and slots beyond the last row stay as they were."""
    ids, slot_map = some_ids(40), some_map()
    tokens = 40 if valid is None else valid
    ids[tokens:] = 12345
    out = poisoned(ids, 7)
    found = kernels.moe_permute(
        ids,
        slot_map,
        problem=MAPPED,
        num_valid=None if valid is None else torch.tensor([valid], dtype=torch.int32),
        out=out,
    )
    assert found is out
    here = groups_here(ids.flatten().tolist(), slot_map.tolist(), 3 * tokens)
    assert lists(found) == sorted_slots(here, 7, 3)


def test_memory_of_its_own(kernels: TunedKernels) -> None:
    ids = some_ids(25)
    found = kernels.moe_permute(ids, problem=PLAIN)
    expected = sorted_slots(ids.flatten().tolist(), 12, 3)
    rows = expected.offsets[-1]
    assert found.ids is ids and found.weights is None
    assert found.offsets.tolist() == expected.offsets
    assert found.slots[:rows].tolist() == expected.slots[:rows]
    assert found.inverse.flatten().tolist() == expected.inverse


def bad_map() -> torch.Tensor:
    slot_map = some_map()
    slot_map[3, 1] = 7
    return slot_map


def number(value: int, count: int = 1) -> torch.Tensor:
    return torch.full((count,), value, dtype=torch.int32)


BAD: dict[str, tuple[Callable[[TunedKernels], object], str]] = {
    "type": (lambda k: k.moe_permute(some_ids(4).long(), problem=PLAIN), "ids is torch.int64"),
    "columns": (lambda k: k.moe_permute(some_ids(4)[:, :2].clone(), problem=PLAIN), "2 columns"),
    "strides": (lambda k: k.moe_permute(some_ids(8)[::2], problem=PLAIN), "contiguous"),
    "no map": (lambda k: k.moe_permute(some_ids(4), problem=MAPPED), "slot_map is missing"),
    "a map": (lambda k: k.moe_permute(some_ids(4), some_map(), problem=PLAIN), "is given"),
    "other map": (
        lambda k: k.moe_permute(some_ids(4), some_map()[:6].clone(), problem=MAPPED),
        r"needs \[12, 2\]",
    ),
    "an id": (
        lambda k: k.moe_permute(some_ids(4).fill_(12), problem=PLAIN),
        r"ids holds 12: it names one of 0\.\.11",
    ),
    "a group": (
        lambda k: k.moe_permute(some_ids(4), bad_map(), problem=MAPPED),
        r"slot_map holds 7: it names one of 0\.\.6",
    ),
    "valid tokens": (
        lambda k: k.moe_permute(some_ids(4), problem=PLAIN, num_valid=number(5)),
        "num_valid is 5",
    ),
    "numbers of tokens": (
        lambda k: k.moe_permute(some_ids(4), problem=PLAIN, num_valid=number(1, 2)),
        "num_valid has 2 elements",
    ),
    "other ids": (
        lambda k: k.moe_permute(some_ids(4), problem=PLAIN, out=poisoned(some_ids(4), 12)),
        "out is made for other ids",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_does_not_fit_is_refused(kernels: TunedKernels, what: str) -> None:
    call, message = BAD[what]
    with pytest.raises(UserError, match=message):
        call(kernels)


def test_an_out_of_other_groups_is_refused(kernels: TunedKernels) -> None:
    ids = some_ids(4)
    with pytest.raises(UserError, match="offsets for 11 groups"):
        kernels.moe_permute(ids, problem=PLAIN, out=poisoned(ids, 11))
