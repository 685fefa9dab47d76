// Grouped GEMM for sm_75: C[r, :] = B[expert(r)] A[r, :] with rows sorted by expert; with kGather
// row r of A is that of its token, with a gated epilogue pairs of columns become one, with kCombine
// C has a row for each token, the weighted sum of its slots'.
//
// Every cute::Layout comes finished from the generator: nothing is partitioned here.
#pragma once

#include <light_moe/combine.cuh>
#include <light_moe/expert_tile.cuh>
#include <light_moe/fragment.cuh>
#include <light_moe/staged_tile.cuh>

namespace light_moe {

struct GroupedGemmArgs {
  half_t const* a;    // [rows, K], or [tokens, K] with kGather
  half_t const* b;    // [experts, N, K]
  half_t* c;          // [rows, kOutN], or [tokens, kOutN] with kCombine
  int const* offsets; // [experts + 1], ascending, first 0
  int const* rows;    // [rows], the token that each reads; null without kGather
  int const* slots;   // [rows], token * top_k + j of each; null without kCombine, as are
  float const* weights; // [tokens * top_k], of the slots
  float* workspace;   // split-K partial sums, then weighted rows by slot
  int* counters;      // one a tile where K is split, then TokenCounters; zero before and after
  int experts;
  int m_tiles;        // upper bound of the tiles over all experts
  int group_m;        // m-tiles that share a sweep over n, so that weights stay in L2
  int split_k;
  int top_k;
  int pass;           // 1: the second launch of Combine::kReduce

  CUTE_DEVICE size_t split_tiles(int tiles_n) const {
    return split_k > 1 ? size_t(m_tiles) * tiles_n : 0;
  }
  template <class V>
  CUTE_DEVICE half_t* parts() const {
    constexpr int kTilesN = TokenCounters<V>::kTilesN;
    return reinterpret_cast<half_t*>(
        workspace + split_tiles(kTilesN) * split_k * (V::kTileM * V::kTileN));
  }
  template <class V>
  CUTE_DEVICE TokenCounters<V> token_counters() const {
    return {counters + (split_tiles(TokenCounters<V>::kTilesN) + 3) / 4 * 4};
  }
};

// Position of this CTA's tile: m-tiles in groups of group_m, all n-tiles of a group in turn.
template <class V>
CUTE_DEVICE void raster(GroupedGemmArgs const& args, int& m_tile, int& n_tile) {
  constexpr int kTilesN = (V::kN + V::kTileN - 1) / V::kTileN;
  int const per_group = args.group_m * kTilesN;
  int const group = blockIdx.x / per_group, within = blockIdx.x % per_group;
  int const height = min(args.group_m, args.m_tiles - group * args.group_m);
  m_tile = group * args.group_m + within % height;
  n_tile = within / height;
}

// Shared memory is a ring of stages, each a tile of A followed by a tile of B. While stage k is
// multiplied, tile k + kStages - 1 leaves the staging registers for the ring and tile k + kStages
// is on its way into them. One barrier a k-tile.
template <class V>
struct Mainloop {
  static constexpr int kTileA = V::kTileM * V::kRowHalves, kTileB = V::kTileN * V::kRowHalves;
  static constexpr int kStage = kTileA + kTileB;

  StagedTile<V, V::kTileM, Cache::kAll, true, V::kGather> a;
  StagedTile<V, V::kTileN, V::kCache, V::kN % V::kTileN != 0> b;
  Fragment<V, typename V::X, 2> x;
  Fragment<V, typename V::Y, 1> y;
  half_t* ring;
  int slot;  // this thread's chunk of a staged pass, swizzled

  // a_tile: its first row, or the first of all with kGather; index: where its rows lie then.
  CUTE_DEVICE Mainloop(half_t const* a_tile, int const* index, int rows, half_t const* b_tile,
                       int columns, int first_k_tile, half_t* ring)
      : a(a_tile, min(rows, V::kTileM), first_k_tile),
        b(b_tile, min(columns, V::kTileN), first_k_tile),
        ring(ring),
        slot(typename V::Swz{}(typename V::Copy{}(int(threadIdx.x)))) {
    if constexpr (V::kGather) a.gather(index);
  }

  CUTE_DEVICE void fetch(bool more) {
    a.fetch(more);
    b.fetch(more);
  }
  CUTE_DEVICE void store(int stage) {
    a.store(ring + stage, slot);
    b.store(ring + stage + kTileA, slot);
  }
  CUTE_DEVICE void load(int stage, int step) {
    x.load(ring + stage + (V::kSwap ? kTileA : 0), step, step % V::kFragments);
    y.load(ring + stage + (V::kSwap ? 0 : kTileA), step, step % V::kFragments);
  }
  CUTE_DEVICE void multiply(Accumulator<V>& acc, int step, int tile) {
    acc.multiply(x.view(step % V::kFragments), y.view(step % V::kFragments));
    acc.after(step, tile);
  }

  CUTE_DEVICE static int next(int stage) {
    return stage == (V::kStages - 1) * kStage ? 0 : stage + kStage;
  }

