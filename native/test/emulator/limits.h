// The checks of a launch that the driver makes before anything runs.
#pragma once

#include "test/emulator/launches.h"
#include "test/emulator/scheduler.h"

namespace simt::emu {

// kSuccess, and how many blocks the card can hold at once; or CUDA's error, whose cause is then
// last_failure().
Error check_launch(Kernel kernel, int device, GridCall* call);

}  // namespace simt::emu
