"""NVRTC and nvJitLink for real, without a GPU: batches, errors, resource reports."""

from __future__ import annotations

import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest
from cupy_backends.cuda.libs import nvrtc

from search_spaces.errors import UserError
from templates.built import BuildError, Built, Target
from templates.compiler import compile_batch
from templates.options import OPTIONS
from templates.toolchain import toolchain
from templates.variant import Variant, translation_unit
from tests.build_variants import BOTH, TARGET, broken, chatty, scale, variant

SPILLS = """extern "C" __global__ void __launch_bounds__(1024) ENTRY(const float* a, float* out) {
  float x[160];
#pragma unroll
  for (int i = 0; i < 160; ++i) x[i] = a[i * 1024 + threadIdx.x];
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 160; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) sum = sum * x[i] + x[(7 * i + j) % 160];
  out[threadIdx.x] = sum;
}"""

# A warp's tile of 16x8 by a CuTe atom from shared memory: needs the tier's own traits headers.
CUTE = """using namespace cute;
extern "C" __global__ void ENTRY(const half_t* a, float* c) {
  __shared__ __align__(16) half_t smem[16 * 16];
  for (int i = threadIdx.x; i < 256; i += 32) smem[i] = a[i];
  __syncthreads();
  Copy_Atom<SM75_U32x4_LDSM_N, half_t> load;
  MMA_Atom<SM75_16x8x8_F32F16F16F32_TN> mma;
  Tensor row = make_tensor(make_smem_ptr(smem + 8 * threadIdx.x), Layout<_8>{});
  Tensor frag = make_tensor<half_t>(Layout<_8>{});
  load.call(row, frag);
  Tensor acc = make_tensor<float>(Layout<_4>{});
  clear(acc);
  Tensor fa = make_tensor(frag.data(), Layout<_4>{});
  Tensor fb = make_tensor(frag.data() + 4, Layout<_2>{});
  mma.call(acc, fa, fb, acc);
  for (int i = 0; i < 4; ++i) c[4 * threadIdx.x + i] = acc(i);
}"""


def finished(results: list[Built | BuildError]) -> list[Built]:
    built = [result for result in results if isinstance(result, Built)]
    assert len(built) == len(results), results
    return built


def nvrtc_report(entry: Variant, arch: str) -> str:
    """What NVRTC's own ptxas says: another way to the machine code than nvJitLink's."""
    include = [f"-I{folder}" for folder in toolchain().include_path(entry.tier)]
    program = nvrtc.createProgram(translation_unit([entry]), "x.cu", [], [])
    nvrtc.compileProgram(program, [*OPTIONS, f"-arch={arch}", "--ptxas-options=-v", *include])
    return str(nvrtc.getProgramLog(program))


def number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("name", ["scale", "spills", "cute"])
def test_resources_agree_with_nvrtcs_own_report(name: str) -> None:
    chosen = {
        "scale": scale("lm_a"),
        "spills": variant("lm_a", SPILLS),
        "cute": variant("lm_a", CUTE, ("#include <cute/tensor.hpp>",)),
    }[name]
    (built,) = finished(compile_batch([chosen], TARGET))
    found = built.binaries["sm_75"].resources
    report = nvrtc_report(chosen, "sm_75").split("Compiling entry function 'lm_a'")[1]
    assert found.registers == number(r"Used (\d+) registers", report) > 0
    assert found.smem_static == number(r"(\d+) bytes smem", report)
    assert found.spill_stores == number(r"(\d+) bytes spill stores", report)
    assert found.spill_loads == number(r"(\d+) bytes spill loads", report)
    assert found.stack == number(r"(\d+) bytes stack frame", report)


def test_spills_static_smem_and_stack_are_seen() -> None:
    spilling, talking = finished(
        compile_batch([variant("lm_a", SPILLS), chatty("lm_b", 3)], TARGET)
    )
    assert spilling.binaries["sm_75"].resources.spill_stores > 0
    assert talking.binaries["sm_75"].resources.smem_static == 128
    assert talking.binaries["sm_75"].resources.stack >= 256


def test_one_ptx_becomes_machine_code_for_each_architecture() -> None:
    (built,) = finished(compile_batch([scale("lm_a")], BOTH))
    assert list(built.binaries) == ["sm_75", "sm_90"]
    for arch, binary in built.binaries.items():
        assert binary.cubin.startswith(b"\x7fELF") and b"lm_a" in binary.cubin
        assert binary.arch == binary.resources.arch == arch
    assert built.binaries["sm_75"].cubin != built.binaries["sm_90"].cubin
    assert ".target sm_75" in built.ptx
    assert built.seconds > 0


def test_target_of_a_tier() -> None:
    assert Target.for_tier("sm_75") == Target("compute_75", ("sm_75",))
    assert Target.for_tier("sm_75", "sm_75") == Target("compute_75", ("sm_75",))
    assert Target.for_tier("sm_75", "sm_90") == Target("compute_75", ("sm_75", "sm_90"))
    assert Target.for_tier("sm_90a", "sm_90a") == Target("compute_90a", ("sm_90a",))


def test_only_the_guilty_variant_fails() -> None:
    batch = [scale("lm_a"), broken("lm_b"), chatty("lm_c", 1)]
    first, second, third = compile_batch(batch, TARGET)
    assert isinstance(first, Built) and isinstance(third, Built)
    assert isinstance(second, BuildError) and second.entry == "lm_b"
    assert second.log.splitlines()[0].endswith('error: identifier "undeclared" is undefined')
    assert len(second.log.splitlines()) <= 7
    (alone,) = finished(compile_batch([batch[0]], TARGET))
    assert (first.ptx, first.binaries) == (alone.ptx, alone.binaries)


def test_source_without_its_kernel_is_an_error() -> None:
    (result,) = compile_batch([variant("lm_a", "__global__ void other() {}")], TARGET)
    assert isinstance(result, BuildError) and "lm_a" in result.log


def test_assembler_errors_are_results_too() -> None:
    hungry = """extern "C" __global__ void ENTRY(int* p) {
      __shared__ int big[20000];
      big[threadIdx.x] = p[threadIdx.x]; __syncthreads(); p[0] = big[p[1]];
    }"""
    fine, failed = compile_batch([scale("lm_a"), variant("lm_b", hungry)], TARGET)
    assert isinstance(fine, Built)
    assert isinstance(failed, BuildError) and "shared data" in failed.log


def test_unknown_architecture_is_the_users_error() -> None:
    with pytest.raises(UserError, match="sm_999"):
        compile_batch([scale("lm_a")], Target("compute_75", ("sm_999",)))


def test_stand_ins_do_not_change_the_machine_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same variant with CuTe's real headers for every atom, which takes seconds longer."""
    entry = variant("lm_a", CUTE, ("#include <cute/tensor.hpp>",))
    (lean,) = finished(compile_batch([entry], TARGET))
    bare = tmp_path / "include"
    module = import_module("templates.toolchain")
    shutil.copytree(module.OWN_INCLUDE, bare, ignore=shutil.ignore_patterns("standins"))
    monkeypatch.setattr(module, "OWN_INCLUDE", bare)
    (full,) = finished(compile_batch([entry], TARGET))
    assert full.ptx == lean.ptx
    assert "mma.sync" in lean.ptx and "ldmatrix" in lean.ptx
    assert lean.seconds < full.seconds
