// Permutation of one rank's slots, from expert ids that came from elsewhere.
#pragma once

#include <light_moe/permute.cuh>

namespace light_moe {

// `ids` are of the model's experts. PermuteArgs::experts are groups of rows: experts of this rank.
struct RankArgs : PermuteArgs {
  int const* slot_map; // [all_experts, replicas]: group of each replica here, -1: none; or null
  int all_experts;
  int replicas;
  int valid;           // slots before the padding

  CUTE_DEVICE int expert(int slot, int id) const {
    if (slot >= valid || unsigned(id) >= unsigned(all_experts)) return -1;
    return slot_map == nullptr ? id : __ldg(slot_map + id * replicas + slot % replicas);
  }
};

// num_valid: tokens before the padding; null: all.
CUTE_DEVICE int valid_slots(int const* num_valid, int tokens, int per_token) {
  return (num_valid == nullptr ? tokens : max(0, min(__ldg(num_valid), tokens))) * per_token;
}

// One pass for one chunk; for more, pass 0 counts them and pass 1 places them, a CTA each.
template <int kThreads, int kChunk>
CUTE_DEVICE void moe_permute(RankArgs const& args, int pass) {
  extern __shared__ __align__(16) int shared[];
  if (args.chunks == 1) {
    permute_chunk<kThreads, kChunk>(args, shared);
  } else if (pass == 0) {
    count_chunk<kThreads, kChunk>(args, blockIdx.x, shared);
  } else {
    place_chunk<kThreads, kChunk>(args, blockIdx.x, shared);
  }
}

}  // namespace light_moe
