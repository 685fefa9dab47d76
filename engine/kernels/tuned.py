"""TunedKernels: the tuned kernels of one device, called on torch tensors."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable

import torch

from engine.kernels.checks import check_operands, check_out
from engine.kernels.combination import check_combination, check_contents
from engine.kernels.dispatcher import Dispatcher, preferred_skew
from engine.kernels.explanation import Explanation, explain
from engine.kernels.gate import check_gate, check_routing, gate_on_cpu, gate_work
from engine.kernels.launches import Launches
from engine.kernels.layer_choice import LayerChoice, choose_layer
from engine.kernels.moe_permute import (
    check_permute,
    check_values,
    permute_on_cpu,
    permute_work,
    permuted,
)
from engine.kernels.problems import checked_tokens, resolve_problem
from engine.kernels.reference import grouped_gemm_reference
from engine.kernels.routing import Routing
from engine.kernels.scratch import Scratch
from engine.kernels.work import GemmSizes, Work, gemm_sizes, gemm_work
from search_spaces import GpuSpec, Numerics, Problem, Skew, UserError, find_gpu, reference_gpu
from search_spaces.gate_problem import GateProblem
from search_spaces.layer_problem import LayerProblem
from search_spaces.permute_problem import PermuteProblem
from search_spaces.problem import GATED
from search_spaces.problems import AnyProblem
from templates.device import device_spec
from tuning_db.tunings import Tunings

ASSUMED_ARCH = "sm_75"  # whose reference card ``explain`` speaks of on a machine without a GPU


class TunedKernels:
    """Kernels for ``device``, chosen by what the tuning DB ``db`` knows of its GPU model.

    ``db`` is a path or URL; None means LIGHT_MOE_DB, else ./tuning.sqlite. The DB is read at first
    use of a shape; a search that ends later is seen by the next TunedKernels. ``numerics`` (fp32,
    promoted or fp16) says how products may be accumulated, ``skew`` (uniform or zipf:X) whose
    winners are preferred; with ``auto`` each call's own skew says so. On a CPU the torch reference
    answers. Several threads and streams may share one object. Raises UserError for an unknown
    device, numerics or skew, without a usable GPU, or when the DB cannot be read.
    """

    def __init__(
        self,
        db: str | os.PathLike[str] | None,
        device: torch.device | str,
        numerics: Numerics | str = Numerics.PROMOTED,
        *,
        skew: str = "uniform",
    ) -> None:
        self.device = _full_device(device)
        self.numerics = _numerics(numerics)
        self._db = None if db is None else os.fspath(db)
        self._skew = preferred_skew(skew)
        self._lock = threading.Lock()
        self._others: dict[str, Dispatcher] = {}
        self.follows_loads = self._skew is None
        self.revision = 0  # what was chosen before it changed may not be what is chosen now
        self._launches: Launches | None = None
        if self.device.type == "cpu":
            self._dispatcher = self._dispatcher_for(reference_gpu(ASSUMED_ARCH))
            return
        gpu = device_spec(self.device.index)
        self._dispatcher = self._dispatcher_for(gpu, f"--gpus {self.device.index}")
        self._launches = Launches(self._dispatcher, self.device)

    def grouped_gemm(
        self,
        a: torch.Tensor,
        b: torch.Tensor,
        offsets: torch.Tensor,
        *,
        rows: torch.Tensor | None = None,
        epilogue: str = "plain",
        slots: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
        combine: str = "",
        top_k: int | None = None,
        out: torch.Tensor | None = None,
        check: bool = False,
        skew: Skew | None = None,
        config: str | None = None,
        scratch: Scratch | None = None,
    ) -> torch.Tensor:
        """c [rows, N] fp16: rows offsets[e] to offsets[e + 1] of a [rows, K] times b[e]^T.

        a and b [E, N, K] are fp16, offsets int32 [E + 1], ascending within 0..rows. With ``rows``,
        int32 [rows], a is [tokens, K] and row r reads row rows[r] of it. A gated ``epilogue``
        (swiglu, geglu, reglu) makes c act(gate) x up, [rows, N / 2], from b as
        :func:`interleave_gate_up` lays it out. With ``combine`` c is [tokens, N], the sum over a
        token's ``top_k`` slots of their rows, each times its weight: ``slots``, int32 [rows], is
        token x top_k + j of each row, ``weights`` fp32 [tokens, top_k]; ``ordered`` repeats to the
        bit, ``any`` need not. What is gated, weighted or combined saturates at 65504. Rows outside
        the offsets are not written. ``top_k`` and ``skew`` (how rows fall on experts, for
        ``auto``) choose among winners; ``config`` names one that is known to be valid.
        ``scratch`` is memory for what kernels keep, instead of torch's.

        Queued on torch's current stream of a GPU; nothing waits, so it can be captured in a CUDA
        graph once its kernel is loaded (``warm_up``). Offsets, rows and slots, whose values may
        change between replays, are trusted there: a wrong one reads and writes memory of others,
        and a slot without a row spoils later calls. ``check=True`` reads them first, which waits;
        on a CPU they are always checked. Raises UserError for tensors that break these rules.
        """
        operands = check_operands(a, b, offsets, self.device, rows, top_k)
        count, columns = operands[0], operands[2] // (2 if epilogue in GATED else 1)
        shape, routed = (count, columns), (0, 0)
        if combine or slots is not None or weights is not None:
            given = slots, weights, combine, top_k
            shape, routed = check_combination(*given, shape, out, self.device)
        if out is not None:
            check_out(out, operands, a.shape[0], shape, self.device)
        sizes = (*operands[:4], top_k, epilogue, rows is not None, combine)
        if check or self._launches is None:
            check_contents(offsets, count, rows, a.shape[0], slots)
        if self._launches is None:
            gemm_work(sizes, self.numerics)
            return grouped_gemm_reference(
                a, b, offsets, out, rows=rows, epilogue=epilogue, slots=slots, weights=weights
            )
        if out is None:
            out = a.new_empty(shape)
        a_begin, b_begin, offsets_begin, index = operands[4:]
        pointers = (a_begin, b_begin, out.data_ptr(), offsets_begin, index or 0, *routed)
        self._launches.run(sizes, self._gemm_work, pointers, skew, config, scratch)
        return out

    def fused_gate(
        self,
        x: torch.Tensor,
        router: torch.Tensor | None = None,
        *,
        problem: GateProblem,
        bias: torch.Tensor | None = None,
        scaling: float = 1.0,
        out: Routing | None = None,
        config: str | None = None,
        scratch: Scratch | None = None,
    ) -> Routing:
        """Experts and weights of each token, and the rows that the grouped GEMMs then work on.

        x is hidden states [T, H] with a ``router`` [router_rows, H] in the same dtype, or logits
        [T, E] for a problem without hidden size; ``bias`` fp32 [E] where the problem has one.
        ``scaling`` multiplies the weights of chosen experts. ``out`` is memory for T tokens, whose
        flag keeps what it has seen before. Queued like ``grouped_gemm``, and captured like it; the
        same x gives the same bits. Raises UserError for tensors that do not fit the problem.
        """
        tokens, *pointers = check_gate(problem, x, router, bias, self.device)
        if out is None:
            out = Routing.empty(tokens, problem, self.device)
        written = check_routing(out, problem, tokens, self.device)
        if self._launches is None:
            gate_on_cpu(problem, x, router, bias, scaling, out)
        else:
            sizes = (problem, tokens, scaling)
            all_pointers = (*pointers, *written)
            self._launches.run(sizes, gate_work, all_pointers, config=config, scratch=scratch)
        return out

    def moe_permute(
        self,
        ids: torch.Tensor,
        slot_map: torch.Tensor | None = None,
        *,
        problem: PermuteProblem,
        num_valid: torch.Tensor | None = None,
        out: Routing | None = None,
        check: bool = False,
        scratch: Scratch | None = None,
    ) -> Routing:
        """The rows of slots whose experts somebody else chose, as one rank's grouped GEMMs want.

        ids int32 [T, top_k]; -1 is skipped, and so are tokens from ``num_valid``, int32 [1] on this
        device, on. With ``slot_map``, int32 [E, R], slot d of expert e belongs to group
        slot_map[e, d % R] and is skipped where that is -1. The answer's offsets [groups + 1] count
        groups, its ids are ``ids``; what its rows and slots hold beyond the last offset is left as
        it was. ``out`` is memory for it, made for these ids. Queued like ``grouped_gemm``, and
        captured like it, once called with as many tokens. Ids and map are trusted on a GPU, where
        ids of no expert are skipped; ``check=True`` reads them back first. Raises UserError for
        tensors that do not fit the problem.
        """
        tokens, *given = check_permute(problem, ids, slot_map, num_valid, self.device)
        out, written = permuted(out, problem, ids)
        if check or self._launches is None:
            check_values(problem, ids, slot_map, num_valid)
        if self._launches is None:
            permute_on_cpu(problem, slot_map, num_valid, out)
        else:
            sizes = (problem, tokens)
            self._launches.run(sizes, permute_work, (*given, *written), scratch=scratch)
        return out

    def warm_up(self, problem: Problem | str, tokens: Iterable[int]) -> None:
        """Compile and load all that ``tokens`` (each a T before top-k) of a problem will run.

        ``problem`` is a Problem, its key, or MODEL/LAYER. Does nothing on a CPU. Raises UserError
        for a malformed problem or count, and when a kernel cannot be built.
        """
        found = resolve_problem(problem, self.numerics)
        rows = sorted({checked_tokens(count) * found.top_k for count in tokens})
        if self._launches is not None:
            # Rows are combined with a known top_k only.
            for top_k in (found.top_k,) if found.combine else (found.top_k, None):
                sizes = [gemm_sizes(found, count, top_k) for count in rows]
                self._launches.prepare(sizes, self._gemm_work)

    def force(self, problem: AnyProblem, config: str | None) -> None:
        """Run this config for a problem from now on, whatever was tuned; None: what was tuned.

        ``config`` is a config's name. Graphs that were captured before keep their kernels. Raises
        UserError for a name that is no config of the op, or one that cannot run on this GPU.
        """
        self._dispatcher.force(problem, config)
        self.revision += 1
        if self._launches is not None:
            self._launches.forget()

    def skew_index(self, skew: Skew | None) -> int:
        """0, 1 ... for skews whose choices are the same."""
        return self._dispatcher.skew_index(skew)

    def choose_layer(
        self, problem: LayerProblem, tokens: int, skew: Skew | None = None
    ) -> LayerChoice:
        """The configs of a layer's three kernels for T = ``tokens`` >= 1 tokens, and why.

        ``skew`` is how their rows fall on experts, as far as is known. Warns once of each part
        that runs its default because nothing was tuned.
        """
        choice = choose_layer(self._dispatcher, problem, checked_tokens(tokens), skew=skew)
        if choice.source is None:
            for part in problem.parts:
                if not self._dispatcher.is_forced(part):
                    self._dispatcher.warn_once(part)
        return choice

    def explain(
        self, problem: Problem | str, tokens: int, *, gpu: str | None = None
    ) -> Explanation:
        """Which config would run for T = ``tokens`` tokens before top-k, and why; prints well.

        ``problem`` is a Problem, its key, or MODEL/LAYER such as "mixtral-8x7b/gate_up". ``gpu``
        names another GPU model than this device's; on a CPU it is the RTX 2080 Ti unless named.
        Raises UserError for an unknown GPU, model or layer, and for fewer than one token.
        """
        found = resolve_problem(problem, self.numerics)
        return explain(self._dispatcher if gpu is None else self._for_name(gpu), found, tokens)

    def _gemm_work(self, sizes: GemmSizes) -> Work:
        return gemm_work(sizes, self.numerics)

    def _for_name(self, gpu: str) -> Dispatcher:
        spec = find_gpu(gpu)
        with self._lock:
            if spec.name not in self._others:
                self._others[spec.name] = self._dispatcher_for(spec)
            return self._others[spec.name]

    def _dispatcher_for(self, gpu: GpuSpec, target: str | None = None) -> Dispatcher:
        flags = f'--gpu "{gpu.name}"' if target is None else target
        return Dispatcher(Tunings(self._db, gpu), self._skew, target=flags, db=self._db)


def _full_device(device: torch.device | str) -> torch.device:
    """The device with its index. Raises UserError unless it is a CPU or a CUDA device."""
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise UserError(f"device {device!r}: use cpu, cuda or cuda:N") from None
    if found.type not in ("cpu", "cuda"):
        raise UserError(f"device '{found}': use cpu, cuda or cuda:N")
    if found.type == "cpu":
        return torch.device("cpu")
    if ":" not in str(found):
        return torch.device("cuda", torch.cuda.current_device() if torch.cuda.is_available() else 0)
    return found


def _numerics(value: Numerics | str) -> Numerics:
    known = [numerics.value for numerics in Numerics]
    if value not in known:
        raise UserError(f"unknown numerics '{value}': choose one of {', '.join(known)}")
    return Numerics(value)
