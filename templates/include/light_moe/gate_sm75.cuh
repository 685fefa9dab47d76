// Gate: hidden states or logits -> experts and weights of each token -> rows sorted by expert.
#pragma once

#include <light_moe/gate_arrival.cuh>
#include <light_moe/gate_choice.cuh>
#include <light_moe/gate_fma.cuh>
#include <light_moe/gate_mma.cuh>
#include <light_moe/permute.cuh>

namespace light_moe {

enum class Router { kNone, kFma, kMma };

struct GateArgs {
  void const* x;       // [tokens, H], or logits [tokens, E]
  void const* router;  // [E, H], with a shared gate one row more; null without a router
  float const* bias;   // [E] or null
  int* ids;            // [tokens, slots]
  float* weights;      // [tokens, slots]
  int* offsets;        // [all experts + 1]
  int* rows;           // [tokens * slots]
  int* slots;          // [tokens * slots]
  int* inverse;        // [tokens * slots]
  int* flag;           // bit 0: a NaN was among the logits
  int* workspace;      // histograms, then logits in parts
  int* counters;       // of tokens' blocks that are done, then of each block's parts
  int tokens;
  float scaling;       // of the chosen experts' weights
  int chunks;          // in which rows are sorted
  int pass;            // 0: choose, 1: sort
};

template <class V>
CUTE_DEVICE PermuteArgs permutation(GateArgs const& args) {
  return {args.ids,       args.offsets,           args.rows, args.slots,            args.inverse,
          args.workspace, args.tokens * V::kSlots, V::kSlots, V::kExperts + V::kShared, args.chunks};
}

// Logits in parts: [blocks][splits][kTileT][kStride], behind the histograms.
template <class V>
CUTE_DEVICE float* parts_of(GateArgs const& args, int splits) {
  size_t const histograms = size_t(args.chunks) * padded_experts(V::kExperts + V::kShared);
  return reinterpret_cast<float*>(args.workspace + histograms) +
         size_t(blockIdx.x) * splits * V::kTileT * V::kStride;
}

// This CTA's part of the logits of its tokens.
template <class V>
CUTE_DEVICE void compute_logits(GateArgs const& args, int tile, int split, int splits, float* out,
                                uint8_t* shared) {
  using Element = typename V::Element;
  int const token = blockIdx.x * V::kTileT, row = tile * V::kTileE;
  auto const x = static_cast<Element const*>(args.x) + size_t(token) * V::kHidden;
  auto const router = static_cast<Element const*>(args.router) + size_t(row) * V::kHidden;
  int const tokens = args.tokens - token, rows = V::kRouterRows - row;
  int const first = V::kSteps * split / splits, last = V::kSteps * (split + 1) / splits;
  if constexpr (V::kRouter == Router::kMma) {
    multiply_tile<typename V::Mma>(x, tokens, router, rows, first, last, shared, out, V::kStride);
  } else {
    FmaTile<V> fma;
    fma.multiply(x, tokens, router, rows, first, last);
    fma.write(out, V::kStride, reinterpret_cast<float*>(shared) + V::kPlanes);
  }
}

// Shared experts follow the chosen ones.
template <class V, class Row>
CUTE_DEVICE float shared_weight(Row const& row) {
  if constexpr (V::kSharedGate) {
    float logit[1];
    row.load(V::kExperts, logit);
    return sigmoid(counted(logit[0]));
  }
  return 1.0f;
}

// All lanes of a warp take part, those without a token too (`exists`).
template <class V, class Row>
CUTE_DEVICE void route_token(GateArgs const& args, Row const& row, int token, bool exists) {
  TokenChoice<V> choice;
  bool odd = choice.load(row);
  if constexpr (V::kSharedGate) {
    float logit[1];
    row.load(V::kExperts, logit);
    odd |= logit[0] != logit[0];
  }
  if (odd && exists) atomicOr(args.flag, 1);
  choice.choose(args.bias);
  float weights[choice.kKept];
  choice.weigh(row, args.scaling, weights);
  CUTE_UNROLL
  for (int i = 0; i < choice.kKept; ++i) {
    int const j = choice.experts.lane + i * V::kLanes;
    if (j >= V::kSlots || !exists) continue;
    bool const routed = j < V::kTopK;
    int const slot = token * V::kSlots + j;
    args.ids[slot] = routed ? choice.ids[i] : V::kExperts + j - V::kTopK;
    args.weights[slot] = routed ? weights[i] : shared_weight<V>(row);
  }
}

// row_of(t): the logits of the block's token number t.
template <class V, class RowOf>
CUTE_DEVICE void route_block(GateArgs const& args, RowOf const& row_of) {
  constexpr int kAtOnce = 32 / V::kLanes;  // tokens of a warp
  int const first = blockIdx.x * V::kTileT;
  int const tokens = min(args.tokens - first, V::kTileT);
  for (int begin = threadIdx.x / 32 * kAtOnce; begin < tokens; begin += V::kThreads / V::kLanes) {
    int const t = begin + threadIdx.x % 32 / V::kLanes;
    route_token<V>(args, row_of(min(t, tokens - 1)), first + t, t < tokens);
  }
}

// False for a CTA that leaves the choice to another one.
template <class V>
CUTE_DEVICE bool choose_experts(GateArgs const& args, uint8_t* shared) {
  using Element = typename V::Element;
  if constexpr (V::kRouter == Router::kNone) {
    auto const x = static_cast<Element const*>(args.x) + size_t(blockIdx.x) * V::kTileT * V::kExperts;
    route_block<V>(args, [=](int t) { return WholeRow<Element>{x + size_t(t) * V::kExperts}; });
  } else if constexpr (V::kParts) {
    constexpr int kTiles = V::kColumns / V::kTileE;
    int const tile = blockIdx.y % kTiles, split = blockIdx.y / kTiles, splits = gridDim.y / kTiles;
    constexpr int kPart = V::kTileT * V::kStride;
    float* const parts = parts_of<V>(args, splits);
    compute_logits<V>(args, tile, split, splits, parts + split * kPart + tile * V::kTileE, shared);
    if (!arrives_last(args.counters + 1 + blockIdx.x, gridDim.y, reinterpret_cast<int*>(shared)))
      return false;
    route_block<V>(args, [=](int t) { return SplitRow{parts + t * V::kStride, splits, kPart}; });
  } else {
    float* const logits = reinterpret_cast<float*>(shared);
    compute_logits<V>(args, 0, 0, 1, logits, shared);
    __syncthreads();
    route_block<V>(args, [=](int t) { return WholeRow<float>{logits + t * V::kStride}; });
  }
  return true;
}

// Rows are sorted by the CTA that is done last, in chunks of V::kSortedSlots, or by a second pass,
// in chunks that are the blocks of the first.
template <class V>
CUTE_DEVICE void gate(GateArgs const& args) {
  extern __shared__ __align__(128) uint8_t shared[];
  int* const scratch = reinterpret_cast<int*>(shared);
  constexpr int kChunk = V::kSortsLast ? V::kSortedSlots : V::kTileT * V::kSlots;
  PermuteArgs const permute = permutation<V>(args);
  if (args.pass == 0 && !choose_experts<V>(args, shared)) return;
  __syncthreads();
  if constexpr (V::kSortsLast) {
    if (args.pass == 0 && gridDim.x > 1 && !arrives_last(args.counters, gridDim.x, scratch)) return;
    for (int chunk = 0; args.chunks > 1 && chunk < args.chunks; ++chunk) {
      count_chunk<V::kThreads, kChunk>(permute, chunk, scratch);
      __syncthreads();
    }
    permute_alone<V::kThreads, kChunk>(permute, scratch);
  } else {
    // Without tokens there is no first pass, and yet a chunk to count.
    if (args.pass == 0 || args.tokens == 0)
      count_chunk<V::kThreads, kChunk>(permute, blockIdx.x, scratch);
    __syncthreads();
    if (args.pass == 1) place_chunk<V::kThreads, kChunk>(permute, blockIdx.x, scratch);
  }
}

}  // namespace light_moe
