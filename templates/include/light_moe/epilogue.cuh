// Accumulators to C, row-major fp16 [rows, kOutN]: as they are, or gate and up columns joined.
#pragma once

#include <light_moe/accumulator.cuh>
#include <light_moe/activation.cuh>

namespace light_moe {

CUTE_DEVICE uint32_t pack(float low, float high) {
  alignas(4) half_t pair[2] = {half_t(low), half_t(high)};
  return *reinterpret_cast<uint32_t*>(pair);
}

// Which part of a warp's blocks becomes C. Gate and up columns alternate in blocks of 8: they are
// neighbouring 8-wide blocks (Y), or the halves of a 16-wide one (X), so a thread holds both.
template <class V>
struct Output {
  static constexpr bool kGated = V::kEpilogue != Epilogue::kPlain;
  static constexpr int kHalves = kGated && V::kSwap ? 1 : 2;  // blocks of 8 in one along X
  static constexpr int kX = V::X::kBlocks / 2 * kHalves;
  static constexpr int kY = V::Y::kBlocks / (kGated && !V::kSwap ? 2 : 1);

  // Column of C for one of N, both counted from the start of a tile; `within` its block of 8.
  CUTE_DEVICE static int column(int n, int within) {
    return kGated ? (n - within) / 2 + within : n;
  }

  // Two neighbouring elements of output block (kHalves * x + half, y).
  CUTE_DEVICE static uint32_t pair(Accumulator<V> const& acc, int half, int x, int y) {
    if constexpr (!kGated) {
      return pack(acc.total(2 * half, x, y), acc.total(2 * half + 1, x, y));
    } else if constexpr (V::kSwap) {
      return pack(gated<V::kEpilogue>(acc.total(0, x, y), acc.total(2, x, y)),
                  gated<V::kEpilogue>(acc.total(1, x, y), acc.total(3, x, y)));
    } else {
      int const low = 2 * half, high = low + 1, up = 2 * y + 1;
      return pack(gated<V::kEpilogue>(acc.total(low, x, 2 * y), acc.total(low, x, up)),
                  gated<V::kEpilogue>(acc.total(high, x, 2 * y), acc.total(high, x, up)));
    }
  }
};

// Tokens on the 16-wide axis: a thread holds two neighbouring columns. c: the tile's first element;
// columns: of C from there on.
template <class V>
CUTE_DEVICE void write_rows(Accumulator<V> const& acc, half_t* c, int rows, int columns) {
  using Out = Output<V>;
  int const row = typename V::CX{}(int(threadIdx.x));
  int const column = Out::column(typename V::CY{}(int(threadIdx.x)), threadIdx.x % 4 * 2);
  CUTE_UNROLL
  for (int x = 0; x < acc.kX; ++x) {
    CUTE_UNROLL
    for (int half = 0; half < 2; ++half) {
      int const m = row + 16 * x + 8 * half;
      if (m >= rows) continue;
      half_t* out = c + size_t(m) * V::kOutN + column;
      CUTE_UNROLL
      for (int y = 0; y < Out::kY; ++y) {
        if (V::kN % V::kTileN == 0 || column + 8 * y < columns)
          *reinterpret_cast<uint32_t*>(out + 8 * y) = Out::pair(acc, half, x, y);
      }
    }
  }
}

// Tokens on the 8-wide axis: a thread holds two neighbouring tokens of one column. Each 8x8 block
// goes through shared memory and comes back transposed by ldmatrix.trans.
template <class V>
CUTE_DEVICE void write_columns(Accumulator<V> const& acc, half_t* c, int rows, int columns,
                               half_t* scratch) {
  using Out = Output<V>;
  constexpr int kBlocksX = Out::kX, kMatrices = kBlocksX * Out::kY;
  constexpr int kWidth = kMatrices % 4 == 0 ? 4 : kMatrices % 2 == 0 ? 2 : 1;
  using Op = conditional_t<kWidth == 4, SM75_U16x8_LDSM_T,
                           conditional_t<kWidth == 2, SM75_U16x4_LDSM_T, SM75_U16x2_LDSM_T>>;
  int const lane = threadIdx.x % 32;
  half_t* mine = scratch + threadIdx.x / 32 * kMatrices * 64;
  CUTE_UNROLL
  for (int x = 0; x < acc.kX; ++x) {
    CUTE_UNROLL
    for (int y = 0; y < acc.kY; ++y) {
      CUTE_UNROLL
      for (int half = 0; half < Out::kHalves; ++half)
        *reinterpret_cast<uint32_t*>(mine + (Out::kHalves * x + half + kBlocksX * y) * 64 +
                                     2 * lane) = Out::pair(acc, half, x, y);
    }
  }
  __syncwarp();
  int const block = typename V::CX{}(int(threadIdx.x)) - lane / 4;  // the warp's first column
  int const column = Out::column(block, 0) + 2 * (lane % 4);
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
        *reinterpret_cast<uint32_t*>(c + size_t(m) * V::kOutN + n) =
            *reinterpret_cast<uint32_t*>(&pairs(2 * i));
    }
  }
}

}  // namespace light_moe
