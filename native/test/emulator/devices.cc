#include "test/emulator/devices.h"

#include <iterator>
#include <map>
#include <mutex>

namespace simt::emu {

namespace {

struct Pieces {
  std::mutex mutex;
  std::map<const unsigned char*, Memory> by_begin;
  uint64_t made = 0;
};
Pieces& pieces() {
  static Pieces pieces;
  return pieces;
}

}  // namespace

int& current_device() {
  static thread_local int device = 0;
  return device;
}

void keep_memory(const void* data, size_t bytes, int device) {
  Pieces& all = pieces();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const auto* begin = static_cast<const unsigned char*>(data);
  all.by_begin[begin] = {begin, bytes, device, ++all.made};
}

void drop_memory(const void* data) {
  Pieces& all = pieces();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.by_begin.erase(static_cast<const unsigned char*>(data));
}

bool find_memory(const void* data, Memory* found) {
  Pieces& all = pieces();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const auto* p = static_cast<const unsigned char*>(data);
  const auto after = all.by_begin.upper_bound(p);
  if (after == all.by_begin.begin()) return false;
  *found = std::prev(after)->second;
  return p < found->begin + found->bytes;
}

}  // namespace simt::emu
