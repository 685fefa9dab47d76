// The best of many numbers spread over a few lanes, again and again.
#pragma once

#include <light_moe/gate_row.cuh>
#include <light_moe/warp.cuh>

namespace light_moe {

constexpr unsigned kTaken = 0, kNotANumber = 1;  // below the key of any number

// Keys compare like the numbers: the sign turns around the order of the negative ones. Both zeros
// have one key.
CUTE_DEVICE unsigned key_of(float value) {
  if (value != value) return kNotANumber;
  int const bits = __float_as_int(value + 0.0f);
  return unsigned(bits) ^ (unsigned(bits >> 31) | 0x80000000u);
}

// The number of a key; -inf for kNotANumber.
CUTE_DEVICE float number_of(unsigned key) {
  unsigned const bits = key & 0x80000000u ? key ^ 0x80000000u : ~key;
  return key == kNotANumber ? kLowest : __uint_as_float(bits);
}

template <int kLanes>
CUTE_DEVICE float largest(float value) {
  CUTE_UNROLL
  for (int step = kLanes / 2; step > 0; step /= 2)
    value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, step, kLanes));
  return value;
}

// Every lane gets the same bits: additions commute.
template <int kLanes>
CUTE_DEVICE float sum_of(float value) {
  CUTE_UNROLL
  for (int step = kLanes / 2; step > 0; step /= 2)
    value += __shfl_xor_sync(kFullWarp, value, step, kLanes);
  return value;
}

// kLanes neighbouring lanes hold kItems keys each; kLanes / kAlike groups of lanes hold the same.
// All lanes of a warp take part.
template <int kLanes, int kItems, int kAlike = 1>
struct Contest {
  unsigned keys[kItems];
  unsigned best = 0;  // of this lane
  int item = 0;       // the first that has it

  CUTE_DEVICE void look() {
    best = 0;
    CUTE_UNROLL
    for (int i = 0; i < kItems; ++i) {
      item = keys[i] > best ? i : item;
      best = max(best, keys[i]);
    }
  }

  // The first lane that holds the largest key; `best` is it there.
  CUTE_DEVICE int winner(unsigned& most) const {
    most = best;
    CUTE_UNROLL
    for (int step = kLanes / 2; step >= kAlike; step /= 2)
      most = max(most, __shfl_xor_sync(kFullWarp, most, step, kLanes));
    unsigned const tied = __ballot_sync(kFullWarp, best == most);
    int const first = threadIdx.x % 32 / kLanes * kLanes;
    return __ffs(tied >> first) - 1;
  }

  // The winner's key is out.
  CUTE_DEVICE void take(int winner) {
    if (int(threadIdx.x) % kLanes / kAlike != winner / kAlike) return;
    CUTE_UNROLL
    for (int i = 0; i < kItems; ++i) keys[i] = i == item ? kTaken : keys[i];
    look();
  }
};

}  // namespace light_moe
