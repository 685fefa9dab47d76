// m16n8k8 with fp16 accumulators. CuTe declares it for sm_80 only, where it traps when compiled
// for compute_75, although the instruction exists since PTX ISA 6.5 and sm_75 ("Matrix multiply-
// accumulate operation using mma instruction"). GeForce Turing runs it at twice the rate of the
// fp32-accumulating form.
#pragma once

#include <cute/tensor.hpp>

namespace cute {

struct SM75_16x8x8_F16F16F16F16_TN {
  using DRegisters = uint32_t[2];
  using ARegisters = uint32_t[2];
  using BRegisters = uint32_t[1];
  using CRegisters = uint32_t[2];

  CUTE_HOST_DEVICE static void fma(uint32_t& d0, uint32_t& d1, uint32_t const& a0,
                                   uint32_t const& a1, uint32_t const& b0, uint32_t const& c0,
                                   uint32_t const& c1) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3}, {%4}, {%5, %6};"
                 : "=r"(d0), "=r"(d1)
                 : "r"(a0), "r"(a1), "r"(b0), "r"(c0), "r"(c1));
  }
};

// Operands and accumulators lie in the lanes as in the fp32-accumulating form; two neighbouring
// accumulators share a register.
template <>
struct MMA_Traits<SM75_16x8x8_F16F16F16F16_TN> : MMA_Traits<SM75_16x8x8_F32F16F16F32_TN> {
  using ValTypeD = half_t;
  using ValTypeC = half_t;
};

}  // namespace cute
