#include "test/emulator/traffic/caches.h"

#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "test/emulator/devices.h"

namespace simt::emu {

namespace {

constexpr uint32_t kTime = 0x7fffffff;
// When a sector was accessed last, and if the cache holds more of it than memory does.
struct Stamp {
  uint32_t time : 31, dirty : 1;
};
struct Sector {
  Stamp kernel, step, aged;
};

// Memory of the device that was accessed since count_traffic(). The system gives no pages for
// sectors that never are.
struct Region {
  explicit Region(const Memory& memory)
      : memory(memory),
        first(reinterpret_cast<uintptr_t>(memory.begin) / kSectorBytes),
        sectors(
            static_cast<Sector*>(std::calloc(memory.bytes / kSectorBytes + 2, sizeof(Sector)))) {
    if (sectors == nullptr) throw std::bad_alloc();
  }
  ~Region() { std::free(sectors); }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  bool contains(uintptr_t address) const {
    const auto begin = reinterpret_cast<uintptr_t>(memory.begin);
    return address >= begin && address < begin + memory.bytes;
  }

  const Memory memory;
  const uintptr_t first;
  Sector* const sectors;
};

std::vector<std::unique_ptr<Region>> regions;
Region* latest = nullptr;
// Numbers of the running kernel, and of the sectors that L2 took in so far: its clock.
uint32_t kernel, fills;
uint32_t room;  // in sectors

Region* find_region(uintptr_t address) {
  if (latest != nullptr && latest->contains(address)) return latest;
  for (const auto& region : regions) {
    if (region->contains(address)) return latest = region.get();
  }
  Memory memory;
  if (!find_memory(reinterpret_cast<const void*>(address), &memory)) return nullptr;
  if (memory.device == kHostMemory) return nullptr;
  regions.push_back(std::make_unique<Region>(memory));
  return latest = regions.back().get();
}

bool is_write(Access access) {
  return access == Access::kStore || access == Access::kAtomic;
}

// Memory's part of an access. A store brings no sector from memory; an atomic does.
void move(Stamp& stamp, bool cached, Access access, Moved* moved) {
  if (!cached) stamp.dirty = 0;
  if (!cached && access != Access::kStore) moved->read += kSectorBytes;
  if (is_write(access) && !stamp.dirty) {
    stamp.dirty = 1;
    moved->written += kSectorBytes;
  }
}

}  // namespace

bool is_device_memory(uintptr_t address) {
  return find_region(address) != nullptr;
}

void clear_caches(size_t l2_bytes) {
  regions.clear();
  latest = nullptr;
  kernel = fills = 1;
  room = static_cast<uint32_t>(l2_bytes / kSectorBytes);
}

void begin_kernel() {
  kernel++;
  latest = nullptr;
  size_t kept = 0;
  for (auto& region : regions) {
    Memory memory;
    if (find_memory(region->memory.begin, &memory) && memory.serial == region->memory.serial)
      regions[kept++].swap(region);
  }
  regions.resize(kept);
}

void access_l2(Access access, uint64_t sector, Traffic* traffic) {
  Region* region = find_region(sector * kSectorBytes);
  if (region == nullptr) return;
  Sector& s = region->sectors[sector - region->first];
  move(s.kernel, s.kernel.time == kernel, access, &traffic->kernels);
  s.kernel.time = kernel & kTime;
  move(s.step, s.step.time == 1, access, &traffic->step);
  s.step.time = 1;
  const bool cached = s.aged.time != 0 && fills - s.aged.time < room;
  move(s.aged, cached, access, &traffic->memory);
  if (!cached) fills++;
  s.aged.time = fills & kTime;
}

}  // namespace simt::emu
