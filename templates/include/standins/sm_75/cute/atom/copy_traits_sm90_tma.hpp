// Stand-in: the sm_75 tier has no TMA, and the real header only costs compile time.
#pragma once
// copy_atom.hpp has just defined both; with them, cute/algorithm/copy.hpp and prefetch.hpp would
// name bulk-copy atoms that no longer exist, and copy_traits_sm100_tma.hpp would be included.
#undef CUTE_COPY_ATOM_TMA_SM90_ENABLED
#undef CUTE_COPY_ATOM_TMA_SM100_ENABLED
