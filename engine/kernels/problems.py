"""Problems as the engine meets them: by name, by key, or by the shapes of tensors."""

from __future__ import annotations

from search_spaces import Numerics, Problem, UserError
from search_spaces.models import load_model


def resolve_problem(problem: Problem | str, numerics: Numerics) -> Problem:
    """A problem, its key, or MODEL/LAYER such as ``mixtral-8x7b/gate_up``.

    Raises UserError for an unknown model or layer, a malformed key, or other numerics than these.
    """
    if isinstance(problem, str):
        model, _, layer = problem.rpartition("/")
        if model and "." not in layer:
            return load_model(model).problem(layer, numerics)
        problem = Problem.parse(problem)
    if problem.numerics is not numerics:
        raise UserError(
            f"{problem.key} has {problem.numerics.value} numerics and these kernels "
            f"{numerics.value}: give TunedKernels numerics='{problem.numerics.value}'"
        )
    return problem


def problem_of_shape(
    experts: int,
    n: int,
    k: int,
    top_k: int | None,
    numerics: Numerics,
    epilogue: str = "plain",
    gather: bool = False,
    combine: str = "",
) -> Problem:
    """The grouped GEMM of b [E, N, K]; an unknown ``top_k`` counts as 1.

    Raises UserError when N or K is no multiple of 8, or N none of 16 with a gated epilogue, when
    top_k does not lie in 1..E, and for an unknown epilogue or combination.
    """
    known = 1 if top_k is None else top_k
    return Problem(
        "grouped_gemm", experts, n, k, known, numerics=numerics, epilogue=epilogue, gather=gather,
        combine=combine,
    )  # fmt: skip


def checked_tokens(tokens: int) -> int:
    """Raises UserError unless ``tokens`` is a whole number above 0."""
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
        raise UserError(f"tokens={tokens!r}: must be a whole number of at least 1, before top-k")
    return tokens
