"""Cost model: it obeys physics, and orders configs as measurements on real cards do."""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import (
    GPUS,
    Bucket,
    GpuSpec,
    GroupedGemmConfig,
    Prediction,
    Problem,
    Skew,
    load_model,
    predict,
)
from search_spaces.cost_model import LINE_CLK, explain, occupancy
from search_spaces.grouped_gemm_space import GROUPED_GEMM
from search_spaces.traffic import TileGrid, Traffic, segment_cost, traffic
from tests.search_spaces.spaces import HOPPER, MIXTRAL, TURING

# The configs of which timings on an H100 exist: 64x64 warps for many tokens, 16x32 for few.
MANY = "128x128x32_w2x2x1_s2_sw2.3.3_f32_r1x16_mn_ca_o1_g8_k1"
MOST = "256x128x32_w4x2x1_s2_sw2.3.3_f32_r1x16_mn_ca_o1_g8_k1"
FEW = "16x128x64_w1x4x1_s2_sw3.3.3_f32_r1x16_mn_ca_o1_g8_k1"
MANY32 = "128x128x32_w2x2x1_s2_sw2.3.3_f32_r2x8_mn_cg_o1_g8_k1"
MANY64 = "128x128x64_w2x2x1_s2_sw3.3.3_f32_r1x8_mn_cg_o1_g8_k1"
STREAMED = FEW.replace("_ca_", "_cs_")
MOST64 = "256x128x64_w4x2x1_s2_sw3.3.3_f32_r2x8_mn_cg_o1_g8_k1"
OLMOE_DOWN = load_model("olmoe-1b-7b").problem("down")
QWEN3_DOWN = load_model("qwen3-30b-a3b").problem("down")
UNITS = ("tensor_us", "shared_us", "dram_us", "l2_us", "issue_us")


def timed(
    name: str, tokens_per_expert: float, gpu: GpuSpec, problem: Problem = MIXTRAL
) -> Prediction:
    config = GroupedGemmConfig.parse(name)
    return predict(problem, config, gpu, Bucket(tokens_per_expert).histogram(problem, 0))


def samples(count: int, seed: int) -> list[GroupedGemmConfig]:
    """Configs that are valid on the smallest card, and so on all of them."""
    view, rng = GROUPED_GEMM.view(QWEN3_DOWN, TURING), random.Random(seed)
    return [view.sample(rng) for _ in range(count)]


TURING_SAMPLES = samples(60, seed=24)


# -- measured facts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("256x128x64_w4x2x1_s2_sw3.3.3_f32_r2x8_mn_cg_o1_g8_k1", 300),
        ("128x256x64_w2x4x1_s2_sw3.3.3_f32_r1x8_mn_cg_o1_g8_k1", 295),
        ("128x128x64_w2x4x1_s2_sw3.3.3_f32_r2x8_mn_cg_o1_g8_k1", 253),
        ("128x128x32_w2x2x1_s2_sw2.3.3_f32_r2x8_mn_cg_o1_g8_k1", 291),
        ("256x64x32_w4x1x1_s2_sw2.3.3_f32_r2x8_mn_cg_o1_g8_k1", 254),
    ],
)
def test_h100_prefill_lies_near_measurements(name: str, tflops: float) -> None:
    predicted = timed(name, 2048, HOPPER)
    flops = MIXTRAL.flops(Bucket(2048).rows(MIXTRAL))
    assert flops / predicted.total_us / 1e6 == pytest.approx(tflops, rel=0.15)


@pytest.mark.parametrize(("name", "gbps"), [(FEW, 2785), (MANY, 1753)])
@pytest.mark.parametrize("tokens_per_expert", [4, 16])
def test_h100_decode_lies_near_measurements(
    name: str, gbps: float, tokens_per_expert: float
) -> None:
    predicted = timed(name, tokens_per_expert, HOPPER)
    weights = 8 * MIXTRAL.expert_bytes
    assert weights / predicted.total_us / 1e3 == pytest.approx(gbps, rel=0.2)


def test_another_shape_on_the_h100_lies_near_its_measurement() -> None:
    predicted = timed("16x64x64_w1x4x1_s2_sw3.3.3_f32_r2x16_mn_cs_o1_g8_k1", 16, HOPPER, OLMOE_DOWN)
    assert predicted.total_us == pytest.approx(108.8, rel=0.1)


