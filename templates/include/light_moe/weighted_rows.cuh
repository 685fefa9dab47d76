// Accumulators times their rows' weights: in fp16 to where each row's slot is, or onto fp32 sums.
#pragma once

#include <light_moe/epilogue.cuh>
#include <light_moe/routed_rows.cuh>
#include <light_moe/warp.cuh>

namespace light_moe {

CUTE_DEVICE uint32_t weighted(float low, float low_weight, float high, float high_weight) {
  return pack(saturated(low * low_weight), saturated(high * high_weight));
}

// red.global.add.f32 (PTX ISA, "red"): an addition in L2 that nothing waits for.
CUTE_DEVICE void add_to(float* sum, float value) {
  asm volatile("red.global.add.f32 [%0], %1;" ::"l"(__cvta_generic_to_global(sum)), "f"(value)
               : "memory");
}

// Four lanes hold one pair each of a row in each of four 8x8 blocks. They trade them, so that lane
// q of the four ends up with the whole row in block q: 16 bytes instead of four times 4.
CUTE_DEVICE uint4 whole_row(uint32_t (&pairs)[4]) {
  CUTE_UNROLL
  for (int step = 1; step < 4; step *= 2) {
    bool const upper = threadIdx.x & step;
    CUTE_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (i & step) continue;
      uint32_t &low = pairs[i], &high = pairs[i + step];
      uint32_t const got = __shfl_xor_sync(kFullWarp, upper ? low : high, step);
      if (upper) {
        low = got;
      } else {
        high = got;
      }
    }
  }
  return {pairs[0], pairs[1], pairs[2], pairs[3]};
}

// A warp's part of a tile, in 8x8 blocks of rows (tokens) and columns, numbered along the columns
// first. A lane has row lane / 4 and two neighbouring columns of each. V::kN is C's width as well:
// what is combined is not gated.
template <class V>
struct WeightedRows {
  static constexpr int kAcross = V::kSwap ? V::X::kBlocks : V::Y::kBlocks;
  static constexpr int kBlocks = V::X::kBlocks * V::Y::kBlocks;
  static constexpr int kAtOnce = 4;

  RoutedRow const* table;  // the tile's rows, in shared memory
  half_t* parts;           // the tile's first column in slot 0
  int columns;             // from there on

  // Rows on the 16-wide axis: the accumulators are such blocks already.
  CUTE_DEVICE void store_rows(Accumulator<V> const& acc) const {
    int const row = typename V::CX{}(int(threadIdx.x));
    int const column = typename V::CY{}(int(threadIdx.x)) - threadIdx.x % 4 * 2;
    CUTE_UNROLL
    for (int first = 0; first < kBlocks; first += kAtOnce) {
      uint32_t pairs[kAtOnce] = {};
      CUTE_UNROLL
      for (int block = first; block < min(first + kAtOnce, kBlocks); ++block) {
        int const down = block / kAcross, x = down / 2, half = down % 2, y = block % kAcross;
        float const weight = table[row + 8 * down].weight;
        pairs[block - first] = weighted(acc.total(2 * half, x, y), weight,
                                        acc.total(2 * half + 1, x, y), weight);
      }
      store(pairs, first, row, column);
    }
  }

  // Rows on the 8-wide axis: each block goes through shared memory and is transposed by ldmatrix,
  // as in write_columns.
  CUTE_DEVICE void store_columns(Accumulator<V> const& acc, half_t* scratch) const {
    constexpr int kWidth = kBlocks % 4 == 0 ? 4 : 2;
    using Op = conditional_t<kWidth == 4, SM75_U16x8_LDSM_T, SM75_U16x4_LDSM_T>;
    int const lane = threadIdx.x % 32;
    int const low = typename V::CY{}(int(threadIdx.x));  // the lower of this lane's two rows
    half_t* mine = scratch + threadIdx.x / 32 * kBlocks * 64;
    CUTE_UNROLL
    for (int block = 0; block < kBlocks; ++block) {
      int const x = block % kAcross / 2, half = block % 2, y = block / kAcross;
      RoutedRow const* pair = table + low + 8 * y;
      *reinterpret_cast<uint32_t*>(mine + block * 64 + 2 * lane) =
          weighted(acc.total(2 * half, x, y), pair[0].weight, acc.total(2 * half + 1, x, y),
                   pair[1].weight);
    }
    __syncwarp();
    int const row = low - 2 * (lane % 4) + lane / 4;
    int const column = typename V::CX{}(int(threadIdx.x)) - lane / 4;
    Copy_Atom<Op, half_t> ldmatrix;
    CUTE_UNROLL
    for (int first = 0; first < kBlocks; first += kWidth) {
      Tensor loaded = make_tensor<half_t>(Layout<Int<2 * kWidth>>{});
      half_t const* address = mine + first * 64 + lane % (8 * kWidth) * 8;
      ldmatrix.call(make_tensor(make_smem_ptr(address), Layout<_8>{}), loaded);
      uint32_t pairs[kAtOnce] = {};
      CUTE_UNROLL
      for (int i = 0; i < kWidth; ++i) pairs[i] = *reinterpret_cast<uint32_t*>(&loaded(2 * i));
      store(pairs, first, row, column);
    }
  }

  // Blocks `first` and the next three; row: this lane's in block 0, column: the warp's first.
  CUTE_DEVICE void store(uint32_t (&pairs)[kAtOnce], int first, int row, int column) const {
    uint4 const whole = whole_row(pairs);
    int const block = first + threadIdx.x % 4;
    if (kBlocks % kAtOnce != 0 && block >= kBlocks) return;
    int const slot = table[row + block / kAcross * 8].slot, n = column + block % kAcross * 8;
    if (slot >= 0 && (V::kN % V::kTileN == 0 || n < columns))
      __stcg(reinterpret_cast<uint4*>(parts + size_t(slot) * V::kN + n), whole);
  }

  // Onto the fp32 sums of each row's token; sums_of(token): at the tile's first column.
  template <class Sums>
  CUTE_DEVICE void add(Accumulator<V> const& acc, int top_k, Sums const& sums_of) const {
    constexpr int kX = V::X::kBlocks, kY = 2 * V::Y::kBlocks;  // a thread's elements along each
    int const first_x = typename V::CX{}(int(threadIdx.x));
    int const first_y = typename V::CY{}(int(threadIdx.x));
    CUTE_UNROLL
    for (int down = 0; down < (V::kSwap ? kY : kX); ++down) {
      RoutedRow const row =
          table[V::kSwap ? first_y + down / 2 * 8 + down % 2 : first_x + 8 * down];
      if (row.slot < 0) continue;
      float* sums = sums_of(row.slot / top_k);
      CUTE_UNROLL
      for (int across = 0; across < (V::kSwap ? kX : kY); ++across) {
        int const x = V::kSwap ? across : down, y = V::kSwap ? down : across;
        int const n = V::kSwap ? first_x + 8 * x : first_y + y / 2 * 8 + y % 2;
        if (V::kN % V::kTileN == 0 || n < columns)
          add_to(sums + n, acc.total(x % 2 * 2 + y % 2, x / 2, y / 2) * row.weight);
      }
    }
  }
};

}  // namespace light_moe
