// Slots sorted by expert: a stable counting sort (Knuth, TAOCP 3, 5.2, algorithm D), so the order
// follows from the ids alone and equal inputs give equal bits.
//
// Slots are cut into chunks of kChunk. count_chunk makes a chunk's histogram, place_chunk sums
// those of all chunks: the experts' first rows are a prefix sum over experts, what the chunks
// before have of an expert comes on top. Within a chunk each warp owns a share of consecutive slots
// and ranks them 32 at a time by match.any (PTX ISA, "match.sync"; sm_70): lanes of one expert see
// each other, the lower ones come first. Counters belong to a warp, so that warps rank side by side
// without atomics; one prefix sum over warps brings them together.
//
// Chunks may be any partition: of one launch, of CTAs before a fence, of one CTA before a barrier.
// All threads of a CTA, kThreads in x, call these functions; between two calls the caller places a
// barrier. What other CTAs counted must be visible, as after a launch or __threadfence on both
// sides.
#pragma once

#include <light_moe/warp.cuh>

namespace light_moe {

struct PermuteArgs {
  int const* ids;   // [count], expert of each slot, skipped outside 0..experts - 1
  int* offsets;     // [experts + 1], first row of each expert, then the number of rows
  int* rows;        // [count], token of each row; beyond offsets[experts] unwritten, as in slots
  int* slots;       // [count], slot of each row
  int* inverse;     // [count], row of each slot, -1 where it is skipped
  int* histograms;  // [chunks, padded_experts(experts)], 16-byte aligned
  int count;        // slots in all
  int per_token;    // slots of a token
  int experts;
  int chunks;       // ceil(count / kChunk), at least 1

  // What a slot says, and which expert that means. An op with other ids of its own hides these.
  CUTE_DEVICE int load(int slot) const { return __ldcg(ids + slot); }
  CUTE_DEVICE int expert(int slot, int id) const { return id; }
};

// Histograms are read four experts at a time.
constexpr int padded_experts(int experts) { return (experts + 3) / 4 * 4; }

// Shared memory, in int: the block's sums, where experts' rows end, two 16-bit counters an int.
constexpr int permute_shared(int experts, int threads) {
  return 32 + padded_experts(experts) * (2 + threads / 32) / 2;
}

template <int kThreads>
struct PermuteShared {
  static constexpr int kWarps = kThreads / 32;
  static_assert(kThreads % 64 == 0 && kThreads <= 1024, "totals lie in the counters of two warps");

  int experts;     // padded
  int* sums;       // [kWarps]
  int* ends;       // [experts]: where their rows end, of the chunks up to the current one
  unsigned* pairs; // [kWarps, experts / 2]: counters of two experts, expert 2 i in the lower half
  int* totals;     // [experts]: of all chunks, in the place of the counters

  CUTE_DEVICE PermuteShared(int experts, int* shared)
      : experts(padded_experts(experts)),
        sums(shared),
        ends(shared + 32),
        pairs(reinterpret_cast<unsigned*>(ends + this->experts)),
        totals(ends + this->experts) {}

  CUTE_DEVICE unsigned* pairs_of(int warp) const { return pairs + warp * (experts / 2); }
  CUTE_DEVICE uint16_t* counters() const {
    return reinterpret_cast<uint16_t*>(pairs_of(threadIdx.x / 32));
  }
};

// A warp's share of a chunk in registers: lane l has slots l, 32 + l, ... of it.
template <int kThreads, int kChunk>
struct Share {
  static constexpr int kBatches = (kChunk + kThreads - 1) / kThreads;
  static_assert(kChunk < 65536, "counters have 16 bits");

  int first;          // this lane's first slot
  int end;            // of the chunk
  int batches;        // of 32 slots, equally many in all warps
  int ids[kBatches];  // of experts, -1: no row
  int ranks[kBatches];

  // Three loops: all ids are on their way before the first is waited for, and so is what an op
  // looks up for them.
  template <class Args>
  CUTE_DEVICE Share(Args const& args, int chunk) {
    int const begin = chunk * kChunk;
    end = min(begin + kChunk, args.count);
    batches = (end - begin + kThreads - 1) / kThreads;
    first = begin + threadIdx.x / 32 * batches * 32 + threadIdx.x % 32;
    CUTE_UNROLL
    for (int i = 0; i < kBatches; ++i) ids[i] = holds(i) ? args.load(slot(i)) : -1;
    CUTE_UNROLL
    for (int i = 0; i < kBatches; ++i) ids[i] = args.expert(slot(i), ids[i]);
    CUTE_UNROLL
    for (int i = 0; i < kBatches; ++i)
      ids[i] = unsigned(ids[i]) < unsigned(args.experts) ? ids[i] : -1;
  }

