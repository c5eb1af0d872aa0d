#pragma once

namespace simt::emu {

using Kernel = void (*)();

// Notes that the kernel was launched (launches.cc).
void launched(Kernel kernel);

}  // namespace simt::emu
