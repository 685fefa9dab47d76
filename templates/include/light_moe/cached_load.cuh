// Predicated 128-bit global loads with a cache operator (PTX ISA, "Cache Operators").
#pragma once

#include <cute/tensor.hpp>

namespace light_moe {

using cute::uint128_t;

enum class Cache {
  kAll,       // ld.global.ca: L1 and L2, for rows that other warps of the SM read again
  kGlobal,    // ld.global.cg: L2 only, leaves L1 to the other operand
  kStreaming, // ld.global.cs: evicted first, for weights that a step reads once
  kReadOnly,  // ld.global.nc: through the texture path
};

// target = *source if wanted, else unchanged. A predicate, not a branch: branches would cut the
// main loop into blocks across which the assembler does not mix loads with MMAs. volatile: a load
// must not sink to the store that waits for it.
#define LIGHT_MOE_LOAD(OPERATOR)                                                              \
  asm volatile(                                                                               \
      "{.reg .pred wanted; setp.ne.s32 wanted, %5, 0;\n"                                      \
      "@wanted ld.global." OPERATOR ".v4.u32 {%0, %1, %2, %3}, [%4];}"                        \
      : "+r"(to.x), "+r"(to.y), "+r"(to.z), "+r"(to.w) : "l"(from), "r"(int(wanted)))

template <Cache kCache>
CUTE_DEVICE void load_if(bool wanted, void const* source, uint128_t& target) {
  auto& to = reinterpret_cast<uint4&>(target);
  auto const from = __cvta_generic_to_global(source);
  if constexpr (kCache == Cache::kAll) {
    LIGHT_MOE_LOAD("ca");
  } else if constexpr (kCache == Cache::kGlobal) {
    LIGHT_MOE_LOAD("cg");
  } else if constexpr (kCache == Cache::kStreaming) {
    LIGHT_MOE_LOAD("cs");
  } else {
    LIGHT_MOE_LOAD("nc");
  }
}

#undef LIGHT_MOE_LOAD

}  // namespace light_moe
