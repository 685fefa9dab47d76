"""Permutation: what sorting slots by expert needs of memory, as permute.cuh lays it out."""

from __future__ import annotations


def padded_experts(experts: int) -> int:
    """Entries of a chunk's histogram: it is read four experts at a time."""
    return -(-experts // 4) * 4


def chunk_count(slots: int, chunk: int) -> int:
    """Chunks of ``chunk`` slots; one where there are no slots, so that offsets are written."""
    return max(1, -(-slots // chunk))


def histogram_bytes(experts: int, chunks: int) -> int:
    """Workspace of the histograms; one chunk alone needs none, if one CTA does it all."""
    return 4 * chunks * padded_experts(experts)


def permute_smem_bytes(experts: int, threads: int) -> int:
    """Shared memory of a CTA: block sums, an int an expert, 16 bits a warp and expert.

    permute.cuh's ``permute_shared``.
    """
    return 4 * (32 + padded_experts(experts) * (2 + threads // 32) // 2)
