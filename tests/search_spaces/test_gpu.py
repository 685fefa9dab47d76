"""GpuSpec: the table, names in any spelling, and rooflines by hand."""

from __future__ import annotations

import pytest

from search_spaces import GPUS, GpuSpec, UserError, canonical_name, find_gpu, reference_gpu


@pytest.mark.parametrize(
    ("driver", "short"),
    [
        ("NVIDIA GeForce RTX 2080 Ti", "RTX 2080 Ti"),
        ("GeForce RTX 2080 Ti", "RTX 2080 Ti"),
        ("rtx 2080 ti", "RTX 2080 Ti"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("Tesla T4", "T4"),
        ("NVIDIA TITAN RTX", "TITAN RTX"),
        ("NVIDIA GeForce RTX 5090", "RTX 5090"),
    ],
)
def test_canonical_names(driver: str, short: str) -> None:
    assert canonical_name(driver) == short
    assert canonical_name(short) == short


def test_every_gpu_is_found_by_its_own_name() -> None:
    names = [gpu.name for gpu in GPUS]
    assert set(names) == {
        "RTX 2080 Ti", "T4", "TITAN RTX", "A100", "H100", "H200", "RTX 3090", "RTX 4090",
    }  # fmt: skip
    assert [find_gpu(name) for name in names] == list(GPUS)


def test_unknown_gpu_and_architecture_name_the_known() -> None:
    with pytest.raises(UserError, match=r"unknown GPU 'RTX 9'.*RTX 2080 Ti.*H100"):
        find_gpu("RTX 9")
    with pytest.raises(UserError, match=r"unknown architecture 'sm_99'.*sm_75.*sm_80"):
        reference_gpu("sm_99")


@pytest.mark.parametrize(
    ("arch", "name"),
    [("sm_75", "RTX 2080 Ti"), ("sm_80", "A100"), ("sm_90", "H100"), ("sm_90a", "H100")],
)
def test_reference_cards(arch: str, name: str) -> None:
    assert reference_gpu(arch).name == name


# Vendors' peak rates of fp16 tensor cores at boost clock, fp32 and fp16 accumulation, dense.
@pytest.mark.parametrize(
    ("name", "f32", "f16"),
    [("RTX 2080 Ti", 53.8, 107.6), ("T4", 65, 65), ("TITAN RTX", 130.5, 130.5), ("A100", 312, 312),
     ("RTX 3090", 71, 142), ("RTX 4090", 165.2, 330.3)],
)  # fmt: skip
def test_tensor_rates_match_data_sheets(name: str, f32: float, f16: float) -> None:
    gpu = find_gpu(name)
    assert gpu.tensor_tflops(f16_accumulate=False) == pytest.approx(f32, rel=0.01)
    assert gpu.tensor_tflops(f16_accumulate=True) == pytest.approx(f16, rel=0.01)


def test_roofline_is_the_slower_of_arithmetic_and_memory() -> None:
    gpu = find_gpu("RTX 2080 Ti")
    tera = 1e12
    assert gpu.floor_us(53.77 * tera, 0, f16_accumulate=False) == pytest.approx(1e6, rel=1e-3)
    assert gpu.floor_us(0, 616e9, f16_accumulate=False) == pytest.approx(1e6)
    assert gpu.floor_us(53.77 * tera, 2 * 616e9, f16_accumulate=True) == pytest.approx(2e6)


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: str(gpu.name))
def test_limits_agree_with_each_other(gpu: GpuSpec) -> None:
    assert gpu.smem_per_block + gpu.smem_reserved <= gpu.smem_per_sm
    assert gpu.mma_f32acc <= gpu.mma_f16acc
    assert gpu.max_threads_per_sm % 32 == 0
    assert gpu.regs_per_sm == 65536