  CUTE_DEVICE int slot(int i) const { return first + 32 * i; }
  CUTE_DEVICE bool holds(int i) const { return i < batches && slot(i) < end; }

  // Counts this warp's slots by expert, and ranks each among those of its expert.
  CUTE_DEVICE void rank(PermuteShared<kThreads> const& shared) {
    unsigned* const pairs = shared.pairs_of(threadIdx.x / 32);
    uint16_t* const counters = shared.counters();
    for (int i = threadIdx.x % 32; i < shared.experts / 2; i += 32) pairs[i] = 0;
    __syncwarp();
    unsigned const lower = (1u << threadIdx.x % 32) - 1;
    CUTE_UNROLL
    for (int i = 0; i < kBatches; ++i) {
      if (i >= batches) break;
      unsigned const same = __match_any_sync(kFullWarp, ids[i]);
      int const before = ids[i] < 0 ? 0 : counters[ids[i]];
      ranks[i] = before + __popc(same & lower);
      __syncwarp();
      if (ids[i] >= 0 && (same & lower) == 0) counters[ids[i]] = before + __popc(same);
      __syncwarp();
    }
  }

  // After add_chunk and a barrier: each slot's row.
  CUTE_DEVICE void write(PermuteArgs const& args, PermuteShared<kThreads> const& shared) const {
    uint16_t const* const counters = shared.counters();
    CUTE_UNROLL
    for (int i = 0; i < kBatches; ++i) {
      if (!holds(i)) break;
      int row = -1;
      if (ids[i] >= 0) {
        row = shared.ends[ids[i]] - counters[ids[i]] + ranks[i];
        args.rows[row] = unsigned(slot(i)) / unsigned(args.per_token);
        args.slots[row] = slot(i);
      }
      args.inverse[slot(i)] = row;
    }
  }
};

// Warps' counters become the counts of this warp and all behind it in the chunk, so that
// end - counter is where a warp's rows begin; `ends` moves on by the chunk. Two experts at once:
// no half exceeds kChunk.
template <int kThreads>
CUTE_DEVICE void add_chunk(PermuteShared<kThreads> const& shared) {
  for (int i = threadIdx.x; i < shared.experts / 2; i += kThreads) {
    unsigned sum = 0;
    CUTE_UNROLL
    for (int warp = shared.kWarps - 1; warp >= 0; --warp) {
      sum += shared.pairs_of(warp)[i];
      shared.pairs_of(warp)[i] = sum;
    }
    shared.ends[2 * i] += sum & 0xffff;
    shared.ends[2 * i + 1] += sum >> 16;
  }
}

template <int kThreads, int kChunk>
CUTE_DEVICE void place_share(Share<kThreads, kChunk>& share, PermuteArgs const& args,
                             PermuteShared<kThreads> const& shared) {
  share.rank(shared);
  __syncthreads();
  add_chunk(shared);
  __syncthreads();
  share.write(args, shared);
}

// totals = rows of each expert in all chunks, ends = in those before `chunk`. Four experts a
// thread; threads left over share the chunks.
template <int kThreads>
CUTE_DEVICE void sum_histograms(PermuteArgs const& args, int chunk,
                                PermuteShared<kThreads> const& shared) {
  for (int i = threadIdx.x; i < shared.experts; i += kThreads) {
    shared.totals[i] = 0;
    shared.ends[i] = 0;
  }
  __syncthreads();
  int const columns = shared.experts / 4, step = max(kThreads / columns, 1);
  int const first = threadIdx.x / columns;  // chunk that this thread begins with
  if (first >= min(step, args.chunks)) return;
  for (int column = threadIdx.x % columns; column < columns; column += kThreads) {
    int total[4] = {}, before[4] = {};
    int4 const* const four = reinterpret_cast<int4 const*>(args.histograms) + column;
#pragma unroll 4
    for (int i = first; i < args.chunks; i += step) {
      int4 const counts = __ldcg(four + i * columns);
      int const rows[4] = {counts.x, counts.y, counts.z, counts.w};
      CUTE_UNROLL
      for (int j = 0; j < 4; ++j) {
        total[j] += rows[j];
        before[j] += i < chunk ? rows[j] : 0;
      }
    }
    CUTE_UNROLL
    for (int j = 0; j < 4; ++j) {
      atomicAdd(&shared.totals[4 * column + j], total[j]);
      atomicAdd(&shared.ends[4 * column + j], before[j]);
    }
  }
}

// Adds to `ends` where each expert's rows begin, from `totals` (which `ends` itself may be).
template <int kThreads>
CUTE_DEVICE void begin_experts(PermuteArgs const& args, int const* totals, bool writes,
                               PermuteShared<kThreads> const& shared) {
  int const warp = threadIdx.x / 32;
  // an odd number of consecutive experts a thread, so that a warp's 32 lie in 32 banks
  int const each = (args.experts + kThreads - 1) / kThreads | 1;
  int const first = min(int(threadIdx.x) * each, args.experts);
  int const last = min(first + each, args.experts);
  int sum = 0;
  for (int expert = first; expert < last; ++expert) sum += totals[expert];
  int const upto = inclusive_sum(sum);
  if (threadIdx.x % 32 == 31) shared.sums[warp] = upto;
  __syncthreads();
  int row = upto - sum;
  CUTE_UNROLL
  for (int below = 0; below < shared.kWarps - 1; ++below)
    row += below < warp ? shared.sums[below] : 0;
  if (writes && threadIdx.x == 0) args.offsets[0] = 0;
  for (int expert = first; expert < last; ++expert) {
    int const total = totals[expert];
    shared.ends[expert] += row;
    row += total;
    if (writes) args.offsets[expert + 1] = row;
  }
}

// histograms[chunk], padding included. shared: permute_shared(experts, kThreads) ints, as below.
template <int kThreads, int kChunk, class Args>
CUTE_DEVICE void count_chunk(Args const& args, int chunk, int* shared) {
  int const experts = padded_experts(args.experts);
  Share<kThreads, kChunk> const share(args, chunk);
  for (int i = threadIdx.x; i < experts; i += kThreads) shared[i] = 0;
  __syncthreads();
  CUTE_UNROLL
  for (int i = 0; i < share.kBatches; ++i) {
    if (share.ids[i] >= 0) atomicAdd(&shared[share.ids[i]], 1);
  }
  __syncthreads();
  int* const histogram = args.histograms + size_t(chunk) * experts;
  for (int i = threadIdx.x; i < experts; i += kThreads) histogram[i] = shared[i];
}

// Rows, slots and inverse of a chunk, after all are counted; chunk 0 writes the offsets.
template <int kThreads, int kChunk, class Args>
CUTE_DEVICE void place_chunk(Args const& args, int chunk, int* memory) {
  PermuteShared<kThreads> const shared(args.experts, memory);
  Share<kThreads, kChunk> share(args, chunk);
  sum_histograms(args, chunk, shared);
  __syncthreads();
  begin_experts(args, shared.totals, chunk == 0, shared);
  __syncthreads();
  place_share(share, args, shared);
}

// One chunk that is all there is, by one CTA. It need not have been counted: its ranks count it.
template <int kThreads, int kChunk, class Args>
CUTE_DEVICE void permute_chunk(Args const& args, int* memory) {
  PermuteShared<kThreads> const shared(args.experts, memory);
  Share<kThreads, kChunk> share(args, 0);
  for (int i = threadIdx.x; i < shared.experts; i += kThreads) shared.ends[i] = 0;
  share.rank(shared);
  __syncthreads();
  add_chunk(shared);
  __syncthreads();
  begin_experts(args, shared.ends, true, shared);
  __syncthreads();
  share.write(args, shared);
}

// All chunks by one CTA; a single one as by permute_chunk.
template <int kThreads, int kChunk, class Args>
CUTE_DEVICE void permute_alone(Args const& args, int* memory) {
  if (args.chunks == 1) return permute_chunk<kThreads, kChunk>(args, memory);
  PermuteShared<kThreads> const shared(args.experts, memory);
  sum_histograms(args, 0, shared);
  __syncthreads();
  begin_experts(args, shared.totals, true, shared);
  __syncthreads();
  for (int chunk = 0; chunk < args.chunks; ++chunk) {
    Share<kThreads, kChunk> share(args, chunk);
    place_share(share, args, shared);
    __syncwarp();  // its counters are read before they are cleared for the next chunk
  }
}

}  // namespace light_moe