  // meanwhile(): what can be asked for behind the first loads.
  template <class Meanwhile>
  CUTE_DEVICE void run(Accumulator<V>& acc, int tiles, Meanwhile const& meanwhile) {
    constexpr int kAhead = V::kStages - 1;  // tiles in the ring beyond the one being multiplied
    int read = 0, write = 0;
    CUTE_UNROLL
    for (int tile = 0; tile < kAhead; ++tile) {
      fetch(tile < tiles);
      if (tile == 0) meanwhile();
      store(write);
      write = next(write);
    }
    fetch(kAhead < tiles);
    __syncthreads();
    if constexpr (V::kFragments == 2) load(read, 0);
    for (int tile = 0; tile < tiles; ++tile) {
      CUTE_UNROLL
      for (int step = 0; step < V::kSteps; ++step) {
        if constexpr (V::kFragments == 1) load(read, step);
        if (step + 1 < V::kSteps) {
          if constexpr (V::kFragments == 2) load(read, step + 1);
        } else {
          // The stage written here was read one tile ago, before the last barrier. Beyond the last
          // tile, stale registers are stored and loaded again, but never multiplied: cheaper than
          // a branch.
          store(write);
          fetch(tile + kAhead + 1 < tiles);
          write = next(write);
          read = next(read);
          if constexpr (V::kFragments == 2) {
            __syncthreads();
            load(read, 0);
          }
        }
        multiply(acc, step, tile);
      }
      if constexpr (V::kFragments == 1) __syncthreads();
    }
  }

  // One stage: the tile in shared memory is multiplied while the next one is fetched.
  template <class Meanwhile>
  CUTE_DEVICE void run_single(Accumulator<V>& acc, int tiles, Meanwhile const& meanwhile) {
    fetch(true);
    meanwhile();
    for (int tile = 0; tile < tiles; ++tile) {
      store(0);
      __syncthreads();
      x.forget_addresses();
      y.forget_addresses();
      fetch(tile + 1 < tiles);
      if constexpr (V::kFragments == 2) load(0, 0);
      CUTE_UNROLL
      for (int step = 0; step < V::kSteps; ++step) {
        if constexpr (V::kFragments == 1) load(0, step);
        if (V::kFragments == 2 && step + 1 < V::kSteps) load(0, step + 1);
        multiply(acc, step, tile);
      }
      __syncthreads();
    }
  }
};

template <class V>
CUTE_DEVICE void grouped_gemm(GroupedGemmArgs const& args) {
  extern __shared__ __align__(128) uint8_t shared[];
  constexpr int kTilesK = (V::kK + V::kTileK - 1) / V::kTileK;
  constexpr int kTilesN = (V::kN + V::kTileN - 1) / V::kTileN;
  constexpr bool kCombines = V::kCombine != Combine::kNone;
  if constexpr (V::kCombine == Combine::kReduce) {
    if (args.pass == 1) {
      int const tokens = args.offsets[args.experts] / args.top_k;
      return reduce_pass<V>(args.parts<V>(), tokens, args.top_k, args.c);
    }
  }
  int m_tile, n_tile;
  raster<V>(args, m_tile, n_tile);
  ExpertTile const tile = find_expert_tile(args.offsets, args.experts, m_tile, V::kTileM);
  if (tile.expert < 0) return;

  int const n = n_tile * V::kTileN, columns = V::kN - n;
  int const first = kTilesK * int(blockIdx.y) / args.split_k;
  int const last = kTilesK * int(blockIdx.y + 1) / args.split_k;
  RoutedRows<V> routed;
  if constexpr (kCombines) routed.find(args.slots + tile.row, tile.rows);
  auto const weigh = [&] {
    if constexpr (kCombines) routed.weigh(args.weights);
  };
  Accumulator<V> acc;
  Mainloop<V> loop(args.a + (V::kGather ? 0 : size_t(tile.row) * V::kK), args.rows + tile.row,
                   tile.rows,
                   args.b + (size_t(tile.expert) * V::kN + n) * V::kK, columns, first,
                   reinterpret_cast<half_t*>(shared));
  if constexpr (V::kStages == 1) {
    loop.run_single(acc, last - first, weigh);
  } else {
    loop.run(acc, last - first, weigh);
  }
  acc.finish();

  if constexpr (V::kWarpsK > 1) reduce_warps<V>(acc, reinterpret_cast<float*>(shared));
  if (args.split_k > 1) {
    int const index = m_tile * kTilesN + n_tile;
    __syncthreads();
    if (!reduce_splits<V>(acc, args.workspace, args.counters + index, index, args.split_k,
                          reinterpret_cast<int*>(shared)))
      return;
  }
  if constexpr (kCombines) {
    half_t* scratch = reinterpret_cast<half_t*>(shared);
    auto* table = reinterpret_cast<RoutedRow*>(scratch + (V::kSwap ? V::kTileM * V::kTileN : 0));
    __syncthreads();
    routed.share(table);
    __syncthreads();
    return combine<V>(acc, table, scratch, n_tile, columns, args.top_k, args.parts<V>(),
                      args.token_counters<V>(), args.c);
  }
  constexpr int kPerColumn = V::kN / V::kOutN;  // columns of the tile that make one of C
  half_t* c = args.c + size_t(tile.row) * V::kOutN + n / kPerColumn;
  int const out_columns = columns / kPerColumn;
  if constexpr (V::kSwap) {
    __syncthreads();
    if (threadIdx.x < kOutThreads<V>)
      write_columns<V>(acc, c, tile.rows, out_columns, reinterpret_cast<half_t*>(shared));
  } else if (threadIdx.x < kOutThreads<V>) {
    write_rows<V>(acc, c, tile.rows, out_columns);
  }
}

}  // namespace light_moe
