// What the driver checks before anything of a launch runs.
#pragma once

#include <cstddef>

#include "test/emulator/base.h"
#include "test/emulator/launches.h"

namespace simt::emu {

// kSuccess, or CUDA's error, whose cause is then last_failure().
Error check_launch(Kernel kernel, dim3 grid, dim3 block, size_t smem_bytes);

}  // namespace simt::emu
