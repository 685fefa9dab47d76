// The router on tensor cores: the grouped GEMM's main loop, with the router as its one expert.
#pragma once

#include <light_moe/grouped_gemm_sm75.cuh>

namespace light_moe {

// V: the variant's Mma. Logits of the tile, `stride` (even) from token to token.
template <class V>
CUTE_DEVICE void write_logits(Accumulator<V> const& acc, float* out, int stride) {
  int const wide = typename V::CX{}(int(threadIdx.x)), narrow = typename V::CY{}(int(threadIdx.x));
  CUTE_UNROLL
  for (int x = 0; x < acc.kX; ++x) {
    CUTE_UNROLL
    for (int y = 0; y < acc.kY; ++y) {
      CUTE_UNROLL
      for (int half = 0; half < 2; ++half) {
        int const first = wide + 16 * x + 8 * half, second = narrow + 8 * y;
        float const low = acc.total(2 * half, x, y), high = acc.total(2 * half + 1, x, y);
        if constexpr (V::kSwap) {
          out[second * stride + first] = low;
          out[(second + 1) * stride + first] = high;
        } else {
          *reinterpret_cast<float2*>(out + first * stride + second) = {low, high};
        }
      }
    }
  }
}

// x, router: the first row of the CTA's tile, then how many there are from it on; k-tiles first to
// last - 1. The ring may lie where the logits will.
template <class V>
CUTE_DEVICE void multiply_tile(half_t const* x, int tokens, half_t const* router, int rows,
                               int first, int last, uint8_t* ring, float* out, int stride) {
  Accumulator<V> acc;
  Mainloop<V> loop(x, nullptr, tokens, router, rows, first, reinterpret_cast<half_t*>(ring));
  if constexpr (V::kStages == 1) {
    loop.run_single(acc, last - first, [] {});
  } else {
    loop.run(acc, last - first, [] {});
  }
  acc.finish();
  if constexpr (V::kWarpsK > 1) reduce_warps<V>(acc, reinterpret_cast<float*>(ring));
  __syncthreads();
  if (threadIdx.x < kOutThreads<V>) write_logits<V>(acc, out, stride);
}

}  // namespace light_moe
