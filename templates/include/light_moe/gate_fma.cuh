// The router in fp32: any type, and few tokens, where reading the router is all that counts.
#pragma once

#include <light_moe/gate_row.cuh>
#include <light_moe/warp.cuh>

namespace light_moe {

// Sums of a warp's lanes: kCount values each become max(1, kCount / 32) totals. Lanes whose numbers
// differ in a bit swap halves of what they have, so that a shuffle moves no value that its receiver
// would throw away. Lane l ends with totals l * kCount / 32 and on.
template <int kCount, int kStep = 16>
CUTE_DEVICE void sum_lanes(float* values) {
  bool const upper = threadIdx.x & kStep;
  constexpr int kHalf = kCount / 2;
  if constexpr (kHalf > 0) {
    CUTE_UNROLL
    for (int i = 0; i < kHalf; ++i) {
      float const kept = upper ? values[kHalf + i] : values[i];
      float const given = upper ? values[i] : values[kHalf + i];
      values[i] = kept + __shfl_xor_sync(kFullWarp, given, kStep);
    }
  } else {
    values[0] += __shfl_xor_sync(kFullWarp, values[0], kStep);
  }
  if constexpr (kStep > 1) sum_lanes<(kHalf > 0 ? kHalf : 1), kStep / 2>(values);
}

// A warp multiplies kTokens tokens with kRows rows of the router. Its lanes read along H, 16 bytes
// each, so that every load of a warp is one run of 512 bytes.
template <class V>
struct FmaTile {
  using Element = typename V::Element;
  static constexpr int kTokens = V::kTileT / V::kWarpsT, kRows = V::kTileE / V::kWarpsE;
  static constexpr int kWidth = 16 / sizeof(Element);
  static constexpr int kStep = 32 * kWidth * V::kVectors;  // elements of H that a warp reads at once
  static constexpr int kSteps = (V::kHidden + kStep - 1) / kStep;
  static constexpr int kSums = kTokens * kRows, kTotals = kSums > 32 ? kSums / 32 : 1;

  int warp_t, warp_e, warp_k;
  float sums[kSums] = {};

  CUTE_DEVICE FmaTile() {
    int const warp = threadIdx.x / 32;
    warp_t = warp % V::kWarpsT, warp_e = warp / V::kWarpsT % V::kWarpsE;
    warp_k = warp / (V::kWarpsT * V::kWarpsE);
  }

  // kCount rows of H from `rows` on, of which `exist`; those beyond are 0.
  template <int kCount>
  CUTE_DEVICE static void fetch(Element const* rows, int exist, int k, uint4 (&to)[kCount]) {
    bool const inside = V::kHidden % kStep == 0 || k < V::kHidden;
    CUTE_UNROLL
    for (int i = 0; i < kCount; ++i) {
      to[i] = {};
      if (inside && i < exist) to[i] = *reinterpret_cast<uint4 const*>(rows + i * V::kHidden + k);
    }
  }

  // x, router: the first row of the CTA's tile; then how many there are from it on.
  CUTE_DEVICE void multiply(Element const* x, int tokens, Element const* router, int rows,
                            int first, int last) {
    x += size_t(warp_t * kTokens) * V::kHidden;
    router += size_t(warp_e * kRows) * V::kHidden;
    tokens -= warp_t * kTokens, rows -= warp_e * kRows;
    for (int step = first + warp_k; step < last; step += V::kWarpsK) {
      uint4 left[V::kVectors][kTokens], right[V::kVectors][kRows];
      CUTE_UNROLL
      for (int i = 0; i < V::kVectors; ++i) {
        int const k = step * kStep + (32 * i + threadIdx.x % 32) * kWidth;
        fetch(x, tokens, k, left[i]);
        fetch(router, rows, k, right[i]);
      }
      CUTE_UNROLL
      for (int i = 0; i < V::kVectors; ++i) add(left[i], right[i]);
    }
  }

  CUTE_DEVICE void add(uint4 const (&left)[kTokens], uint4 const (&right)[kRows]) {
    CUTE_UNROLL
    for (int k = 0; k < kWidth; ++k) {
      CUTE_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        CUTE_UNROLL
        for (int e = 0; e < kRows; ++e)
          sums[t * kRows + e] = fmaf(at(left[t], k), at(right[e], k), sums[t * kRows + e]);
      }
    }
  }

  CUTE_DEVICE static float at(uint4 const& words, int k) {
    return float(reinterpret_cast<Element const*>(&words)[k]);
  }

  // Logits of the tile, `stride` from token to token. planes: V::kWarpsK - 1 tiles.
  CUTE_DEVICE void write(float* out, int stride, float* planes) {
    sum_lanes<kSums>(sums);
    int const lane = threadIdx.x % 32;
    bool const writes = kSums >= 32 || lane % (32 / kSums) == 0;
    int const number = kSums >= 32 ? lane * kTotals : lane / (32 / kSums);
    int const place = (warp_t * V::kWarpsE + warp_e) * kSums + number;
    if constexpr (V::kWarpsK > 1) {
      constexpr int kPlane = V::kTileT * V::kTileE;
      CUTE_UNROLL
      for (int i = 0; i < kTotals; ++i) {
        if (warp_k > 0 && writes) planes[(warp_k - 1) * kPlane + place + i] = sums[i];
      }
      __syncthreads();
      if (warp_k > 0) return;
      for (int from = 0; writes && from < V::kWarpsK - 1; ++from) {
        CUTE_UNROLL
        for (int i = 0; i < kTotals; ++i) sums[i] += planes[from * kPlane + place + i];
      }
    }
    CUTE_UNROLL
    for (int i = 0; i < kTotals; ++i) {
      int const token = warp_t * kTokens + (number + i) / kRows;
      int const row = warp_e * kRows + (number + i) % kRows;
      if (writes) out[token * stride + row] = sums[i];
    }
  }
};

}  // namespace light_moe
