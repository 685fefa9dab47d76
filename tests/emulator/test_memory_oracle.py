"""Random loads and stores against bytes in a dictionary and accesses in a list."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest

from tests.emulator.bench import entry_of
from tuner.emulator import EmulationFault, FaultKind
from tuner.emulator.cohort import Cohort
from tuner.emulator.isa.values import Array
from tuner.emulator.memory import Memory
from tuner.emulator.memory.windows import GLOBAL_BASE, WINDOWS

FOUND = entry_of("membar.gl;").instructions[0]
SHARED, LOCAL = 96, 48
SHAPES = [(width, count) for width in (1, 2, 4, 8) for count in (1, 2, 4) if width * count <= 16]


def cohort(memory: Memory, ctas: int, threads: int) -> Cohort:
    return Cohort(range(ctas), (ctas, 1, 1), (threads, 1, 1), [], memory, None)


@dataclass
class Naive:
    """A dictionary of bytes by (space, who owns it, address)."""

    lanes: Cohort
    bytes: dict[tuple[str, int, int], int] = field(default_factory=dict)

    def places(self, space: str, lane: int, address: int, size: int) -> list[tuple[str, int, int]]:
        owner = {"shared": int(self.lanes.slot[lane]), "local": lane, "global": 0}[space]
        return [(space, owner, address + i) for i in range(size)]


def draws(seed: int, count: int) -> Iterator[tuple[random.Random, str, int, int]]:
    random_ = random.Random(seed)
    for _ in range(count):
        width, number = random_.choice(SHAPES)
        yield random_, random_.choice(["shared", "local", "global", "generic"]), width, number


@pytest.mark.parametrize("seed", range(3))
def test_spaces_and_widths(seed: int) -> None:
    memory = Memory(shared_bytes=SHARED, local_bytes=LOCAL, const=b"", checks=False)
    buffers = [memory.add_buffer(f"b{n}", np.zeros(n, np.uint8), written=True) for n in (64, 300)]
    memory.seal()
    lanes = cohort(memory, 2, 40)
    naive = Naive(lanes)
    for random_, space, width, count in draws(seed, 300):
        mask = np.array([random_.random() < 0.7 for _ in range(lanes.lanes)])
        lanes.execute(None if random_.random() < 0.3 else mask, None)
        size, spaces, starts = width * count, [], []
        for _ in range(lanes.lanes):
            one = random_.choice(["shared", "local", "global"]) if space == "generic" else space
            start, length = {
                "shared": (0, SHARED), "local": (0, LOCAL),
                "global": random_.choice([(buffers[0], 64), (buffers[1], 300)]),
            }[one]  # fmt: skip
            spaces.append(one)
            starts.append(start + random_.randrange(length // size) * size)
        shift = [WINDOWS[one] if space == "generic" else 0 for one in spaces]
        address = np.array([a + b for a, b in zip(starts, shift, strict=True)], np.uint64)
        active = np.flatnonzero(lanes.active)
        if random_.random() < 0.5:
            values = np.frombuffer(random_.randbytes(lanes.lanes * size), f"u{width}")
            values = values.reshape(lanes.lanes, count)
            memory.store(lanes, FOUND, space, address, values)
            for lane in active:
                places = naive.places(spaces[lane], int(lane), starts[lane], size)
                naive.bytes.update(zip(places, values[lane].tobytes(), strict=True))
            continue
        loaded = memory.load(lanes, FOUND, space, address, width, count)
        assert loaded.shape == (lanes.lanes, count) and loaded.dtype == np.dtype(f"u{width}")
        assert not loaded[~lanes.active].any()
        for lane in active:
            untouched = 0 if spaces[lane] == "global" else 0xFF
            places = naive.places(spaces[lane], int(lane), starts[lane], size)
            expected = bytes(naive.bytes.get(place, untouched) for place in places)
            assert loaded[lane].tobytes() == expected
    for buffer, size in zip(buffers, (64, 300), strict=True):
        content = [naive.bytes.get(("global", 0, buffer + i), 0) for i in range(size)]
        assert memory.content(f"b{size}").tolist() == content


@dataclass
class Past:
    """All accesses to a byte: (thread, CTA epoch, warp epoch, writes)."""

    by_byte: dict[tuple[int, int], list[tuple[int, int, int, bool]]] = field(default_factory=dict)

    def races(self, place: tuple[int, int], now: tuple[int, int, int, bool]) -> bool:
        thread, epoch, warp_epoch, writes = now
        for before, its_epoch, its_warp_epoch, wrote in self.by_byte.get(place, []):
            same_warp = before // 32 == thread // 32
            ordered = its_epoch != epoch or (same_warp and its_warp_epoch != warp_epoch)
            if before != thread and (writes or wrote) and not ordered:
                return True
        return False


def shared_access(random_: random.Random, lanes: Cohort) -> tuple[Array, int, bool]:
    """(address of each lane, bytes, whether it writes); most lanes stay at places of their own."""
    size = random_.choice([1, 2, 4, 8, 16])
    own = np.arange(lanes.lanes) * 16 % SHARED + size * random_.randrange(16 // size)
    far = np.array([random_.randrange(SHARED // size) * size for _ in range(lanes.lanes)])
    wide = random_.random() < 0.3
    return np.where(wide, far, own).astype(np.uint64), size, random_.random() < 0.5


@pytest.mark.parametrize("seed", range(60))
def test_shared_races_and_unwritten_bytes(seed: int) -> None:
    """A few lanes at a time, in random places, until the first fault of the oracle."""
    random_ = random.Random(seed)
    memory = Memory(shared_bytes=SHARED, local_bytes=0, const=b"", checks=True)
    memory.seal()
    lanes = cohort(memory, 2, 64)
    past, written = Past(), set[tuple[int, int]]()
    for _ in range(60):
        if random_.random() < 0.5:
            lanes.epoch[random_.randrange(2)] += 1
        if random_.random() < 0.3:
            lanes.warp_epoch[random_.randrange(4)] += 1
        mask = np.zeros(lanes.lanes, np.bool_)
        mask[random_.sample(range(lanes.lanes), random_.choice([1, 2, 4]))] = True
        lanes.execute(mask, mask)
        address, size, writes = shared_access(random_, lanes)
        expected, seen = None, []
        for lane in np.flatnonzero(mask):
            cta, warp = int(lanes.slot[lane]), int(lane) // 32
            now = (
                int(lanes.thread[lane]),
                int(lanes.epoch[cta]),
                int(lanes.warp_epoch[warp]),
                writes,
            )
            for place in ((cta, int(address[lane]) + i) for i in range(size)):
                if past.races(place, now):
                    expected = FaultKind.SHARED_RACE
                elif not writes and place not in written:
                    expected = expected or FaultKind.UNWRITTEN
                seen.append((place, now))
        for place, now in seen:
            if past_of_this(seen, place, now):
                expected = FaultKind.SHARED_RACE
        values = np.repeat(np.arange(lanes.lanes, dtype=np.uint8)[:, None], size, axis=1)
        try:
            if writes:
                memory.store(lanes, FOUND, "shared", address, values)
            else:
                memory.load(lanes, FOUND, "shared", address, 1, size)
        except EmulationFault as fault:
            assert expected is not None
            assert fault.kind in (expected, FaultKind.UNWRITTEN)
            return
        assert expected is None
        for place, now in seen:
            past.by_byte.setdefault(place, []).append(now)
            if writes:
                written.add(place)


def past_of_this(
    seen: list[tuple[tuple[int, int], tuple[int, int, int, bool]]],
    place: tuple[int, int],
    now: tuple[int, int, int, bool],
) -> bool:
    """Whether two lanes of one store met (they never write the same value here)."""
    return now[3] and any(place == p and now[0] != other[0] for p, other in seen)


@pytest.mark.parametrize("seed", range(40))
def test_races_between_ctas_without_order(seed: int) -> None:
    """Three CTAs in two cohorts; the oracle keeps (CTA, writes) of every access."""
    random_ = random.Random(seed)
    memory = Memory(shared_bytes=0, local_bytes=0, const=b"", checks=True)
    start = memory.add_buffer("b", np.zeros(64, np.uint8), written=True)
    memory.seal()
    cohorts = [Cohort(ctas, (3, 1, 1), (32, 1, 1), [], memory, None) for ctas in ([0, 1], [2])]
    past: dict[int, list[tuple[int, bool]]] = {}
    for _ in range(30):
        lanes = random_.choice(cohorts)
        mask = np.zeros(lanes.lanes, np.bool_)
        mask[random_.sample(range(lanes.lanes), random_.choice([1, 1, 3]))] = True
        lanes.execute(mask, mask)
        size, writes = random_.choice([1, 2, 4, 8, 16]), random_.random() < 0.4
        places = np.array([random_.randrange(64 // size) * size for _ in range(lanes.lanes)])
        seen = [
            (int(places[lane]) + i, (int(lanes.ctas[lanes.slot[lane]]), writes))
            for lane in np.flatnonzero(mask)
            for i in range(size)
        ]
        before = [(at, now) for at, their in past.items() for now in their]
        race = any(
            at == place and cta != other and (writes or wrote)
            for place, (cta, _) in seen
            for at, (other, wrote) in [*before, *seen]
        )
        address = np.uint64(start) + places.astype(np.uint64)
        try:
            if writes:
                values = np.zeros((lanes.lanes, size), np.uint8)
                memory.store(lanes, FOUND, "global", address, values)
            else:
                memory.load(lanes, FOUND, "global", address, 1, size)
        except EmulationFault as fault:
            assert race and fault.kind is FaultKind.GLOBAL_RACE
            return
        assert not race
        for place, now in seen:
            past.setdefault(place, []).append(now)


def test_global_addresses_are_apart_and_aligned() -> None:
    memory = Memory(shared_bytes=0, local_bytes=0, const=b"", checks=True)
    places = [
        (memory.add_buffer(f"b{n}", np.zeros(n, np.uint8), written=True), n)
        for n in (0, 1, 255, 256, 257)
    ]
    assert places[0][0] == GLOBAL_BASE
    for (start, size), (following, _) in pairwise(places):
        assert following % 256 == 0 and following - (start + size) >= 4096
