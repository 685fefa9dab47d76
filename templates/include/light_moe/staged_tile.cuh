// One operand's tile on its way from global memory through registers into shared memory.
// sm_75 has no cp.async: a tile is held in registers while the previous one is multiplied.
#pragma once

#include <light_moe/cached_load.cuh>

namespace light_moe {

using namespace cute;

// V: the variant. kRows: rows of the operand's tile. kRagged: some rows may not exist. kGather: they
// lie anywhere, found by an index that is read once. A row's number is kept, not its address: one
// 32-bit register a pass, and one multiply-add a load.
template <class V, int kRows, Cache kCache, bool kRagged, bool kGather = false>
struct StagedTile {
  static constexpr int kPassRows = V::kPassRows;
  static constexpr int kPasses = (kRows + kPassRows - 1) / kPassRows;
  static constexpr bool kFewRows = kPassRows > kRows;  // a pass covers more rows than there are
  static constexpr bool kTailK = V::kK % V::kTileK != 0;
  using Staged = Layout<Shape<_8, Int<kPasses>>, Stride<_1, _8>>;

  decltype(make_tensor<half_t>(Staged{})) staged = make_tensor<half_t>(Staged{});
  half_t const* source;  // this thread's chunk of the next k-tile, pass 0
  int column;            // its first k, counted from the start of the row
  int row;               // its row in pass 0
  int rows;              // rows that exist
  unsigned numbers[kGather ? kPasses : 1];  // of the rows gathered from `source`, one a pass

  // origin: first row of the tile, [rows, K] row-major. Rows that do not exist stay zero for good.
  CUTE_DEVICE StagedTile(half_t const* origin, int rows, int first_k_tile)
      : column(threadIdx.x % (V::kTileK / 8) * 8 + first_k_tile * V::kTileK),
        row(threadIdx.x / (V::kTileK / 8)),
        rows(rows) {
    source = origin + size_t(row) * V::kK + column;
    clear(staged);
  }

  // Before the first fetch: row r of the tile is row index[r] from the origin on.
  CUTE_DEVICE void gather(int const* index) {
    source -= size_t(row) * V::kK;
    CUTE_UNROLL
    for (int pass = 0; pass < kPasses; ++pass)
      numbers[pass] = exists(pass) ? index[row + pass * kPassRows] : 0;
  }

  // volatile: hoisted out of the main loop, the products would take two registers a pass.
  CUTE_DEVICE half_t const* gathered(int pass) const {
    half_t const* chunk;
    asm volatile("mad.wide.u32 %0, %1, %2, %3;"
                 : "=l"(chunk)
                 : "r"(numbers[pass]), "n"(2 * V::kK), "l"(source));
    return chunk;
  }

  CUTE_DEVICE bool exists(int pass) const {
    return !(kRagged || kFewRows) || row + pass * kPassRows < rows;
  }

  // Issues the loads of the next k-tile, if there is one; nothing waits for them here.
  CUTE_DEVICE void fetch(bool more) {
    bool const inside = !kTailK || column < V::kK;
    CUTE_UNROLL
    for (int pass = 0; pass < kPasses; ++pass) {
      auto& chunk = reinterpret_cast<uint128_t&>(staged(0, pass));
      if constexpr (kTailK) {
        if (!inside) chunk = uint128_t(0);
      }
      if constexpr (kGather) {
        load_if<kCache>(more && inside && exists(pass), gathered(pass), chunk);
      } else {
        // K is a constant, so that the rows of all passes are immediates of one address
        load_if<kCache>(more && inside && exists(pass), source + pass * kPassRows * V::kK, chunk);
      }
    }
    source += V::kTileK;
    if constexpr (kTailK) column += V::kTileK;
  }

  // tile: the operand's tile in one stage; slot: this thread's swizzled chunk of pass 0.
  CUTE_DEVICE void store(half_t* tile, int slot) {
    Copy_Atom<UniversalCopy<uint128_t>, half_t> copy;
    if (kFewRows && row >= kRows) return;
    CUTE_UNROLL
    for (int pass = 0; pass < kPasses; ++pass) {
      copy.call(staged(_, pass),
                make_tensor(make_smem_ptr(tile + slot + pass * kPassRows * V::kRowHalves),
                            Layout<_8>{}));
    }
  }
};

}  // namespace light_moe
