// Products by wgmma, which take most of the time that counting takes, and move nothing.
#pragma once

namespace simt::emu {

// False: accumulators stay as they are. For kernels whose traffic does not depend on results.
extern bool computes_products;

}  // namespace simt::emu
