// 128-bit global loads with a cache operator (PTX ISA, "Cache Operators"), as CuTe copy operations.
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

template <Cache kCache>
struct CachedLoad {
  using SRegisters = uint128_t[1];
  using DRegisters = uint128_t[1];

  CUTE_DEVICE static void copy(uint128_t const& source, uint128_t& target) {
    auto& to = reinterpret_cast<uint4&>(target);
    auto const from = __cvta_generic_to_global(&source);
    // volatile: the compiler must not sink a load down to the store that waits for it
    if constexpr (kCache == Cache::kAll) {
      asm volatile("ld.global.ca.v4.u32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(to.x), "=r"(to.y), "=r"(to.z), "=r"(to.w) : "l"(from));
    } else if constexpr (kCache == Cache::kGlobal) {
      asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(to.x), "=r"(to.y), "=r"(to.z), "=r"(to.w) : "l"(from));
    } else if constexpr (kCache == Cache::kStreaming) {
      asm volatile("ld.global.cs.v4.u32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(to.x), "=r"(to.y), "=r"(to.z), "=r"(to.w) : "l"(from));
    } else {
      asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(to.x), "=r"(to.y), "=r"(to.z), "=r"(to.w) : "l"(from));
    }
  }
};

}  // namespace light_moe

namespace cute {

template <light_moe::Cache kCache>
struct Copy_Traits<light_moe::CachedLoad<kCache>> {
  using ThrID = Layout<_1>;
  using SrcLayout = Layout<Shape<_1, Int<128>>>;
  using DstLayout = Layout<Shape<_1, Int<128>>>;
  using RefLayout = SrcLayout;
};

}  // namespace cute
