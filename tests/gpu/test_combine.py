"""Combined rows on a GPU: every parameter, real sizes, graphs that are replayed, nothing waits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.kernels import TunedKernels, grouped_gemm_reference
from search_spaces import Bucket, GroupedGemmConfig, Numerics, Problem, load_model
from search_spaces.numerics import tolerance
from templates import CompilePool
from templates.device import device_spec
from tests.gpu.compiled import begin, fill_cache, jobs
from tests.gpu.test_dispatch import waiting_is_an_error
from tests.gpu.test_grouped_gemm import DEVICE, SPACE, Covers, inputs_of, run
from tests.pairs import covering
from tuner.bound_kernel import bind
from tuner.inputs import Inputs, make_inputs
from tuner.reference import full_reference, sampled_reference
from tuner.verify import check_values

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::engine.kernels.NotTunedWarning"),
]
RAGGED = Problem("grouped_gemm", 5, 520, 1000, 2, numerics=Numerics.FP16, combine="any")
WHOLE = Problem("grouped_gemm", 8, 1024, 2048, 4, numerics=Numerics.FP16, combine="any")
HISTOGRAMS = ([3, 0, 70, 1, 130], [0, 0, 0, 0, 516], [1, 1, 2, 0, 0], [0, 257, 256, 255, 0])
WAYS = ("ordered", "atomic", "reduce")
QWEN3 = replace(load_model("qwen3-30b-a3b").problem("down"), combine="any")
MIXTRAL = replace(load_model("mixtral-8x7b").problem("down"), combine="any")
LARGE = GroupedGemmConfig.parse("128x128x32_w2x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1")
SMALL = GroupedGemmConfig.parse("16x64x64_w1x2x2_s2_sw3.3.3_f32_r1x16_nm_cs_o1_g8_k2")
REAL = [replace(base, combine=way) for base in (LARGE, SMALL) for way in WAYS]
REPLAYED = replace(WHOLE, numerics=Numerics.PROMOTED)


@pytest.fixture(scope="module", autouse=True)
def covers(pool: CompilePool) -> Covers:
    """Configs of both problems; the compilers have all kernels of this module at once."""
    few = ("combine", "swap", "split_k")
    names = {RAGGED: (*few, "warps_k", "tile_m", "tile_n"), WHOLE: few}
    found = {
        problem: covering(SPACE.view(problem, device_spec()), names[problem], seed=21, draws=100)
        for problem in names
    }
    real = [(problem, config) for problem in (QWEN3, MIXTRAL) for config in REAL]
    drawn = [(problem, config) for problem in found for config in found[problem]]
    begin(pool, drawn + real)
    return found


@pytest.mark.parametrize("problem", [RAGGED, WHOLE], ids=str)
def test_every_parameter_with_every_way_to_combine(
    problem: Problem, pool: CompilePool, covers: Covers
) -> None:
    built = jobs(pool, problem, covers[problem])
    for histogram in HISTOGRAMS:
        inputs = inputs_of(problem, histogram, seed=sum(histogram))
        reference = list(full_reference(inputs))
        for job, kernel in zip(built, bind(built, inputs), strict=True):
            run(kernel, inputs)
            bound = tolerance(job.config.acc, problem.k)
            verdict = check_values(inputs.c, reference, bound)
            assert verdict.ok, f"{job.config} on {histogram}: {verdict.reason}"


@pytest.mark.parametrize("tokens", [1, 33, 8192])
@pytest.mark.parametrize("problem", [QWEN3, MIXTRAL], ids=str)
def test_real_sizes_repeat_to_the_bit(problem: Problem, tokens: int, pool: CompilePool) -> None:
    """Thousands of CTAs race for the counters; ordered and reduced sums have the same bits."""
    bucket = Bucket(tokens * problem.top_k / problem.experts)
    inputs = make_inputs(problem, bucket, 3, DEVICE)
    sample = sampled_reference(inputs)
    for base in (LARGE, SMALL):
        built = jobs(pool, problem, [replace(base, combine=way) for way in WAYS])
        kernels = dict(zip(WAYS, bind(built, inputs), strict=True))
        results: dict[str, torch.Tensor] = {}
        for way, kernel in kernels.items():
            run(kernel, inputs)
            verdict = check_values(inputs.c, [sample], tolerance("f32", problem.k))
            assert verdict.ok, f"{base} {way}: {verdict.reason}"
            results[way] = inputs.c.clone()
        assert torch.equal(results["ordered"], results["reduce"])
        for _ in range(20):
            run(kernels["ordered"], inputs)
            assert torch.equal(inputs.c, results["ordered"])


def way_of(problem: Problem, way: str) -> GroupedGemmConfig:
    """The default tile with this way to combine."""
    default: GroupedGemmConfig = SPACE.view(problem, device_spec()).default()
    return replace(default, combine=way)


@pytest.fixture(scope="module")
def _replayed(pool: CompilePool) -> None:
    fill_cache(pool, [(REPLAYED, way_of(REPLAYED, way)) for way in WAYS])


def forced(problem: Problem, way: str, folder: Path) -> TunedKernels:
    kernels = TunedKernels(folder / "none.sqlite", DEVICE, problem.numerics)
    kernels.force(problem, str(way_of(problem, way)))
    return kernels


def call(kernels: TunedKernels, inputs: Inputs, out: torch.Tensor) -> torch.Tensor:
    return kernels.grouped_gemm(
        inputs.a, inputs.b, inputs.offsets, slots=inputs.slots, weights=inputs.weights,
        combine="any", top_k=inputs.problem.top_k, out=out,
    )  # fmt: skip


def expected(inputs: Inputs) -> torch.Tensor:
    return grouped_gemm_reference(
        inputs.a, inputs.b, inputs.offsets, slots=inputs.slots, weights=inputs.weights
    )


@pytest.mark.usefixtures("_replayed")
@pytest.mark.parametrize("way", WAYS)
def test_a_graph_is_replayed_on_new_routings(way: str, tmp_path: Path) -> None:
    """Rows move between experts and slots between rows; weights and activations change."""
    kernels = forced(REPLAYED, way, tmp_path)
    inputs = inputs_of(REPLAYED, [60, 0, 17, 1, 0, 34, 8, 0])
    out = torch.empty_like(inputs.c)
    call(kernels, inputs, out)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call(kernels, inputs, out)
    for seed, histogram in enumerate(([120], [15] * 8, [0] * 7 + [120], [1, 0, 0, 119], [40] * 3)):
        other = inputs_of(REPLAYED, histogram, seed=10 + seed)
        for mine, new in zip(inputs.operands, other.operands, strict=True):
            if mine is not None and new is not None:
                mine.copy_(new)
        out.fill_(torch.nan)
        graph.replay()
        torch.testing.assert_close(out, expected(inputs), rtol=2e-3, atol=1e-2)


@pytest.mark.usefixtures("_replayed")
@pytest.mark.parametrize("way", WAYS)
def test_a_warm_call_waits_for_nothing(way: str, tmp_path: Path) -> None:
    kernels = forced(REPLAYED, way, tmp_path)
    inputs = inputs_of(REPLAYED, [60, 0, 17, 1, 0, 34, 8, 0])
    out = torch.empty_like(inputs.c)
    call(kernels, inputs, out)
    with waiting_is_an_error():
        torch.cuda._sleep(1_000_000_000)
        call(kernels, inputs, out)
        assert not torch.cuda.current_stream().query()
    torch.testing.assert_close(out, expected(inputs), rtol=2e-3, atol=1e-2)


@pytest.mark.usefixtures("_replayed")
def test_two_streams_have_counters_of_their_own(tmp_path: Path) -> None:
    kernels = forced(REPLAYED, "ordered", tmp_path)
    both = [inputs_of(REPLAYED, [60, 0, 17, 1, 0, 34, 8, 0], seed=seed) for seed in (1, 2)]
    outs = [torch.empty_like(inputs.c) for inputs in both]
    first = [call(kernels, *pair).clone() for pair in zip(both, outs, strict=True)]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    for _ in range(50):
        for stream, inputs, out in zip(streams, both, outs, strict=True):
            with torch.cuda.stream(stream):
                call(kernels, inputs, out)
    torch.cuda.synchronize()
    assert all(torch.equal(out, one) for out, one in zip(outs, first, strict=True))
