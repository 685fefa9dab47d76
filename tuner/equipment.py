"""Equipment: the compilers and the measuring backend that a target calls for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pynvml

from templates import CompilePool
from templates.built import Target as BuildTarget
from templates.cache import KernelCache
from templates.device import device_uuid
from templates.ops import render
from tuner.backends.base import Backend
from tuner.backends.checked import CheckedBackend
from tuner.backends.gpu import GpuBackend
from tuner.backends.predict import PredictBackend
from tuner.backends.replay import ReplayBackend
from tuner.builder import Builder, PoolBuilder, RecordedBuilder
from tuner.emulation_check import EmulationCheck
from tuner.options import Options
from tuner.recording import Recording
from tuner.target import Target
from tuning_db.records import GpuRecord


@dataclass(frozen=True)
class Equipment:
    """What a search works with, and the GPUs its trials are booked on."""

    backend: Backend
    builder: Builder
    gpus: tuple[GpuRecord, ...]


@contextmanager
def equip(target: Target, options: Options, recording: Recording | None) -> Iterator[Equipment]:
    """Starts what is needed and ends it again. Raises UserError when something is missing."""
    if recording is not None:
        yield Equipment(ReplayBackend(recording), RecordedBuilder(), gpu_records(target))
        return
    cache = KernelCache()
    cache.check()
    with CompilePool(options.workers, cache) as pool:
        build_for = BuildTarget.for_tier(options.tier, target.gpu.arch)
        builder = PoolBuilder(pool, render, build_for)
        with closing(_backend(target, options, builder)) as backend:
            yield Equipment(backend, builder, gpu_records(target))


def _backend(target: Target, options: Options, builder: Builder) -> Backend:
    backend: Backend = PredictBackend(target.gpu, options.tier)
    if target.cards:
        backend = GpuBackend(target.gpu, target.cards, options.tier)
    if options.emulates(measured=bool(target.cards)):
        backend = CheckedBackend(backend, EmulationCheck(builder))
    return backend


def gpu_records(target: Target) -> tuple[GpuRecord, ...]:
    """The model, on which trials are booked that no card ran, and each card of it."""
    gpu = target.gpu
    model = GpuRecord(name=gpu.name, arch=gpu.arch)
    if not target.cards:
        return (model,)
    driver = _driver()
    cards = (
        GpuRecord(
            name=gpu.name,
            arch=gpu.arch,
            uuid=device_uuid(card),
            sms=gpu.sms,
            memory_bytes=gpu.memory_bytes,
            driver=driver,
        )
        for card in target.cards
    )
    return (model, *cards)


def _driver() -> str | None:
    """The driver's version, as "535.183.01"; None on machines without NVML."""
    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None
