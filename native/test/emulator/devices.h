// The current device of each host thread, and whose every piece of memory is.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simt::emu {

int& current_device();  // of the calling thread

constexpr int kHostMemory = -1;  // page-locked

struct Memory {
  const unsigned char* begin;
  size_t bytes;
  int device;
  uint64_t serial;  // no two pieces have the same, one after the other at one address neither
};
void keep_memory(const void* data, size_t bytes, int device);
void drop_memory(const void* data);
// The piece that holds the address; null if no call of the runtime gave it.
bool find_memory(const void* data, Memory* found);

}  // namespace simt::emu
