// Accumulators to C, row-major fp16 [T, N].
#pragma once

#include <light_moe/accumulator.cuh>

namespace light_moe {

CUTE_DEVICE uint32_t pack(float low, float high) {
  alignas(4) half_t pair[2] = {half_t(low), half_t(high)};
  return *reinterpret_cast<uint32_t*>(pair);
}

// Tokens on the 16-wide axis: a thread holds two neighbouring columns. c: the tile's first element.
template <class V>
CUTE_DEVICE void write_rows(Accumulator<V> const& acc, half_t* c, int rows, int columns) {
  int const row = typename V::CX{}(int(threadIdx.x)), column = typename V::CY{}(int(threadIdx.x));
  CUTE_UNROLL
  for (int x = 0; x < acc.kX; ++x) {
    CUTE_UNROLL
    for (int half = 0; half < 2; ++half) {
      int const m = row + 16 * x + 8 * half;
      if (m >= rows) continue;
      half_t* out = c + size_t(m) * V::kN + column;
      CUTE_UNROLL
      for (int y = 0; y < acc.kY; ++y) {
        if (V::kN % V::kTileN == 0 || column + 8 * y < columns)
          *reinterpret_cast<uint32_t*>(out + 8 * y) =
              pack(acc.total(2 * half, x, y), acc.total(2 * half + 1, x, y));
      }
    }
  }
}

// Tokens on the 8-wide axis: a thread holds two neighbouring tokens of one column. Each 8x8 block
// goes through shared memory and comes back transposed by ldmatrix.trans.
template <class V>
CUTE_DEVICE void write_columns(Accumulator<V> const& acc, half_t* c, int rows, int columns,
                               half_t* scratch) {
  constexpr int kBlocksX = V::X::kBlocks, kMatrices = kBlocksX * V::Y::kBlocks;
  constexpr int kWidth = kMatrices % 4 == 0 ? 4 : 2;
  using Op = conditional_t<kWidth == 4, SM75_U16x8_LDSM_T, SM75_U16x4_LDSM_T>;
  int const lane = threadIdx.x % 32;
  half_t* mine = scratch + threadIdx.x / 32 * kMatrices * 64;
  CUTE_UNROLL
  for (int x = 0; x < acc.kX; ++x) {
    CUTE_UNROLL
    for (int y = 0; y < acc.kY; ++y) {
      CUTE_UNROLL
      for (int half = 0; half < 2; ++half)
        *reinterpret_cast<uint32_t*>(mine + (2 * x + half + kBlocksX * y) * 64 + 2 * lane) =
            pack(acc.total(2 * half, x, y), acc.total(2 * half + 1, x, y));
    }
  }
  __syncwarp();
  int const column = typename V::CX{}(int(threadIdx.x)) - lane / 4 + 2 * (lane % 4);
  int const row = typename V::CY{}(int(threadIdx.x)) - 2 * (lane % 4) + lane / 4;
  Copy_Atom<Op, half_t> ldmatrix;
  CUTE_UNROLL
  for (int first = 0; first < kMatrices; first += kWidth) {
    Tensor pairs = make_tensor<half_t>(Layout<Int<2 * kWidth>>{});
    // lanes beyond 8 * kWidth are not read from; they point back into the same matrices
    half_t const* address = mine + first * 64 + lane % (8 * kWidth) * 8;
    ldmatrix.call(make_tensor(make_smem_ptr(address), Layout<_8>{}), pairs);
    CUTE_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      int const n = column + (first + i) % kBlocksX * 8, m = row + (first + i) / kBlocksX * 8;
      if (m < rows && (V::kN % V::kTileN == 0 || n < columns))
        *reinterpret_cast<uint32_t*>(c + size_t(m) * V::kN + n) =
            *reinterpret_cast<uint32_t*>(&pairs(2 * i));
    }
  }
}

}  // namespace light_moe
