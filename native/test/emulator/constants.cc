// Device memory that still holds what the host put there: the only memory that ld.global.nc may
// read here. On a card such a load may miss another kernel's write. That kernel may be in flight
// when launches are programmatic. Kernels write unseen, so each piece keeps a copy of its content.
#include <cstdlib>

#include "test/emulator/runtime.h"
#include "test/emulator/scheduler.h"

namespace simt::emu {

namespace {

using Bytes = unsigned char;

// Sorted and apart. Plain memory: see scheduler.h.
struct Constant {
  uintptr_t begin, end;
  Bytes* content;  // null: zeros
};
struct Constants {
  Constant* all;
  size_t count, capacity;
} constants;

// Copies and kernels may come from two threads. A mutex would order kernels for ThreadSanitizer.
struct Locked {
  static inline int taken = 0;
  Locked() {
    while (__atomic_exchange_n(&taken, 1, __ATOMIC_ACQUIRE) != 0) {
    }
  }
  ~Locked() { __atomic_store_n(&taken, 0, __ATOMIC_RELEASE); }
};

Bytes* copy_of(const void* data, size_t bytes) {
  auto* content = static_cast<Bytes*>(std::malloc(bytes));
  if (content == nullptr) std::abort();
  __builtin_memcpy(content, data, bytes);
  return content;
}

// The first that ends behind the address.
size_t find(uintptr_t address) {
  size_t low = 0, high = constants.count;
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (constants.all[middle].end > address) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

void insert(size_t at, const Constant& constant) {
  if (constants.count == constants.capacity) {
    constants.capacity = 2 * constants.capacity + 64;
    constants.all =
        static_cast<Constant*>(std::realloc(constants.all, constants.capacity * sizeof(Constant)));
    if (constants.all == nullptr) std::abort();
  }
  for (size_t i = constants.count++; i > at; i--) constants.all[i] = constants.all[i - 1];
  constants.all[at] = constant;
}

// The part [begin, end) of a constant, with a copy of its own.
Constant part(const Constant& c, uintptr_t begin, uintptr_t end) {
  return {begin, end,
          c.content == nullptr ? nullptr : copy_of(c.content + (begin - c.begin), end - begin)};
}

// Removes [begin, end); what is left of a constant on either side stays.
void cut(uintptr_t begin, uintptr_t end) {
  size_t i = find(begin);
  while (i < constants.count && constants.all[i].begin < end) {
    const Constant old = constants.all[i];
    for (size_t k = i + 1; k < constants.count; k++) constants.all[k - 1] = constants.all[k];
    constants.count--;
    if (old.begin < begin) insert(i++, part(old, old.begin, begin));
    if (old.end > end) insert(i++, part(old, end, old.end));
    std::free(old.content);
  }
}

}  // namespace

void host_wrote(const void* target, const void* source, size_t bytes) {
  if (bytes == 0) return;
  const auto begin = reinterpret_cast<uintptr_t>(target), end = begin + bytes;
  const Locked locked;
  const size_t at = find(begin);
  if (source != nullptr && at < constants.count && constants.all[at].begin <= begin &&
      constants.all[at].end >= end && constants.all[at].content != nullptr) {
    __builtin_memcpy(constants.all[at].content + (begin - constants.all[at].begin), source, bytes);
    return;
  }
  cut(begin, end);
  insert(find(begin), {begin, end, source == nullptr ? nullptr : copy_of(source, bytes)});
}

void host_forgot(const void* data, size_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(data);
  const Locked locked;
  cut(begin, begin + bytes);
}

bool is_constant(const void* data, size_t bytes) {
  const Locked locked;
  auto at = reinterpret_cast<uintptr_t>(data);
  const uintptr_t end = at + bytes;
  for (size_t i = find(at); at < end; i++) {
    if (i == constants.count || constants.all[i].begin > at) return false;
    const Constant& c = constants.all[i];
    for (; at < end && at < c.end; at++) {
      const Bytes there = c.content == nullptr ? 0 : c.content[at - c.begin];
      if (*reinterpret_cast<const Bytes*>(at) != there) return false;
    }
  }
  return true;
}

}  // namespace simt::emu
