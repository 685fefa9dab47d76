"""moe_permute on a GPU at the sizes of models, against a stable sort in torch on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.kernels import TunedKernels
from engine.kernels.routing import Routing
from search_spaces import UserError
from search_spaces.permute_config import permute_config
from search_spaces.permute_problem import MOST_GROUPS, PermuteProblem
from templates import CompilePool
from templates.permute_reference import permute_reference
from tests.gpu.compiled import fill_cache
from tests.permutation_oracle import POISON, placement

pytestmark = pytest.mark.gpu

MIXTRAL = PermuteProblem(experts=8, top_k=2, groups=8)
QWEN = PermuteProblem(experts=128, top_k=8, groups=128)
RANK = PermuteProblem(experts=256, top_k=8, groups=48, replicas=2)
WIDEST = PermuteProblem(experts=MOST_GROUPS, top_k=8, groups=MOST_GROUPS)
# One slot, one small chunk, one large chunk and a token more, many chunks with a short last one.
TOKENS = (0, 1, 7, 128, 129, 512, 513, 1000, 8192, 32768)
PROBLEMS = (MIXTRAL, QWEN, RANK, WIDEST)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory, pool: CompilePool) -> TunedKernels:
    every = [(p, permute_config(p, max(1, tokens))) for p in PROBLEMS for tokens in TOKENS]
    fill_cache(pool, every)
    folder: Path = tmp_path_factory.mktemp("db")
    return TunedKernels(folder / "none.sqlite", "cuda")


def poisoned(ids: torch.Tensor, groups: int) -> Routing:
    def ints(*shape: int) -> torch.Tensor:
        return torch.full(shape, POISON, dtype=torch.int32, device="cuda")

    slots = ids.numel()
    return Routing(ids, None, ints(groups + 1), ints(slots), ints(slots), ints(*ids.shape), None)


def drawn(problem: PermuteProblem, tokens: int, skewed: bool = False) -> torch.Tensor:
    """Ids with some -1; ``skewed``: half of all slots go to one expert."""
    ids = torch.randint(-1, problem.experts, (tokens, problem.top_k), dtype=torch.int32)
    if skewed:
        ids[torch.rand(ids.shape) < 0.5] = problem.experts - 1
    return ids.cuda()


def slot_map_of(problem: PermuteProblem) -> torch.Tensor | None:
    if not problem.replicas:
        return None
    places = placement(problem.experts, problem.replicas, problem.groups, seed=5)
    return torch.tensor(places, dtype=torch.int32, device="cuda")


def assert_right(
    found: Routing,
    problem: PermuteProblem,
    slot_map: torch.Tensor | None,
    num_valid: torch.Tensor | None = None,
) -> None:
    given = (None if tensor is None else tensor.cpu() for tensor in (slot_map, num_valid))
    expected = permute_reference(found.ids.cpu(), problem.groups, *given)
    rows = expected.rows.shape[0]
    assert torch.equal(found.offsets.cpu(), expected.offsets)
    assert torch.equal(found.inverse.cpu(), expected.inverse)
    for name in ("rows", "slots"):
        written = getattr(found, name).cpu()
        assert torch.equal(written[:rows], getattr(expected, name)), name
        assert bool((written[rows:] == POISON).all()), name


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.key)
def test_every_size(kernels: TunedKernels, problem: PermuteProblem, tokens: int) -> None:
    slot_map = slot_map_of(problem)
    for skewed in (False, True):
        ids = drawn(problem, tokens, skewed)
        out = poisoned(ids, problem.groups)
        found = kernels.moe_permute(ids, slot_map, problem=problem, out=out)
        assert_right(found, problem, slot_map)


@pytest.mark.parametrize("expert", [-1, 0, 77])
def test_all_slots_of_one_expert_or_of_none(kernels: TunedKernels, expert: int) -> None:
    ids = torch.full((8192, 8), expert, dtype=torch.int32, device="cuda")
    found = kernels.moe_permute(ids, problem=QWEN, out=poisoned(ids, 128))
    assert_right(found, QWEN, None)


def test_ids_of_no_expert_are_skipped_unless_checked(kernels: TunedKernels) -> None:
    ids = drawn(RANK, 4096)
    ids[::7, 3] = 2**31 - 1
    ids[::5, 1] = -(2**31)
    slot_map = slot_map_of(RANK)
    found = kernels.moe_permute(ids, slot_map, problem=RANK, out=poisoned(ids, RANK.groups))
    assert_right(found, RANK, slot_map)
    with pytest.raises(UserError, match="ids holds"):
        kernels.moe_permute(ids, slot_map, problem=RANK, check=True)


@pytest.mark.parametrize("tokens", [64, 4096])
def test_a_captured_graph_follows_ids_map_and_padding(kernels: TunedKernels, tokens: int) -> None:
    """One pass and two; nothing but device memory says how many tokens are valid."""
    ids, slot_map = drawn(RANK, tokens), slot_map_of(RANK)
    assert slot_map is not None
    num_valid = torch.tensor([tokens], dtype=torch.int32, device="cuda")
    out = poisoned(ids, RANK.groups)

    def run() -> None:
        kernels.moe_permute(ids, slot_map, problem=RANK, num_valid=num_valid, out=out)

    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    for valid in (tokens, 0, 1, tokens // 3, tokens - 1):
        ids.copy_(drawn(RANK, tokens))
        slot_map.copy_(slot_map[torch.randperm(RANK.experts, device="cuda")])
        num_valid.fill_(valid)
        for tensor in (out.offsets, out.rows, out.slots, out.inverse):
            tensor.fill_(POISON)
        graph.replay()
        assert_right(out, RANK, slot_map, num_valid)


def test_the_same_bits_every_time(kernels: TunedKernels) -> None:
    ids = drawn(QWEN, 8192)
    first = kernels.moe_permute(ids, problem=QWEN, out=poisoned(ids, 128))
    for _ in range(50):
        again = kernels.moe_permute(ids, problem=QWEN, out=poisoned(ids, 128))
        for name in ("offsets", "rows", "slots", "inverse"):
            assert torch.equal(getattr(again, name), getattr(first, name)), name
