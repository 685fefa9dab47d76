// Where each row of a tile belongs: its slot, token * top_k + j, and the weight of that slot.
#pragma once

#include <cute/config.hpp>

namespace light_moe {

struct RoutedRow {
  int slot;  // -1: there is no such row
  float weight;
};

// A thread keeps its share of the tile's rows in registers during the main loop. The two loads hang
// on each other and would take a microsecond behind it; before it they pass with the first tile's.
template <class V>
struct RoutedRows {
  static constexpr int kEach = (V::kTileM + V::kThreads - 1) / V::kThreads;
  RoutedRow mine[kEach];

  // slots: of the tile's rows, `rows` of them exist.
  CUTE_DEVICE void find(int const* slots, int rows) {
    CUTE_UNROLL
    for (int i = 0; i < kEach; ++i) {
      int const row = threadIdx.x + i * V::kThreads;
      mine[i].slot = row < min(rows, V::kTileM) ? slots[row] : -1;
    }
  }

  // weights: [tokens * top_k], of all slots.
  CUTE_DEVICE void weigh(float const* weights) {
    CUTE_UNROLL
    for (int i = 0; i < kEach; ++i)
      mine[i].weight = mine[i].slot < 0 ? 0.0f : weights[mine[i].slot];
  }

  // table: kTileM rows in shared memory.
  CUTE_DEVICE void share(RoutedRow* table) const {
    CUTE_UNROLL
    for (int i = 0; i < kEach; ++i) {
      int const row = threadIdx.x + i * V::kThreads;
      if (V::kTileM % V::kThreads == 0 || row < V::kTileM) table[row] = mine[i];
    }
  }
};

}  // namespace light_moe
