// A token's rows become one of C. Each is multiplied by its routing weight and left in the token's
// slot; who finishes the last of them for an n-tile sums that part of the token, slot 0 first. No
// CTA waits for another. Equal inputs give equal bits, unless fp32 sums are added up atomically.
#pragma once

#include <light_moe/reduction.cuh>
#include <light_moe/weighted_rows.cuh>

namespace light_moe {

enum class Combine {
  kNone,     // rows of C stay apart
  kOrdered,  // fp16 rows, summed in order by the last CTA
  kAtomic,   // fp32 sums, in any order
  kReduce,   // fp16 rows, summed in order by a pass of its own
};

// A token has a counter for each n-tile, and behind these its fp32 sums where they are added up
// atomically. All of it is zero before and after.
template <class V>
struct TokenCounters {
  static constexpr int kTilesN = (V::kN + V::kTileN - 1) / V::kTileN;
  static constexpr int kSums = (kTilesN + 3) / 4 * 4;  // sums are read 16 bytes at a time
  static constexpr int kStride = V::kCombine == Combine::kAtomic ? kSums + V::kN : kTilesN;

  int* first;

  CUTE_DEVICE int* arrivals(int token) const { return first + size_t(token) * kStride; }
  CUTE_DEVICE float* sums(int token) const {
    return reinterpret_cast<float*>(arrivals(token) + kSums);
  }
};

CUTE_DEVICE uint4 packed(float const (&sums)[8]) {
  auto const pair = [&](int i) { return pack(saturated(sums[i]), saturated(sums[i + 1])); };
  return {pair(0), pair(2), pair(4), pair(6)};
}

// Eight columns of C from those of the token's slots. parts: the first slot's, c: where they go.
template <class V>
CUTE_DEVICE void sum_parts(half_t const* parts, int top_k, half_t* c) {
  constexpr int kAtOnce = 8;  // loads in flight: most models have no more slots
  float sums[8] = {};
  for (int done = 0; done < top_k; done += kAtOnce) {
    uint4 loaded[kAtOnce];
    CUTE_UNROLL
    for (int i = 0; i < kAtOnce; ++i) {
      if (done + i < top_k)
        loaded[i] = __ldcg(reinterpret_cast<uint4 const*>(parts + size_t(done + i) * V::kN));
    }
    CUTE_UNROLL
    for (int i = 0; i < kAtOnce; ++i) {
      if (done + i >= top_k) break;
      half_t const* columns = reinterpret_cast<half_t const*>(&loaded[i]);
      CUTE_UNROLL
      for (int column = 0; column < 8; ++column) sums[column] += float(columns[column]);
    }
  }
  __stcg(reinterpret_cast<uint4*>(c), packed(sums));
}

// Eight columns of C from their fp32 sums, which are zero afterwards.
CUTE_DEVICE void round_sums(float* sums, half_t* c) {
  float4 *low = reinterpret_cast<float4*>(sums), *high = low + 1;
  float4 const a = __ldcg(low), b = __ldcg(high);
  *low = *high = float4{};
  __stcg(reinterpret_cast<uint4*>(c), packed({a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}));
}

// After all threads stored their part of the tile. Rows are dealt out to the warps; a warp then
// finishes the tokens of which it counted the last row, 16 bytes a lane.
// finish(token, n): columns n to n + 7 of the tile.
template <class V, class Finish>
CUTE_DEVICE void count_rows(RoutedRow* table, TokenCounters<V> counters, int n_tile, int columns,
                            int top_k, Finish const& finish) {
  constexpr int kWarps = V::kThreads / 32, kChunks = V::kTileN / 8;
  int const lane = threadIdx.x % 32;
  __syncthreads();
  __threadfence();
  for (int first = threadIdx.x / 32; first < V::kTileM; first += V::kThreads) {
    int const row = first + lane * kWarps;
    int const slot = row < V::kTileM ? table[row].slot : -1;
    int const token = slot / top_k;
    int* counter = counters.arrivals(token) + n_tile;
    bool const last = slot >= 0 && atomicAdd(counter, 1) == top_k - 1;
    unsigned const complete = __ballot_sync(kFullWarp, last);
    if (complete == 0) continue;
    __threadfence();
    __syncwarp();
    if (last) {
      *counter = 0;
      // The warp's own rows have been read: their places take the tokens, one after another.
      table[first + __popc(complete & ((1u << lane) - 1)) * kWarps].slot = token;
    }
    __syncwarp();
    for (int i = lane; i < __popc(complete) * kChunks; i += 32) {
      int const n = i % kChunks * 8, done = table[first + i / kChunks * kWarps].slot;
      if (V::kN % V::kTileN == 0 || n < columns) finish(done, n);
    }
    __syncwarp();
  }
}

// table: kTileM rows in shared memory, and scratch for the tile in fp16 before them with kSwap;
// n_tile and columns: the tile's place and width in C; parts: [tokens * top_k, kN].
template <class V>
CUTE_DEVICE void combine(Accumulator<V> const& acc, RoutedRow* table, half_t* scratch, int n_tile,
                         int columns, int top_k, half_t* parts, TokenCounters<V> counters,
                         half_t* c) {
  int const n = n_tile * V::kTileN;
  WeightedRows<V> const rows{table, parts + n, columns};
  if (threadIdx.x < kOutThreads<V>) {
    if constexpr (V::kCombine == Combine::kAtomic) {
      rows.add(acc, top_k, [&](int token) { return counters.sums(token) + n; });
    } else if constexpr (V::kSwap) {
      rows.store_columns(acc, scratch);
    } else {
      rows.store_rows(acc);
    }
  }
  if constexpr (V::kCombine != Combine::kReduce) {
    count_rows<V>(table, counters, n_tile, columns, top_k, [&](int token, int within) {
      half_t* out = c + size_t(token) * V::kN + n + within;
      if constexpr (V::kCombine == Combine::kAtomic) {
        round_sums(counters.sums(token) + n + within, out);
      } else {
        sum_parts<V>(parts + size_t(token) * top_k * V::kN + n + within, top_k, out);
      }
    });
  }
}

// The pass of kReduce that sums: 16 bytes of C a thread.
template <class V>
CUTE_DEVICE void reduce_pass(half_t const* parts, int tokens, int top_k, half_t* c) {
  constexpr int kChunks = V::kN / 8;
  int const chunk = blockIdx.x * V::kThreads + threadIdx.x;
  int const token = chunk / kChunks, n = chunk % kChunks * 8;
  if (token < tokens)
    sum_parts<V>(parts + size_t(token) * top_k * V::kN + n, top_k, c + size_t(token) * V::kN + n);
}

}  // namespace light_moe
