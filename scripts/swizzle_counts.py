"""Conflicts of one config's main loop per k-step: executed, and predicted from the layouts."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from search_spaces import Problem, UserError
from search_spaces.grouped_gemm import GroupedGemmConfig
from search_spaces.layouts import BANKS_PER_CHUNK, CHUNK, bank_conflicts, tile_layouts
from templates.built import Built, Target
from tuner.emulated_gemm import check_config
from tuner.emulator.banks import SharedCounts

TARGET = Target("compute_75", ())
K_TILES = 2
SEED = 1


@dataclass(frozen=True)
class Access:
    """Wavefronts of a CTA per k-step: what is needed, and what bank conflicts add."""

    needed: float
    conflicts: float

    @property
    def rate(self) -> float:
        """Added per needed: 0 is ideal, 7 the worst."""
        return self.conflicts / self.needed


@dataclass(frozen=True)
class Conflicts:
    """One config's k-step. ``predicted_...`` conflicts are those of the layouts."""

    shape: str
    config: str
    loads: Access
    stores: Access
    predicted_loads: float
    predicted_stores: float

    @property
    def agree(self) -> bool:
        """Whether the prediction is exact."""
        emulated = self.loads.conflicts, self.stores.conflicts
        return emulated == (self.predicted_loads, self.predicted_stores)


def one_cta(config: GroupedGemmConfig) -> Problem:
    """A problem that is one CTA tile along N and K_TILES along K."""
    return Problem("grouped_gemm", 1, n=config.tile_n, k=K_TILES * config.tile_k, top_k=1)


def k_steps(config: GroupedGemmConfig) -> int:
    """k-steps of a warp in a k-tile."""
    return config.tile_k // config.warps_k // config.k_step


def emulated(config: GroupedGemmConfig, built: Built) -> tuple[Access, Access]:
    """ldmatrix and stores of the main loop, executed for one CTA.

    Raises UserError when the kernel is wrong: conflicts of wrong addresses mean nothing.
    """
    checked = check_config(one_cta(config), config, built, [config.tile_m], SEED, count=True)
    if not checked.ok or checked.emulation is None or checked.emulation.counters is None:
        raise UserError(f"{config} is wrong: {checked.reason}")
    loads = stores = SharedCounts()
    for line in checked.emulation.counters.by_line():
        # The epilogue reads transposed matrices and stores 4 bytes at a time.
        if "ldmatrix" in line.text and ".trans" not in line.text:
            loads += line.shared
        elif "st.shared.v4" in line.text:
            stores += line.shared
    steps = K_TILES * k_steps(config)
    return _access(loads, steps), _access(stores, steps)


def predicted(config: GroupedGemmConfig) -> tuple[float, float]:
    """Conflicts of ldmatrix and of stores per k-step, from the rates of the layouts alone."""
    rates, layouts = bank_conflicts(config), tile_layouts(config)
    # An 8x8 matrix is a wavefront, and so are eight chunks that are stored.
    warps, high = config.threads // 32, config.k_step // CHUNK
    x, y = (warps * high * operand.extent // CHUNK for operand in (layouts.x, layouts.y))
    chunks = (config.tile_m + config.tile_n) * config.tile_k // CHUNK
    per_step = Fraction(chunks, BANKS_PER_CHUNK * k_steps(config))
    return x * rates.load_x + y * rates.load_y, float(per_step) * rates.store


def _access(counts: SharedCounts, steps: int) -> Access:
    return Access(counts.ideal / steps, counts.conflicts / steps)
