"""Target: the GPU model a search is for, and the cards of it that can measure."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.errors import UserError
from search_spaces.gpu import GpuSpec, find_gpu, reference_gpu
from templates.device import device_count, device_spec

FALLBACK_ARCH = "sm_75"


@dataclass(frozen=True)
class Target:
    """One GPU model. ``cards`` are device numbers; empty means that its times are predicted."""

    gpu: GpuSpec
    cards: tuple[int, ...] = ()

    def __str__(self) -> str:
        if not self.cards:
            return f"{self.gpu.name} ({self.gpu.arch}, predicted by the cost model)"
        cards = ", ".join(map(str, self.cards))
        return f"{self.gpu.name} ({self.gpu.arch}, measured on GPU {cards})"


@dataclass(frozen=True)
class Targets:
    """What to tune for. ``note`` tells of a choice that was made for the user."""

    found: tuple[Target, ...]
    note: str | None = None


def resolve_targets(gpus: str | None, gpu: str | None, arch: str | None) -> Targets:
    """Cards by number, a GPU by name, the reference card of an architecture, or what is here.

    Identical cards make one target, different ones a target each. Raises UserError for unknown
    names, and for numbers of cards that this machine does not have.
    """
    if gpu is not None:
        return Targets((Target(find_gpu(gpu)),))
    if arch is not None:
        return Targets((Target(reference_gpu(arch)),))
    if gpus is not None:
        return Targets(_group(_card_numbers(gpus)))
    try:
        count = device_count()
    except UserError:
        target = Target(reference_gpu(FALLBACK_ARCH))
        note = f"no GPU here: predicting for the {target.gpu.name} (--gpu or --arch name another)"
        return Targets((target,), note)
    return Targets(_group(list(range(count))))


def _card_numbers(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if text != "all" and not all(word.isdecimal() for word in words):
        raise UserError(f"--gpus '{text}': expected device numbers such as 0,1 or all")
    try:
        count = device_count()
    except UserError as error:
        raise UserError(
            f"--gpus {text}: {error}; --gpu NAME predicts for a card elsewhere"
        ) from None
    return list(range(count)) if text == "all" else sorted({int(word) for word in words})


def _group(cards: list[int]) -> tuple[Target, ...]:
    by_name: dict[str, tuple[GpuSpec, list[int]]] = {}
    for card in cards:
        spec = device_spec(card)
        by_name.setdefault(spec.name, (spec, []))[1].append(card)
    return tuple(Target(spec, tuple(numbers)) for spec, numbers in by_name.values())
