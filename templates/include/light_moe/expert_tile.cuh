// Which expert's rows a CTA works on, found on the device: the host never learns the offsets.
#pragma once

#include <light_moe/warp.cuh>

namespace light_moe {

struct ExpertTile {
  int expert;  // -1: this tile number is beyond the last row
  int row;     // first row of A and C
  int rows;    // rows from there to the end of the expert's group
};

// Tiles are numbered expert by expert, ceil(rows / tile_m) each; offsets is [experts + 1].
// Every warp scans alone, 32 experts at a time, so no barrier is needed.
CUTE_DEVICE ExpertTile find_expert_tile(int const* offsets, int experts, int tile, int tile_m) {
  int const lane = threadIdx.x % 32;
  int before = 0;  // tiles of all experts below this batch of 32
  for (int first = 0; first < experts; first += 32) {
    int const expert = min(first + lane, experts);
    int const begin = offsets[expert];
    int const end = offsets[min(expert + 1, experts)];
    int const tiles = (end - begin + tile_m - 1) / tile_m;
    int const upto = inclusive_sum(tiles);
    unsigned const reached = __ballot_sync(kFullWarp, before + upto > tile);
    if (reached != 0) {
      int const owner = __ffs(reached) - 1;
      int const row = begin + (tile - (before + upto - tiles)) * tile_m;
      return {first + owner, __shfl_sync(kFullWarp, row, owner),
              __shfl_sync(kFullWarp, end - row, owner)};
    }
    before += __shfl_sync(kFullWarp, upto, 31);
  }
  return {-1, 0, 0};
}

}  // namespace light_moe
