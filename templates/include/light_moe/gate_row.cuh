// The logits of one token, wherever they lie, and the experts of them that a lane looks at.
#pragma once

#include <cute/config.hpp>
#include <cute/numeric/numeric_types.hpp>

namespace light_moe {

constexpr float kLowest = -cuda::std::numeric_limits<float>::infinity();

template <int kBytes> struct Word;
template <> struct Word<2> { using Type = uint16_t; };
template <> struct Word<4> { using Type = uint32_t; };
template <> struct Word<8> { using Type = uint2; };
template <> struct Word<16> { using Type = uint4; };

// kCount neighbouring elements, aligned, as floats.
template <int kCount, class Element>
CUTE_DEVICE void widen(Element const* from, float (&to)[kCount]) {
  using Load = typename Word<kCount * sizeof(Element)>::Type;
  Load const word = *reinterpret_cast<Load const*>(from);
  CUTE_UNROLL
  for (int i = 0; i < kCount; ++i) to[i] = float(reinterpret_cast<Element const*>(&word)[i]);
}

// Logits given by the caller, or in shared memory.
template <class Element>
struct WholeRow {
  Element const* logits;

  template <int kCount>
  CUTE_DEVICE void load(int expert, float (&to)[kCount]) const {
    widen(logits + expert, to);
  }
};

// Logits in parts, sums over parts of H: added in order, so that equal inputs give equal bits.
// Other CTAs wrote them: read from L2.
struct SplitRow {
  float const* logits;
  int splits;
  int step;  // from a part to the next

  template <int kCount>
  CUTE_DEVICE void load(int expert, float (&to)[kCount]) const {
    using Load = typename Word<4 * kCount>::Type;
    float const* part = logits + expert;
    CUTE_UNROLL
    for (int i = 0; i < kCount; ++i) to[i] = 0.0f;
#pragma unroll 4
    for (int split = 0; split < splits; ++split, part += step) {
      Load const word = __ldcg(reinterpret_cast<Load const*>(part));
      CUTE_UNROLL
      for (int i = 0; i < kCount; ++i) to[i] += reinterpret_cast<float const*>(&word)[i];
    }
  }
};

// The experts of a lane: V::kShare of a group that V::kGroupLanes lanes share, or V::kLaneGroups
// whole groups. Lanes in ascending order have experts in ascending order, item by item.
template <class V>
struct LaneExperts {
  static constexpr int kItems = V::kLaneGroups * V::kShare;
  static constexpr int kSize = V::kExperts / V::kGroups;

  int lane;   // among those of the token
  int first;  // expert of item 0
  int count;  // items that exist

  CUTE_DEVICE LaneExperts() : lane(threadIdx.x % V::kLanes) {
    int const group = lane / V::kGroupLanes * V::kLaneGroups;
    int const within = lane % V::kGroupLanes * V::kShare;
    int const groups = min(V::kLaneGroups, V::kGroups - group);
    first = group * kSize + within;
    count = groups <= 0 ? 0 : V::kLaneGroups > 1 ? groups * kSize : min(V::kShare, kSize - within);
  }

  CUTE_DEVICE bool holds(int item) const { return item < count; }

  // -inf where there is no expert.
  template <class Row>
  CUTE_DEVICE void load(Row const& row, float (&logits)[kItems]) const {
    CUTE_UNROLL
    for (int item = 0; item < kItems; item += V::kVector) {
      float some[V::kVector];
      CUTE_UNROLL
      for (int i = 0; i < V::kVector; ++i) some[i] = kLowest;
      if (holds(item)) row.load(first + item, some);
      CUTE_UNROLL
      for (int i = 0; i < V::kVector; ++i) logits[item + i] = some[i];
    }
  }
};

}  // namespace light_moe
