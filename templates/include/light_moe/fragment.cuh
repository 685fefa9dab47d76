// MMA operands in registers, loaded by ldmatrix, one k-step at a time.
#pragma once

#include <cute/tensor.hpp>

namespace light_moe {

using namespace cute;

template <int kWidth> struct Ldmatrix;
template <> struct Ldmatrix<1> { using Op = SM75_U32x1_LDSM_N; };
template <> struct Ldmatrix<2> { using Op = SM75_U32x2_LDSM_N; };
template <> struct Ldmatrix<4> { using Op = SM75_U32x4_LDSM_N; };

// An operand of a warp: O::kBlocks blocks of 8 rows, V::kKStep / 8 blocks of 8 along k. Register
// number q of a buffer holds the 8x8 matrix (q % kBlocks, q / kBlocks). kPerMma: blocks of 8 rows
// in one MMA, 2 on its 16-wide axis and 1 on its 8-wide one.
template <class V, class O, int kPerMma>
struct Fragment {
  static constexpr int kMatrices = O::kBlocks * V::kKStep / 8;
  using Buffer = Layout<Shape<Int<2 * kMatrices>, Int<V::kFragments>>,
                        Stride<_1, Int<2 * kMatrices>>>;
  // (values of one MMA, MMAs, k8)
  using View = Layout<Shape<Int<2 * kPerMma>, Int<O::kBlocks / kPerMma>, Int<V::kKStep / 8>>,
                      Stride<_1, Int<2 * kPerMma>, Int<2 * O::kBlocks>>>;

  decltype(make_tensor<half_t>(Buffer{})) registers = make_tensor<half_t>(Buffer{});
  int base;  // this lane's row, swizzled, in halves from the start of the operand's tile

  CUTE_DEVICE Fragment() : base(typename V::Swz{}(typename O::Thread{}(int(threadIdx.x)))) {}

  // Where k offset k (a multiple of 8) lies: a swizzle is linear over XOR and the k bits of base
  // below a warp's slice are zero. Without a swizzle k offsets are immediates.
  CUTE_DEVICE int at(int k) const { return V::kXor ? base ^ typename V::Swz{}(k) : base + k; }

  CUTE_DEVICE void load(half_t const* tile, int step, int buffer) {
    Copy_Atom<typename Ldmatrix<O::kWidth>::Op, half_t> ldmatrix;
    CUTE_UNROLL
    for (int group = 0; group < O::kGroups; ++group) {
      half_t const* rows = tile + at(step * V::kKStep + group * 8);
      CUTE_UNROLL
      for (int i = 0; i < O::kLoads; ++i) {
        auto target = make_tensor(&registers(2 * O::kWidth * (group * O::kLoads + i), buffer),
                                  Layout<Int<2 * O::kWidth>>{});
        ldmatrix.call(make_tensor(make_smem_ptr(rows + typename O::Rows{}(i)), Layout<_8>{}), target);
      }
    }
  }

  // Keeps the compiler from computing the swizzled address of every k-step once for all k-tiles:
  // with a single stage they do not change, and holding them all makes the main loop spill.
  CUTE_DEVICE void forget_addresses() { asm volatile("" : "+r"(base)); }

  CUTE_DEVICE auto view(int buffer) { return make_tensor(&registers(0, buffer), View{}); }
};

}  // namespace light_moe
