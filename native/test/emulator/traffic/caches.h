// The sectors of the device's memory, and what L2 and memory move for them.
#pragma once

#include "test/emulator/traffic/traffic.h"

namespace simt::emu {

constexpr uint64_t kSectorBytes = 32;

// True if the address lies in memory of a device.
bool is_device_memory(uintptr_t address);
// Empties L2, which then has room for so many bytes.
void clear_caches(size_t l2_bytes);
// Memory may have come and gone since the last launch.
void begin_kernel();
// An access that L1 did not serve: memory's part of it. The sector is address / 32.
void access_l2(Access access, uint64_t sector, Traffic* traffic);

}  // namespace simt::emu
