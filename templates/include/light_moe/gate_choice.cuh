// Which experts a token gets, and their weights.
#pragma once

#include <light_moe/gate_contest.cuh>
#include <light_moe/gate_row.cuh>

namespace light_moe {

// 1 / (1 + exp(-x)). Beyond 88 the exponential is infinite and the quotient 0, as it should be.
CUTE_DEVICE float sigmoid(float x) { return __fdividef(1.0f, 1.0f + expf(-x)); }

// A NaN counts as -inf.
CUTE_DEVICE float counted(float logit) { return logit != logit ? kLowest : logit; }

// One token's logits in kLanes lanes, and its choices: lane l keeps number l, kLanes + l, ...
template <class V>
struct TokenChoice {
  using Experts = LaneExperts<V>;
  static constexpr int kItems = Experts::kItems;
  static constexpr int kKept = (V::kSlots + V::kLanes - 1) / V::kLanes;
  static constexpr bool kJudged = V::kGroups > 1 && V::kTopkGroup < V::kGroups;
  static constexpr bool kSoftmaxSum = !V::kSigmoid && (!V::kRenormalise || V::kBias || V::kTop2);

  Experts experts;
  float logits[kItems];
  float top = 0.0f;  // largest logit, what softmax subtracts
  float sum = 1.0f;  // of exp(logit - top)
  int ids[kKept];
  float chosen[kKept];  // their logits

  // True where one of this lane's logits is a NaN.
  template <class Row>
  CUTE_DEVICE bool load(Row const& row) {
    experts.load(row, logits);
    bool odd = false;
    CUTE_UNROLL
    for (int i = 0; i < kItems; ++i) odd |= logits[i] != logits[i];
    if constexpr (!V::kSigmoid) {
      top = kLowest;
      CUTE_UNROLL
      for (int i = 0; i < kItems; ++i) top = fmaxf(top, counted(logits[i]));
      top = largest<V::kLanes>(top);
    }
    if constexpr (kSoftmaxSum) {
      sum = 0.0f;
      CUTE_UNROLL
      for (int i = 0; i < kItems; ++i) sum += expf(counted(logits[i]) - top);
      sum = sum_of<V::kLanes>(sum);
    }
    return odd;
  }

  CUTE_DEVICE float score(float logit) const {
    if constexpr (V::kSigmoid) {
      return sigmoid(counted(logit));
    } else {
      return __fdividef(expf(counted(logit) - top), sum);
    }
  }

  // What an item is chosen by. Scores grow with logits: without a bias, these say as much, exactly.
  CUTE_DEVICE float merit(int item, float const* bias) const {
    if (logits[item] != logits[item]) return logits[item];
    if constexpr (V::kBias) {
      return experts.holds(item) ? score(logits[item]) + bias[experts.first + item] : kLowest;
    } else {
      return logits[item];
    }
  }

  // A group's largest merit, or the sum of the two largest scores (with bias), as a key.
  CUTE_DEVICE unsigned judge(int group, float const* bias) const {
    float first = kLowest, second = kLowest;
    CUTE_UNROLL
    for (int i = group * V::kShare; i < (group + 1) * V::kShare; ++i) {
      float value = counted(merit(i, bias));
      if constexpr (V::kTop2 && !V::kBias)
        value = experts.holds(i) && logits[i] == logits[i] ? score(value) : kLowest;
      second = fmaxf(second, fminf(first, value));
      first = fmaxf(first, value);
    }
    CUTE_UNROLL
    for (int step = V::kGroupLanes / 2; step > 0; step /= 2) {
      float const other = __shfl_xor_sync(kFullWarp, first, step);
      float const next = __shfl_xor_sync(kFullWarp, second, step);
      second = fmaxf(fmaxf(second, next), fminf(first, other));
      first = fmaxf(first, other);
    }
    return key_of(V::kTop2 ? first + second : first);
  }

  // Which of this lane's groups are in; a lane of a group that it shares sees what the others see.
  CUTE_DEVICE void choose_groups(float const* bias, bool (&in)[V::kLaneGroups]) const {
    Contest<V::kLanes, V::kLaneGroups, V::kGroupLanes> contest;
    CUTE_UNROLL
    for (int i = 0; i < V::kLaneGroups; ++i) {
      unsigned const key = judge(i, bias);
      bool const exists = experts.lane / V::kGroupLanes * V::kLaneGroups + i < V::kGroups;
      contest.keys[i] = exists ? key : kTaken;
    }
    contest.look();
#pragma unroll 1
    for (int round = 0; round < V::kTopkGroup; ++round) {
      unsigned most;
      contest.take(contest.winner(most));
    }
    CUTE_UNROLL
    for (int i = 0; i < V::kLaneGroups; ++i) in[i] = contest.keys[i] == kTaken;
  }

  CUTE_DEVICE void choose(float const* bias) {
    bool in[V::kLaneGroups];
    if constexpr (kJudged) choose_groups(bias, in);
    Contest<V::kLanes, kItems> contest;
    CUTE_UNROLL
    for (int i = 0; i < kItems; ++i) {
      bool const wanted = experts.holds(i) && (!kJudged || in[i / V::kShare]);
      contest.keys[i] = wanted ? key_of(merit(i, bias)) : kTaken;
    }
    contest.look();
#pragma unroll 1
    for (int round = 0; round < V::kTopK; ++round) {
      unsigned most;
      int const winner = contest.winner(most);
      int const id = __shfl_sync(kFullWarp, experts.first + contest.item, winner, V::kLanes);
      CUTE_UNROLL
      for (int i = 0; i < kKept; ++i) {
        if (round != experts.lane + i * V::kLanes) continue;
        ids[i] = id;
        chosen[i] = number_of(most);
      }
      contest.take(winner);
    }
  }

  // Weights of this lane's choices. With a bias, keys do not tell the logits: they are read again.
  template <class Row>
  CUTE_DEVICE void weigh(Row const& row, float scaling, float (&weights)[kKept]) const {
    float total = 0.0f;
    CUTE_UNROLL
    for (int i = 0; i < kKept; ++i) {
      bool const mine = experts.lane + i * V::kLanes < V::kTopK;
      float logit[1] = {mine ? chosen[i] : 0.0f};
      if constexpr (V::kBias) {
        if (mine) row.load(ids[i], logit);
      }
      weights[i] = mine ? score(logit[0]) : 0.0f;
      total += weights[i];
    }
    if constexpr (V::kRenormalise) total = fmaxf(sum_of<V::kLanes>(total), 1e-20f);
    CUTE_UNROLL
    for (int i = 0; i < kKept; ++i)
      weights[i] = scaling * (V::kRenormalise ? __fdividef(weights[i], total) : weights[i]);
  }
};

}  // namespace light_moe