def test_ctas_without_rows_cost_a_little() -> None:
    config, problem = GroupedGemmConfig.parse(FEW), replace(MIXTRAL, experts=64)
    # 32 rows could lie with 32 experts; here two m-tiles hold them all
    rows = [16] * 2 + [0] * 62
    grid = TileGrid.of(problem, config, rows)
    assert (grid.m_tiles, grid.idle_m_tiles, grid.idle_ctas) == (2, 30, 30 * 224)
    without = predict(replace(MIXTRAL, experts=2), config, HOPPER, rows[:2]).overhead_us
    assert 1 < predict(problem, config, HOPPER, rows).overhead_us - without < 10


# Pairs timed on an H100 in one run: the first was faster at that many tokens an expert.
@pytest.mark.parametrize(
    ("tokens_per_expert", "faster", "slower"),
    [
        # 256 contiguous bytes of a row arrive faster than 128, those than 64
        (4, "16x64x128_w1x2x2_s1_sw3.3.4_f32_r1x16_mn_cs_o1_g8_k1", STREAMED),
        (4, "8x32x128_w1x2x2_s2_sw3.3.4_f32_r1x16_nm_cs_o1_g8_k1", STREAMED),
        (16, "16x64x128_w1x2x2_s2_sw3.3.4_f32_r1x16_mn_cs_o1_g8_k1", STREAMED),
        (128, MANY64, MANY64.replace("x64_", "x32_").replace("sw3", "sw2")),
        # weights that are read once had better leave the caches first
        (4, STREAMED, STREAMED.replace("_cs_", "_cg_")),
        # two splits write and read their sums
        (4, STREAMED, STREAMED.replace("_k1", "_k2")),
        (32, STREAMED, STREAMED.replace("_k1", "_k2")),
        # a tile that holds all of an expert's tokens reads its weights once
        (32, "32x64x128_w1x2x2_s2_sw3.3.4_f32_r1x16_mn_cs_o1_g8_k1", STREAMED),
        (64, "32x64x128_w1x2x2_s1_sw3.3.4_f32_r1x16_mn_cs_o1_g8_k1", STREAMED),
        # large tiles of 64x64 warps, double-buffered fragments, fp32 sums
        (2048, MOST64, "128x128x64_w2x4x1_s2_sw3.3.3_f32_r2x8_mn_cg_o1_g8_k1"),
        (2048, MOST64, MOST64.replace("r2x8", "r1x8")),
        (2048, MOST64, MOST64.replace("x64_", "x32_").replace("sw3", "sw2")),
        (2048, MANY32, "128x128x32_w2x4x1_s2_sw2.3.3_f16p4_r2x8_mn_cg_o1_g8_k1"),
        (2048, MANY32, MANY32.replace("_g8_", "_g4_")),
        (2048, MANY32.replace("_g8_", "_g4_"), MANY32.replace("_g8_", "_g1_")),
    ],
)
def test_h100_order_is_the_measured_one(tokens_per_expert: float, faster: str, slower: str) -> None:
    fast, slow = (timed(name, tokens_per_expert, HOPPER).total_us for name in (faster, slower))
    assert fast < slow


def test_the_best_tile_changes_with_the_bucket() -> None:
    assert timed(FEW, 16, HOPPER).total_us < 0.8 * timed(MANY, 16, HOPPER).total_us
    assert timed(MANY, 1024, HOPPER).total_us < 0.8 * timed(FEW, 1024, HOPPER).total_us


def test_fragment_reads_take_the_published_share_of_mma_time_on_turing() -> None:
    # fp16 accumulation; stores of the tiles and their loads' lines of 64 bytes come on top: the
    # share of the reads alone is what is left when those are taken off
    shares = {}
    for warp, name in {
        (32, 32): "64x64x32_w2x2x1_s2_sw2.3.3_f16_r1x8_mn_ca_o1_g8_k1",
        (64, 32): "128x64x32_w2x2x1_s2_sw2.3.3_f16_r1x8_mn_ca_o1_g8_k1",
        (64, 64): "128x128x32_w2x2x1_s2_sw2.3.3_f16_r1x8_mn_ca_o1_g8_k1",
    }.items():
        config = GroupedGemmConfig.parse(name)
        predicted = predict(MIXTRAL, config, TURING, [2048] * 8)
        read = 4 * (warp[0] + warp[1])  # rows of halves, by four warps
        staged = (config.tile_m + config.tile_n) * (1 + LINE_CLK)
        shares[warp] = predicted.shared_us / predicted.tensor_us * read / (read + staged)
    assert shares == {
        (32, 32): pytest.approx(1.0, abs=0.02),
        (64, 32): pytest.approx(0.75, abs=0.02),
        (64, 64): pytest.approx(0.5, abs=0.02),
    }


