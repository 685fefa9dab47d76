// Gated epilogues: act(gate) * up on fp32 sums, rounded to fp16 once.
#pragma once

#include <cute/tensor.hpp>

namespace light_moe {

using cute::half_t;

enum class Epilogue { kPlain, kSwiGlu, kGeGlu, kReGlu };

// x / (1 + exp(-t)). Beyond 88 the exponential is infinite and the quotient -0, as it should be.
CUTE_DEVICE float gated_by_sigmoid(float x, float t) { return __fdividef(x, 1.0f + __expf(-t)); }

template <Epilogue kEpilogue>
CUTE_DEVICE float activation(float x) {
  if constexpr (kEpilogue == Epilogue::kSwiGlu) {
    return gated_by_sigmoid(x, x);
  } else if constexpr (kEpilogue == Epilogue::kGeGlu) {
    // 0.5 x (1 + tanh z) = x sigmoid(2 z), z = sqrt(2 / pi) (x + 0.044715 x^3): tanh.approx alone
    // would err by as much as the rounding to fp16.
    return gated_by_sigmoid(x, 1.5957691216f * (x + 0.044715f * x * x * x));
  } else {
    return x < 0.0f ? 0.0f : x;  // a NaN stays one
  }
}

// The largest fp16 number of that sign instead of an infinity, which the next GEMM would turn into
// NaNs. A NaN passes both comparisons.
CUTE_DEVICE float saturated(float value) {
  constexpr float kLargest = 65504.0f;
  float const below = value > kLargest ? kLargest : value;
  return below < -kLargest ? -kLargest : below;
}

template <Epilogue kEpilogue>
CUTE_DEVICE float gated(float gate, float up) {
  return saturated(activation<kEpilogue>(gate) * up);
}

}  // namespace light_moe
