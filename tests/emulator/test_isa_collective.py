"""Warp collectives against the manual's pseudo-code, lane by lane in plain Python."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

import numpy as np
import pytest

from tests.emulator.bench import Bench
from tests.emulator.cuda import ptx_of
from tests.emulator.ptx_kernel import run
from tuner.emulator import EmulationFault, FaultKind, emulate
from tuner.emulator.isa.values import Array
from tuner.emulator.ptx import PtxError

WARPS = 4
LANES = 32 * WARPS
EVERYONE = 0xFFFFFFFF


def words(rng: np.random.Generator, high: int = 1 << 32) -> Array:
    return rng.integers(0, high, LANES, dtype=np.uint64).astype(np.uint32)


def lanes_of(mask: Array | None) -> list[int]:
    return [lane for lane in range(LANES) if mask is None or mask[lane]]


def shuffled(mode: str, lane: int, b: int, c: int) -> tuple[int, bool]:
    """Source lane and range predicate: the pseudo-code of shfl.sync."""
    bval, cval, segmask = b & 31, c & 31, c >> 8 & 31
    max_lane = (lane & segmask) | (cval & ~segmask)
    min_lane = lane & segmask
    j = {
        "up": lane - bval,
        "down": lane + bval,
        "bfly": lane ^ bval,
        "idx": min_lane | (bval & ~segmask),
    }[mode]
    pval = j >= max_lane if mode == "up" else j <= max_lane
    return (j, pval) if pval else (lane, pval)


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("same", [True, False], ids=["uniform", "per lane"])
def test_shuffle_follows_the_pseudo_code(mode: str, same: bool) -> None:
    rng = np.random.default_rng(1)
    bench = Bench(f"shfl.sync.{mode}.b32 %r0|%p0, %r1, %r2, %r3, -1;", WARPS)
    for _ in range(12):
        a, b, c = words(rng), words(rng, 64), words(rng, 1 << 13)
        if same:
            b, c = np.full(LANES, b[0]), np.full(LANES, c[0])
        bench.run({"%r1": a, "%r2": b, "%r3": c})
        for lane in range(LANES):
            j, valid = shuffled(mode, lane % 32, int(b[lane]), int(c[lane]))
            assert bench["%r0"][lane] == a[lane // 32 * 32 + j]
            assert bench["%p0"][lane] == valid


@pytest.mark.parametrize(
    ("statement", "source"),
    [
        ("shfl.sync.down.b32 %r0, %r1, 1, 31, -1;", lambda lane: min(lane + 1, 31)),
        ("shfl.sync.up.b32 %r0, %r1, 4, 0, -1;", lambda lane: lane - 4 if lane >= 4 else lane),
        ("shfl.sync.bfly.b32 %r0, %r1, 16, 31, -1;", lambda lane: lane ^ 16),
        ("shfl.sync.idx.b32 %r0, %r1, 5, 31, -1;", lambda lane: 5),
        ("shfl.sync.idx.b32 %r0, %r1, 3, 0x181f, -1;", lambda lane: lane // 8 * 8 + 3),
        ("shfl.sync.bfly.b32 %r0|_, %r1, 2, 31, -1;", lambda lane: lane ^ 2),
    ],
)
def test_shuffles_as_compilers_write_them(statement: str, source: Callable[[int], int]) -> None:
    bench = Bench(statement, WARPS)
    bench.run({"%r1": np.arange(LANES, dtype=np.uint32)})
    assert [int(v) for v in bench["%r0"]] == [
        lane // 32 * 32 + source(lane % 32) for lane in range(LANES)
    ]


def test_shuffle_among_part_of_a_warp() -> None:
    """Lanes that do not execute keep their register; one that is asked for gives nothing."""
    bench = Bench("shfl.sync.bfly.b32 %r0, %r1, 1, 31, %r2;", WARPS)
    mask = np.arange(LANES) % 32 % 3 != 0
    value = np.arange(LANES, dtype=np.uint32)
    old = np.full(LANES, 999, np.uint32)
    bench.run({"%r0": old, "%r1": value, "%r2": np.full(LANES, EVERYONE, np.uint32)}, mask)
    for lane in range(LANES):
        if not mask[lane]:
            assert bench["%r0"][lane] == 999
        else:
            assert bench["%r0"][lane] == (lane ^ 1 if mask[lane ^ 1] else lane)


def test_two_parts_of_a_warp_shuffle_with_masks_of_their_own() -> None:
    bench = Bench("shfl.sync.idx.b32 %r0, %r1, %r3, 31, %r2;", WARPS)
    lane = np.arange(LANES, dtype=np.uint32)
    upper = lane % 32 >= 16
    bench.run(
        {
            "%r1": lane,
            "%r2": np.where(upper, 0xFFFF0000, 0x0000FFFF).astype(np.uint32),
            "%r3": np.where(upper, 20, 3).astype(np.uint32),
        }
    )
    assert (bench["%r0"] == lane // 32 * 32 + np.where(upper, 20, 3)).all()


VOTES: dict[str, Callable[[list[bool]], bool]] = {
    "all": all,
    "any": any,
    "uni": lambda given: len(set(given)) == 1,
}


def member_masks(rng: np.random.Generator) -> tuple[Array, Array | None]:
    """Everyone; or two teams in each warp, some threads of which do not execute."""
    if rng.random() < 0.3:
        return np.full(LANES, EVERYONE, np.uint32), None
    team = rng.random(LANES) < 0.5
    bits = np.packbits(team, bitorder="little").view(np.uint32)
    return np.where(team, np.repeat(bits, 32), ~np.repeat(bits, 32)), rng.random(LANES) < 0.8


def fellows(lane: int, masks: Array, mask: Array | None) -> list[int]:
    """Lanes of the member mask that execute."""
    first = lane // 32 * 32
    return [
        first + i
        for i in range(32)
        if int(masks[lane]) >> i & 1 and (mask is None or mask[first + i])
    ]


@pytest.mark.parametrize("mode", ["all", "any", "uni", "ballot"])
@pytest.mark.parametrize("odds", [0.02, 0.5, 0.98])
def test_votes_count_the_members(mode: str, odds: float) -> None:
    rng = np.random.default_rng(5)
    kind, target = ("b32", "%r0") if mode == "ballot" else ("pred", "%p0")
    bench = Bench(f"vote.sync.{mode}.{kind} {target}, %p1, %r1;", WARPS)
    for _ in range(10):
        given = rng.random(LANES) < odds
        masks, mask = member_masks(rng)
        bench.run({"%p1": given, "%r1": masks}, mask)
        for lane in lanes_of(mask):
            voters = fellows(lane, masks, mask)
            if mode == "ballot":
                expected = sum(1 << voter % 32 for voter in voters if given[voter])
                assert bench["%r0"][lane] == expected
            else:
                assert bench["%p0"][lane] == VOTES[mode]([bool(given[v]) for v in voters])


def test_vote_of_a_negated_predicate() -> None:
    bench = Bench("vote.sync.ballot.b32 %r0, !%p1, -1;", WARPS)
    bench.run({"%p1": np.arange(LANES) % 32 < 31})
    assert (bench["%r0"] == 1 << 31).all()


@pytest.mark.parametrize(("kind", "register"), [("b32", "%r1"), ("b64", "%rd1")])
def test_match_any_finds_equal_values(kind: str, register: str) -> None:
    rng = np.random.default_rng(6)
    bench = Bench(f"match.any.sync.{kind} %r0, {register}, %r2;", WARPS)
    for _ in range(8):
        value = rng.integers(0, 5, LANES).astype(np.uint64 if kind == "b64" else np.uint32)
        if kind == "b64":
            value <<= np.uint64(40)
        masks, mask = member_masks(rng)
        bench.run({register: value, "%r2": masks}, mask)
        for lane in lanes_of(mask):
            same = [v % 32 for v in fellows(lane, masks, mask) if value[v] == value[lane]]
            assert bench["%r0"][lane] == sum(1 << v for v in same)


def test_match_all_needs_one_value() -> None:
    rng = np.random.default_rng(8)
    bench = Bench("match.all.sync.b32 %r0|%p0, %r1, %r2;", WARPS)
    answers = set()
    for trial in range(12):
        value = np.full(LANES, 7, np.uint32)
        value[rng.integers(0, LANES, trial % 4)] = 8
        masks, mask = member_masks(rng)
        bench.run({"%r1": value, "%r2": masks}, mask)
        for lane in lanes_of(mask):
            others = fellows(lane, masks, mask)
            equal = len({int(value[v]) for v in others}) == 1
            answers.add(equal)
            assert bench["%p0"][lane] == equal
            assert bench["%r0"][lane] == (sum(1 << v % 32 for v in others) if equal else 0)
    assert answers == {True, False}


def test_activemask_names_who_executes() -> None:
    rng = np.random.default_rng(9)
    bench = Bench("activemask.b32 %r0;", WARPS)
    bench.run({})
    assert (bench["%r0"] == EVERYONE).all()
    mask = rng.random(LANES) < 0.5
    bench.run({}, mask)
    for lane in lanes_of(mask):
        first = lane // 32 * 32
        assert bench["%r0"][lane] == sum(1 << i for i in range(32) if mask[first + i])


REDUCTIONS: dict[str, Callable[[int, int], int]] = {
    "add": operator.add,
    "min": min,
    "max": max,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
}


@pytest.mark.parametrize(
    ("operation", "kind"),
    [(o, k) for o in ("add", "min", "max") for k in ("u32", "s32")]
    + [(o, "b32") for o in ("and", "or", "xor")],
)
def test_redux_reduces_the_members(operation: str, kind: str) -> None:
    rng = np.random.default_rng(10)
    bench = Bench(f"redux.sync.{operation}.{kind} %r0, %r1, %r2;", WARPS)
    for _ in range(6):
        value = words(rng)
        numbers = value.view(np.int32 if kind == "s32" else np.uint32)
        masks, mask = member_masks(rng)
        bench.run({"%r1": value, "%r2": masks}, mask)
        for lane in lanes_of(mask):
            members = [int(numbers[v]) for v in fellows(lane, masks, mask)]
            expected = functools.reduce(REDUCTIONS[operation], members) % (1 << 32)
            assert bench["%r0"][lane] == expected


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("shfl.idx.b32 %r0, %r1, 1, 31;", ".sync"),
        ("shfl.sync.b32 %r0, %r1, 1, 31, -1;", "one of .up"),
        ("shfl.sync.left.b32 %r0, %r1, 1, 31, -1;", ".left"),
        ("shfl.sync.idx.b32 %r0, %r1, 1, 31;", "5 operands, not 4"),
        ("vote.sync.ballot.pred %p0, %p1, -1;", ".b32"),
        ("vote.sync.all.b32 %r0, %p1, -1;", ".pred"),
        ("vote.ballot.b32 %r0, %p1;", ".sync"),
        ("match.some.sync.b32 %r0, %r1, -1;", ".some"),
        ("activemask.b32 %r0, %r1;", "1 operands, not 2"),
        ("bar.warp.sync;", "1 operands, not 0"),
        ("redux.sync.and.u32 %r0, %r1, -1;", ".b32"),
        ("redux.sync.mul.u32 %r0, %r1, -1;", ".mul"),
    ],
)
def test_unknown_collective_is_an_error(statement: str, says: str) -> None:
    with pytest.raises(PtxError) as error:
        Bench(statement, 1)
    assert says in str(error.value)


@pytest.mark.parametrize(
    "statement",
    [
        "shfl.sync.idx.b32 %r2, %r0, 1, 31, %r3;",
        "vote.sync.any.pred %p1, %p1, %r3;",
        "match.any.sync.b32 %r2, %r0, 0xffffff7f;",
        "redux.sync.add.u32 %r2, %r0, %r3;",
        "bar.warp.sync %r3;",
        "bar.warp.sync 0xffffff7f;",
    ],
)
def test_a_thread_outside_its_member_mask_is_a_fault(statement: str) -> None:
    """Undefined, says the manual of each of them."""
    body = f"setp.eq.u32 %p1, %r0, 0; mov.u32 %r3, 0xffffff7f; {statement}"
    run(body, threads=7)
    with pytest.raises(EmulationFault, match=r"thread \(7,0,0\) .* member mask") as caught:
        run(body, threads=32)
    assert caught.value.kind is FaultKind.BARRIER


DIVERGED = """
extern "C" __global__ void k(const int* in, int* out) {
    int lane = threadIdx.x % 32, value = in[threadIdx.x], sum = value;
    unsigned team = lane % 3 == 0 ? 0x49249249u : ~0x49249249u;
    if (threadIdx.x >= 32) team &= 0xffu;  // the last warp has eight threads
    if (lane % 3 == 0) {
        for (int step = 16; step > 0; step /= 2) sum += __popc(__ballot_sync(team, value > step));
        sum += 1000 * __any_sync(team, value == 7);
    } else {
        sum += 100 * __popc(__match_any_sync(team, value % 4));
        sum += __shfl_sync(team, value, lane < 8 ? 1 : 31);
    }
    __syncwarp();
    out[threadIdx.x] = sum;
}
"""


def diverged(lane: int, given: list[int]) -> int:
    """The kernel above for one thread of a warp that holds ``given``."""
    value = given[lane]
    team = [other for other in range(len(given)) if (other % 3 == 0) == (lane % 3 == 0)]
    if lane % 3 == 0:
        votes = sum(given[other] > step for step in (16, 8, 4, 2, 1) for other in team)
        return value + votes + 1000 * any(given[other] == 7 for other in team)
    same = sum(given[other] % 4 == value % 4 for other in team)
    return value + 100 * same + given[1 if lane < 8 else 31]


def test_teams_of_a_diverged_warp() -> None:
    """Compiled CUDA, two warps, the second not full, each parted into two teams."""
    rng = np.random.default_rng(12)
    given = rng.integers(0, 20, 40).astype(np.int32)
    out = np.zeros_like(given)
    emulate(ptx_of(DIVERGED), (1, 1, 1), (40, 1, 1), 0, [given, out])
    warps = [list(map(int, given[:32])), list(map(int, given[32:]))]
    assert out.tolist() == [diverged(i, warp) for warp in warps for i in range(len(warp))]
