// What the 32 lanes of a warp do together.
#pragma once

#include <cute/config.hpp>

namespace light_moe {

constexpr unsigned kFullWarp = 0xffffffffu;

// Sum of the values of this lane and all lanes below it.
CUTE_DEVICE int inclusive_sum(int value) {
  int const lane = threadIdx.x % 32;
  CUTE_UNROLL
  for (int step = 1; step < 32; step *= 2) {
    int const below = __shfl_up_sync(kFullWarp, value, step);
    value += lane >= step ? below : 0;
  }
  return value;
}

}  // namespace light_moe
