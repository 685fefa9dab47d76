// A warp's accumulators: fp32, fp16, or fp16 sums that are added to fp32 every few k-steps.
#pragma once

#include <light_moe/mma_sm75_f16.cuh>

namespace light_moe {

using namespace cute;

enum class Accumulate { kF32, kF16, kPromoted };

// V::kPromoteSteps: k-steps between promotions. GeForce Turing multiplies at twice the rate when
// it accumulates in fp16; short fp16 sums keep most of that and stay far from fp16's 65504.
template <class V>
struct Accumulator {
  static constexpr bool kShort = V::kAccumulate != Accumulate::kF32;
  using Mma = conditional_t<kShort, SM75_16x8x8_F16F16F16F16_TN, SM75_16x8x8_F32F16F16F32_TN>;
  using Partial = conditional_t<kShort, half_t, float>;
  static constexpr int kX = V::X::kBlocks / 2, kY = V::Y::kBlocks;
  using Values = Layout<Shape<_4, Int<kX>, Int<kY>>, Stride<_1, _4, Int<4 * kX>>>;
  static constexpr int kCount = 4 * kX * kY;

  decltype(make_tensor<Partial>(Values{})) partial = make_tensor<Partial>(Values{});
  decltype(make_tensor<float>(Values{})) total = make_tensor<float>(Values{});

  CUTE_DEVICE Accumulator() {
    clear(partial);
    if constexpr (V::kAccumulate == Accumulate::kPromoted) clear(total);
  }

  template <class X, class Y>
  CUTE_DEVICE void multiply(X const& x, Y const& y) {
    MMA_Atom<Mma> mma;
    CUTE_UNROLL
    for (int k8 = 0; k8 < V::kKStep / 8; ++k8) gemm(mma, x(_, _, k8), y(_, _, k8), partial);
  }

  CUTE_DEVICE void promote() {
    CUTE_UNROLL
    for (int i = 0; i < kCount; ++i) total(i) += float(partial(i));
    clear(partial);
  }

  // After k-step `step` of k-tile number `tile` of this CTA.
  CUTE_DEVICE void after(int step, int tile) {
    if constexpr (V::kAccumulate == Accumulate::kPromoted) {
      if constexpr (V::kPromoteSteps <= V::kSteps) {
        if ((step + 1) % V::kPromoteSteps == 0) promote();
      } else {
        if (step + 1 == V::kSteps && (tile + 1) % (V::kPromoteSteps / V::kSteps) == 0) promote();
      }
    }
  }

  // All sums in fp32.
  CUTE_DEVICE void finish() {
    if constexpr (V::kAccumulate == Accumulate::kPromoted) {
      if constexpr (V::kPromoteSteps > V::kSteps) promote();
    } else {
      CUTE_UNROLL
      for (int i = 0; i < kCount; ++i) total(i) = float(partial(i));
    }
  }
};

}  // namespace light_moe