def test_promoted_fp16_pays_where_fp32_accumulation_runs_at_half_rate() -> None:
    f32 = MANY.replace("w2x2x1", "w4x2x1")
    f16p4 = f32.replace("_f32_", "_f16p4_")
    assert timed(f16p4, 1024, TURING).total_us < 0.8 * timed(f32, 1024, TURING).total_us
    assert timed(f16p4, 1024, HOPPER).total_us > timed(f32, 1024, HOPPER).total_us


def test_promoting_more_often_costs_more() -> None:
    f32 = MANY.replace("w2x2x1", "w4x2x1")
    times = [timed(f32.replace("_f32_", f"_f16p{p}_"), 1024, TURING).total_us for p in (8, 4, 2, 1)]
    assert times == sorted(set(times))


@pytest.mark.parametrize("gpu", [TURING, HOPPER], ids=lambda gpu: str(gpu.name))
def test_padding_lies_between_swizzled_and_plain_rows(gpu: GpuSpec) -> None:
    swizzled, padded, plain = (
        timed(MANY.replace("s2_sw2.3.3", f"s1_{smem}"), 1024, gpu)
        for smem in ("sw2.3.3", "pad8", "none")
    )
    assert swizzled.total_us < padded.total_us < plain.total_us
    assert (swizzled.bank_conflicts, padded.bank_conflicts, plain.bank_conflicts) == (0, 1, 3)


def test_limiters_are_what_one_expects() -> None:
    assert timed(FEW, 1, TURING).limiter == "dram"
    assert timed(MANY, 1024, TURING).limiter == "tensor"
    assert timed(MANY.replace("sw2.3.3", "none"), 1024, TURING).limiter == "shared"
    tiny = Problem("grouped_gemm", 8, 64, 32, 2)
    assert timed("16x32x32_w1x2x1_s2_sw2.3.3_f32_r1x8_mn_ca_o1_g8_k1", 1, HOPPER, tiny).limiter == (
        "overhead"
    )
    # one CTA an SM with one short k-tile in flight: its SM waits for each load in turn
    alone = Problem("grouped_gemm", 1, 32, 65536, 1)
    assert timed(
        "16x32x32_w1x2x1_s2_sw2.3.3_f32_r1x8_mn_ca_o1_g8_k1", 1, HOPPER, alone
    ).limiter == ("latency")


def test_splitting_k_pays_when_tiles_are_few_and_not_when_they_are_many() -> None:
    deep, shallow = (Problem("grouped_gemm", 8, 512, k, 1) for k in (14336, 1024))
    whole = "16x64x64_w1x2x1_s2_sw3.3.3_f32_r2x8_mn_ca_o1_g1_k1"
    split = whole.removesuffix("1") + "4"
    few = [timed(name, 0.125, TURING, deep).total_us for name in (split, whole)]
    many = [timed(name, 512, TURING, shallow).total_us for name in (split, whole)]
    assert few[0] < 0.8 * few[1]
    assert many[0] > many[1]


# -- physics -------------------------------------------------------------------------------------


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: str(gpu.name))
def test_nothing_beats_the_roofline(gpu: GpuSpec) -> None:
    rng = random.Random(21)
    for problem, config in itertools.product((MIXTRAL, QWEN3_DOWN), TURING_SAMPLES):
        skew = rng.choice([Skew(), Skew("zipf", 1.2)])
        rows = Bucket(rng.choice([0.25, 3, 16, 100, 2048]), skew).histogram(problem, 0)
        floor = gpu.floor_us(
            problem.flops(sum(rows)),
            problem.traffic(sum(rows), sum(r > 0 for r in rows)),
            f16_accumulate=config.acc != "f32",
        )
        predicted = predict(problem, config, gpu, rows)
        assert predicted.total_us > floor, str(config)
        assert predicted.total_us >= max(getattr(predicted, unit) for unit in UNITS)
        assert 0 < predicted.useful <= 1
        assert predicted.occupancy >= config.min_ctas


