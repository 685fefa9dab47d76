// CTAs that share a piece of work: the one that is done last goes on, and nobody waits.
#pragma once

#include <cute/config.hpp>

namespace light_moe {

// True for the last of `expected` CTAs to arrive: it sees what all of them wrote before, and the
// counter is zero again. shared: one int, which nobody needs any more.
CUTE_DEVICE bool arrives_last(int* counter, int expected, int* shared) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) *shared = atomicAdd(counter, 1);
  __syncthreads();
  bool const last = *shared == expected - 1;
  if (last) {
    __threadfence();
    if (threadIdx.x == 0) *counter = 0;
  }
  __syncthreads();  // all have read *shared
  return last;
}

}  // namespace light_moe
