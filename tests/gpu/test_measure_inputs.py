"""Inputs, reference, stopwatch and the run command on a real card."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest
import torch

from search_spaces import Bucket, Problem, UserError
from templates.device import device_spec, device_uuid
from tuner.card import Card
from tuner.inputs import Inputs, make_inputs
from tuner.reference import full_reference
from tuner.timing import Repeats, Stopwatch

pytestmark = pytest.mark.gpu

PROBLEM = Problem("grouped_gemm", experts=4, n=256, k=2048, top_k=2)
REPEATS = Repeats(least=20, most=40, milliseconds=20)


@pytest.fixture
def inputs() -> Inputs:
    return make_inputs(PROBLEM, Bucket.parse("8@zipf:1.2"), 5, torch.device("cuda", 0))


def test_the_reference_is_fp32_even_where_tf32_is_allowed(inputs: Inputs) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        blocks = list(full_reference(inputs))
    finally:
        torch.set_float32_matmul_precision(before)
    values = torch.cat([block.results() for block in blocks]).double().cpu()
    expert = torch.repeat_interleave(torch.arange(4), torch.tensor(inputs.histogram))
    weights = inputs.b.double().cpu()
    rows = inputs.a.double().cpu()
    exact = torch.stack([weights[e] @ row for e, row in zip(expert.tolist(), rows, strict=True)])
    # TF32 has 10 bits of mantissa: it would be off by some 3e-4.
    assert float((values - exact).norm() / exact.norm()) < 2e-6


def test_what_does_not_fit_is_told_before_anything_is_allocated() -> None:
    huge = Problem("grouped_gemm", experts=512, n=65536, k=16384, top_k=2)
    before = torch.cuda.memory_allocated()
    with pytest.raises(UserError, match=r"needs .* GB of GPU memory and .* are free"):
        make_inputs(huge, Bucket.parse("1"), 1, torch.device("cuda", 0))
    assert torch.cuda.memory_allocated() == before


@pytest.fixture(scope="module")
def stopwatch() -> Stopwatch:
    return Stopwatch(torch.device("cuda", 0), Card(device_uuid(0)))


def test_times_are_proportional_to_the_work(stopwatch: Stopwatch) -> None:
    """A kernel that sleeps N clocks is its own oracle."""
    cycles = 200_000

    def sleep(factor: int) -> None:
        torch.cuda._sleep(factor * cycles)

    launches = [lambda f=f: sleep(f) for f in (1, 2, 4)]
    one, two, four = (t.median_us for t in stopwatch.race(launches, REPEATS, random.Random(1)))
    assert (four - two) / (two - one) == pytest.approx(2, rel=0.1)
    clock_mhz = cycles / (two - one)
    assert 200 < clock_mhz < 2 * device_spec().clock_mhz


def test_a_slow_host_does_not_count_as_kernel_time(stopwatch: Stopwatch) -> None:
    """The launches queue up behind a sleeping kernel; nobody waits for the host in between."""
    vector = torch.zeros(1024, device="cuda")

    def lazy() -> None:
        for _ in range(2000):
            pass
        vector.add_(1)

    quick, slow = stopwatch.race([lambda: vector.add_(1), lazy], REPEATS, random.Random(2))
    assert slow.median_us < quick.median_us + 5


def test_weights_come_from_memory(stopwatch: Stopwatch) -> None:
    """Reading half an L2 again and again is faster from L2 than behind the sweep."""
    size = torch.cuda.get_device_properties(0).L2_cache_size // 2
    data = torch.zeros(size // 4, device="cuda")
    total = torch.empty((), device="cuda")

    def once() -> None:
        torch.sum(data, dim=0, out=total)

    def thrice() -> None:
        for _ in range(3):
            once()

    cold, three = (t.median_us for t in stopwatch.race([once, thrice], REPEATS, random.Random(3)))
    warm = (three - cold) / 2
    assert cold > warm


def test_run_times_the_default_and_tells_everything() -> None:
    command = [
        sys.executable, "-m", "tuner.run", "--shape", "E=4,N=512,K=512,top_k=2",
        "--config", "default", "--bucket", "32", "--seed", "7", "--iterations", "2", "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["status"] == "ok"
    assert facts["verified"] == "gpu"
    assert facts["seed"] == 7
    assert 0 < facts["rel_error"] < 1e-3
    assert facts["time_us"] > 0
    assert 0 < facts["roofline"] < 1
    assert facts["gpu"] == device_spec().name