@pytest.mark.parametrize("gpu", [TURING, HOPPER], ids=lambda gpu: str(gpu.name))
def test_more_rows_take_longer(gpu: GpuSpec) -> None:
    for config in TURING_SAMPLES:
        for skew in (Skew(), Skew("zipf", 1.0)):
            times = [
                predict(MIXTRAL, config, gpu, Bucket(2.0**i, skew).histogram(MIXTRAL, 0)).total_us
                for i in range(-2, 13)
            ]
            for few, many in itertools.pairwise(times):
                assert many >= few, str(config)


@given(st.integers(0, 59), st.lists(st.integers(0, 300), min_size=8, max_size=8), st.integers(0, 7))
@settings(max_examples=100, deadline=None)
def test_a_full_tile_more_is_never_free(index: int, rows: list[int], expert: int) -> None:
    config = TURING_SAMPLES[index]
    more = list(rows)
    more[expert] += config.tile_m * 64
    before = predict(MIXTRAL, config, TURING, rows).total_us
    assert predict(MIXTRAL, config, TURING, more).total_us > before


def test_a_slower_card_takes_longer() -> None:
    slower = replace(TURING, clock_mhz=TURING.clock_mhz // 2, dram_gbps=TURING.dram_gbps / 2)
    for config in TURING_SAMPLES:
        rows = [64] * 8
        fast, slow = (predict(MIXTRAL, config, gpu, rows).total_us for gpu in (TURING, slower))
        assert fast < slow <= 2.01 * fast


def test_no_rows_cost_a_launch_only() -> None:
    predicted = predict(MIXTRAL, GroupedGemmConfig.parse(MANY), TURING, [0] * 8)
    assert 0 < predicted.total_us < 10
    assert predicted.waves == 0


def test_only_active_experts_are_read() -> None:
    config = GroupedGemmConfig.parse(FEW)
    one, all_ = (predict(MIXTRAL, config, TURING, rows) for rows in ([8] + [0] * 7, [1] * 8))
    assert all_.dram_us == pytest.approx(8 * one.dram_us, rel=0.01)


# -- parts ---------------------------------------------------------------------------------------


def test_tiles_of_a_ragged_histogram_by_hand() -> None:
    config = GroupedGemmConfig.parse(MANY.replace("_k1", "_k4"))
    problem = Problem("grouped_gemm", 4, 200, 1000, 1)
    grid = TileGrid.of(problem, config, [0, 1, 128, 129])
    assert (grid.rows, grid.m_tiles, grid.n_tiles, grid.k_tiles) == (258, 4, 2, 32)
    assert (grid.ctas, grid.iterations) == (32, 8)
    assert grid.outputs(config) == 4 * 128 * 2 * 128
    useful = predict(problem, config, TURING, [0, 1, 128, 129]).useful
    assert useful == pytest.approx(258 * 200 / (4 * 128 * 2 * 128))


def test_traffic_is_least_when_all_fits_in_l2() -> None:
    config = GroupedGemmConfig.parse(MANY)
    small = Problem("grouped_gemm", 8, 512, 512, 2)
    rows = [1000] * 8
    grid = TileGrid.of(small, config, rows)
    moved = traffic(small, config, HOPPER, rows, grid, resident=264)
    read, written = small.traffic(8000, 8) - 2 * 8000 * 512, 2 * 8000 * 512
    assert moved.dram == segment_cost(config, HOPPER) * read + written
    # every CTA fetches its own rows and columns from L2: 8 m-tiles an expert, 4 n-tiles
    assert moved.l2 == 8 * 8 * small.expert_bytes + 4 * 2 * 8000 * 512 + 2 * 8000 * 512


def test_gating_halves_what_is_written_and_gathering_reads_an_index() -> None:
    config, rows = GroupedGemmConfig.parse(MANY), [1000] * 8
    plain = Problem("grouped_gemm", 8, 512, 512, 2)
    grid = TileGrid.of(plain, config, rows)

    def moved(problem: Problem) -> Traffic:
        return traffic(problem, config, HOPPER, rows, grid, resident=264)

    before, gated = moved(plain), moved(replace(plain, epilogue="swiglu"))
    half = 8000 * 512  # bytes: two each of half the columns
    assert (before.dram - gated.dram, before.l2 - gated.l2) == (half, half)
    gathered = moved(replace(plain, gather=True))
    assert gathered.l2 - before.l2 == 4 * 4 * 8000  # by each of the four n-tiles
    saved = segment_cost(config, HOPPER) * 2 * 4000 * 512  # A fits L2: 4,000 tokens, not 8,000 rows
    assert before.dram - gathered.dram == pytest.approx(saved - 4 * 8000)
    times = [
        predict(problem, config, HOPPER, rows).overhead_us
        for problem in (replace(plain, epilogue="swiglu"), plain, replace(plain, gather=True))
    ]
    assert times == sorted(times) and len(set(times)) == 3


def test_taller_raster_groups_read_weights_less_often() -> None:
    rows = [2048] * 8
    moved = []
    for group in (1, 4, 16):
        config = replace(GroupedGemmConfig.parse(MANY), group_m=group)
        grid = TileGrid.of(MIXTRAL, config, rows)
        moved.append(traffic(MIXTRAL, config, TURING, rows, grid, resident=136).dram)
    assert moved[0] > moved[1]
    assert min(moved) >= MIXTRAL.traffic(sum(rows), 8)


@pytest.mark.parametrize(
    ("name", "gpu", "ctas"),
    [
        (MANY, TURING, 2),  # 32 KB each, 64 KB an SM; 222 registers x 128 threads
        (MOST, HOPPER, 1),  # 256 threads of 222 registers
        (FEW, TURING, 1),  # 36 KB each
        ("8x32x32_w1x1x1_s1_none_f32_r1x8_nm_ca_o1_g1_k1", TURING, 16),  # CTAs an SM
        ("16x32x32_w1x4x4_s1_none_f32_r1x8_mn_ca_o1_g1_k1", TURING, 2),  # 512 threads
    ],
)
def test_occupancy_by_hand(name: str, gpu: GpuSpec, ctas: int) -> None:
    assert occupancy(GroupedGemmConfig.parse(name), gpu) == ctas


def test_explanation_tells_total_limiter_and_every_part() -> None:
    predicted = timed(MANY.replace("sw2.3.3", "none"), 1024, TURING)
    lines = explain(predicted)
    assert f"{predicted.total_us:.1f} us" in lines[0]
    assert "limited by shared" in lines[0]
    assert "shared memory" in lines[1]
    text = "\n".join(lines)
    for words in ("tensor cores", "device memory", "L2", "issue", "2 CTAs an SM", "100% of the"):
        assert words in text
    assert "3 extra wavefronts by bank conflicts" in text


def test_five_thousand_predictions_take_seconds() -> None:
    configs = samples(500, seed=25)
    rows = Bucket(16, Skew("zipf", 1.2)).histogram(MIXTRAL, 0)
    start = time.process_time()
    for _ in range(10):
        for config in configs:
            predict(MIXTRAL, config, HOPPER, rows)
    assert time.process_time() - start < 3.0


def test_combining_costs_a_latency_for_one_token_and_a_few_percent_for_many() -> None:
    plain = load_model("qwen3-30b-a3b").problem("down")
    combining, config = replace(plain, combine="any"), GroupedGemmConfig.parse(MANY32)

    def time_us(tokens: int, combine: str) -> float:
        rows = Bucket(tokens * plain.top_k / plain.experts).histogram(plain, 0)
        problem = plain if combine == "none" else combining
        return predict(problem, replace(config, combine=combine), HOPPER, rows).total_us

    one = {way: time_us(1, way) - time_us(1, "none") for way in ("ordered", "atomic", "reduce")}
    assert 0.5 < one["ordered"] < 2
    assert one["reduce"] > one["ordered"] + 1  # a second launch
    many = {way: time_us(8192, way) / time_us(8192, "none") for way in one}
    assert 1 < many["ordered"] < 1.06
    assert many["atomic"] > many["ordered"]  # twice the bytes, and each sector read as well
    assert many["reduce"] > many["ordered"]  # nothing hides the second pass
