// Sums over warps along K within a CTA, and over CTAs that split K: both in a fixed order, so that
// equal inputs give equal bits.
#pragma once

#include <light_moe/accumulator.cuh>

namespace light_moe {

template <class V>
constexpr int kOutThreads = V::kThreads / V::kWarpsK;  // threads that own a part of the CTA tile

// Warps of the first k-slice end up with the sum of all slices. scratch: kTileM x kTileN floats.
template <class V>
CUTE_DEVICE void reduce_warps(Accumulator<V>& acc, float* scratch) {
  int const slice = threadIdx.x / kOutThreads<V>;
  float* mine = scratch + threadIdx.x % kOutThreads<V>;
  for (int from = 1; from < V::kWarpsK; ++from) {
    __syncthreads();
    if (slice == from) {
      CUTE_UNROLL
      for (int i = 0; i < acc.kCount; ++i) mine[i * kOutThreads<V>] = acc.total(i);
    }
    __syncthreads();
    if (slice == 0) {
      CUTE_UNROLL
      for (int i = 0; i < acc.kCount; ++i) acc.total(i) += mine[i * kOutThreads<V>];
    }
  }
}

// Every split leaves its sums in the workspace; the CTA that arrives last adds them all, split 0
// first, and zeroes the counter for the next launch. True for that CTA. No CTA waits for another.
template <class V>
CUTE_DEVICE bool reduce_splits(Accumulator<V>& acc, float* workspace, int* counter, int tile,
                               int splits, int* flag) {
  constexpr int kTile = Accumulator<V>::kCount * kOutThreads<V>;
  float* first = workspace + size_t(tile) * splits * kTile + threadIdx.x % kOutThreads<V>;
  bool const owner = threadIdx.x < kOutThreads<V>;
  if (owner) {
    float* mine = first + size_t(blockIdx.y) * kTile;
    CUTE_UNROLL
    for (int i = 0; i < acc.kCount; ++i) __stcg(mine + i * kOutThreads<V>, acc.total(i));
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) *flag = atomicAdd(counter, 1);
  __syncthreads();
  if (*flag != splits - 1) return false;
  __threadfence();
  if (threadIdx.x == 0) *counter = 0;
  if (owner) {
    clear(acc.total);
    for (int split = 0; split < splits; ++split) {
      CUTE_UNROLL
      for (int i = 0; i < acc.kCount; ++i)
        acc.total(i) += __ldcg(first + size_t(split) * kTile + i * kOutThreads<V>);
    }
  }
  return true;
}

}  // namespace light_moe
