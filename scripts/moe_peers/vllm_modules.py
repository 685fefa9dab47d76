"""vLLM's fused_moe.py out of an extracted folder, without the rest of vLLM.

Its kernels, the code that picks a config and launches them, and the alignment by expert run as
they are. The modules it imports are stand-ins with the few names that an unquantised layer needs;
the activation is a Triton kernel of ours, since vLLM's own sits in a library of 92 MB.
"""

from __future__ import annotations

import importlib.util
import logging
import lzma
import sys
import tempfile
from collections.abc import Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import triton
import triton.language as tl

from scripts.moe_peers.glue import silu_and_mul
from search_spaces.errors import UserError

MOE = "vllm.model_executor.layers.fused_moe"
LIBRARY = "vllm/_moe_C_stable_libtorch.abi3.so.xz"
FORCED: dict[str, Any] = {}  # a config in place of the one that fused_moe.py would pick


class _Activation(Enum):
    SILU = "silu"

    @classmethod
    def from_str(cls, name: str) -> _Activation:
        return cls(name)


class _Logger(logging.Logger):
    """Where it says which table it takes, the report says so too."""

    def info_once(self, *_: Any, **__: Any) -> None:
        """Silent."""

    warning_once = info_once


@cache
def load_fused_moe(site: Path) -> Any:
    """The module fused_moe. Raises UserError where ``site`` does not hold its files."""
    folder = site / MOE.replace(".", "/")
    if not (folder / "fused_moe.py").is_file():
        raise UserError(f"{site} holds no {MOE}: make the folder with scripts/peers_site.py")
    for name, members in _stand_ins().items():
        module = ModuleType(name)
        vars(module).update(members)
        sys.modules[name] = module
    for name in ("moe_align_block_size", "fused_moe"):
        spec = importlib.util.spec_from_file_location(f"{MOE}.{name}", folder / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return sys.modules[f"{MOE}.fused_moe"]


@cache
def load_operators(site: Path) -> None:
    """torch.ops._moe_C from vLLM's library. Raises UserError when it does not load here."""
    packed = site / LIBRARY
    if not packed.is_file():
        raise UserError(f"{site} has no {LIBRARY}: make the folder with scripts/peers_site.py")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "_moe_C.so"
        path.write_bytes(lzma.decompress(packed.read_bytes()))
        try:
            torch.ops.load_library(path)
        except OSError as error:
            raise UserError(f"vLLM's library does not load here: {error}") from None


def _align(*arguments: Any) -> None:
    torch.ops._moe_C.moe_align_block_size(*arguments)


def _sum(partial: torch.Tensor, out: torch.Tensor) -> None:
    torch.ops._moe_C.moe_sum(partial, out, None, None)


def _activate(_: _Activation, out: torch.Tensor, x: torch.Tensor) -> None:
    silu_and_mul(x, out)


def _no_quantisation(A: torch.Tensor, **_: Any) -> tuple[torch.Tensor, None]:  # noqa: N803
    return A, None


def _stand_ins() -> Mapping[str, Mapping[str, Any]]:
    """Modules by name, with what fused_moe.py and moe_align_block_size.py import from them."""
    package: dict[str, Any] = {"__path__": []}
    platform = SimpleNamespace(
        is_rocm=lambda: False, is_cuda=lambda: True, is_xpu=lambda: False, fp8_dtype=lambda: None
    )
    experts = SimpleNamespace(adjust_N_for_activation=lambda n, _: n // 2)
    operators = ModuleType("vllm._custom_ops")
    vars(operators).update(moe_align_block_size=_align, moe_sum=_sum)
    environment = ModuleType("vllm.envs")
    vars(environment).update(VLLM_BATCH_INVARIANT=False, VLLM_TUNED_CONFIG_FOLDER=None)
    kernels = ModuleType(f"{MOE}.modular_kernel")
    vars(kernels).update(FusedMoEExpertsModular=experts)
    return {
        "vllm": {**package, "_custom_ops": operators, "envs": environment},
        "vllm._custom_ops": vars(operators),
        "vllm.envs": vars(environment),
        "vllm.logger": {"init_logger": _Logger},
        "vllm.platforms": {"current_platform": platform},
        "vllm.triton_utils": {**package, "tl": tl, "triton": triton},
        "vllm.triton_utils.allocation": {"set_triton_allocator": None},
        "vllm.utils": package,
        "vllm.utils.math_utils": {
            "next_power_of_2": triton.next_power_of_2,
            "round_up": lambda value, step: -(-value // step) * step,
        },
        "vllm.utils.platform_utils": {"get_device_name_as_file_name": device_file_name},
        "vllm.utils.torch_utils": {"direct_register_custom_op": lambda **_: None},
        "vllm.model_executor": package,
        "vllm.model_executor.layers": package,
        MOE: {**package, "get_config": lambda: FORCED or None, "modular_kernel": kernels},
        f"{MOE}.modular_kernel": vars(kernels),
        f"{MOE}.activation": {"MoEActivation": _Activation, "apply_moe_activation": _activate},
        f"{MOE}.config": {
            "FUSED_MOE_UNQUANTIZED_CONFIG": None,
            "FusedMoEQuantConfig": object,
            "_get_config_dtype_str": lambda **_: None,
        },
        f"{MOE}.utils": {
            "enable_swap_ab": None,
            "moe_kernel_quantize_input": _no_quantisation,
            "resolve_moe_use_td": lambda: False,
            "warn_if_moe_use_td_ineffective": lambda *_, **__: None,
        },
    }


def device_file_name() -> str:
    """The GPU's name as vLLM's tables have it."""
    return torch.cuda.get_device_name().replace(" ", "_").replace("/", "_")
