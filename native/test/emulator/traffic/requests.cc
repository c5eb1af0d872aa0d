// Accesses of threads become instructions of warps, and these requests of L2.
//
// The emulation runs one lane after another. So lanes' accesses belong together that come from one
// place in the program for the same time since the warp last met. A branch that some lanes do not
// take may part them until the next meeting.
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "test/emulator/state.h"
#include "test/emulator/traffic/caches.h"

namespace simt::emu {

namespace {

bool counting;
Traffic total;

struct Request {
  Access access;
  std::vector<uint64_t> sectors;
};

struct Place {
  unsigned calls[32] = {};         // of each lane, since the warp met
  std::vector<unsigned> requests;  // of call 0, 1, ...
};

struct WarpRequests {
  std::unordered_map<uintptr_t, Place> places;
  std::vector<Request> requests;  // in the order of their first lanes
  unsigned count = 0;             // of those in use

  Request& find(uintptr_t place, unsigned lane, Access access);
};

struct BlockRequests {
  WarpRequests warps[kWarps];
  std::unordered_set<uint64_t> in_l1;
};

// By the parts of resident blocks, which no two have in common.
std::unordered_map<const Parts*, BlockRequests> blocks;
const Parts* latest_parts;
BlockRequests* latest_block;

BlockRequests& running_block() {
  if (block.parts != latest_parts) {
    latest_parts = block.parts;
    latest_block = &blocks[latest_parts];
  }
  return *latest_block;
}

Request& WarpRequests::find(uintptr_t address, unsigned lane, Access access) {
  Place& place = places[address];
  const unsigned call = place.calls[lane]++;
  if (call < place.requests.size()) return requests[place.requests[call]];
  place.requests.push_back(count);
  if (count == requests.size()) requests.emplace_back();
  Request& request = requests[count++];
  request.access = access;
  request.sectors.clear();
  return request;
}

void add(std::vector<uint64_t>& sectors, uint64_t sector) {
  for (size_t i = sectors.size(); i-- > 0;) {
    if (sectors[i] == sector) return;
  }
  sectors.push_back(sector);
}

// The sectors that hold [address, address + bytes).
template <class Each>
void for_each_sector(uintptr_t address, uint64_t bytes, const Each& each) {
  if (bytes == 0) return;
  for (uint64_t s = address / kSectorBytes; s <= (address + bytes - 1) / kSectorBytes; s++) each(s);
}

void send(BlockRequests& from, Access access, uint64_t sector) {
  const bool writes = access == Access::kStore || access == Access::kAtomic;
  const auto count = [&](Moved& moved) { (writes ? moved.written : moved.read) += kSectorBytes; };
  const bool delivers = access != Access::kPrefetch;
  if (delivers) count(total.requests);
  if (access == Access::kLoad && !from.in_l1.insert(sector).second) return;
  if (delivers) count(total.l2);
  access_l2(access, sector, &total);
}

void send_all(BlockRequests& from, WarpRequests& warp) {
  for (unsigned i = 0; i < warp.count; i++) {
    const Request& request = warp.requests[i];
    for (const uint64_t sector : request.sectors) send(from, request.access, sector);
  }
  if (warp.count != 0) warp.places.clear();
  warp.count = 0;
}

// On the thread's stack, or in shared memory.
bool is_private(uintptr_t address) {
  const auto within = [=](const void* begin, size_t bytes) {
    return address - reinterpret_cast<uintptr_t>(begin) < bytes;
  };
  return within(current->fiber.stack, current->fiber.stack_bytes) ||
         within(block.smem, block.smem_bytes);
}

Moved minus(const Moved& a, const Moved& b) {
  return {a.read - b.read, a.written - b.written};
}

}  // namespace

Traffic difference(const Traffic& a, const Traffic& b) {
  return {a.launches - b.launches,  minus(a.asked, b.asked),     minus(a.requests, b.requests),
          minus(a.l2, b.l2),        minus(a.kernels, b.kernels), minus(a.step, b.step),
          minus(a.memory, b.memory)};
}

void count_traffic(size_t l2_bytes) {
  options = {Order::kForward, Async::kEager, 1};
  total = {};
  blocks.clear();
  latest_parts = nullptr;
  clear_caches(l2_bytes);
  counting = true;
}
const Traffic& traffic() {
  return total;
}
void stop_counting() {
  counting = false;
}

void note_access(Access access, const void* data, size_t bytes, uintptr_t place) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  if (!counting || current == nullptr) return;
  // A copy of nothing has any address, and is a lane's part of an instruction all the same.
  if (bytes != 0 && (is_private(address) || !is_device_memory(address))) return;
  const bool writes = access == Access::kStore || access == Access::kAtomic;
  if (access != Access::kPrefetch) (writes ? total.asked.written : total.asked.read) += bytes;
  WarpRequests& warp = running_block().warps[current->rank / 32];
  // A place that loads and stores has two instructions.
  const uintptr_t instruction = place * 8 + static_cast<uintptr_t>(access);
  Request& request = warp.find(instruction, current->rank % 32, access);
  for_each_sector(address, bytes, [&](uint64_t sector) { add(request.sectors, sector); });
}

// A box is one request, which asks for each sector once. PTX: what is outside of the matrix is not
// accessed.
void note_bulk(const Bulk& bulk, bool store) {
  if (!counting) return;
  const auto inside = [](int64_t begin, uint32_t box, uint64_t size, int64_t* first) {
    *first = begin < 0 ? 0 : begin;
    const int64_t end =
        begin + box < static_cast<int64_t>(size) ? begin + box : static_cast<int64_t>(size);
    return end > *first ? end - *first : 0;
  };
  int64_t x, y;
  const int64_t columns = inside(bulk.x, bulk.box_columns, bulk.columns, &x),
                rows = inside(bulk.y, bulk.box_rows, bulk.rows, &y);
  const uint64_t bytes = static_cast<uint64_t>(columns) * bulk.element_bytes;
  const auto begin =
      reinterpret_cast<uintptr_t>(bulk.global) + static_cast<uintptr_t>(x) * bulk.element_bytes;
  std::unordered_set<uint64_t> sectors;
  for (int64_t row = y; row < y + rows; row++) {
    (store ? total.asked.written : total.asked.read) += bytes;
    for_each_sector(begin + static_cast<uint64_t>(row) * bulk.pitch_bytes, bytes,
                    [&](uint64_t sector) {
                      if (!sectors.insert(sector).second) return;
                      send(running_block(), store ? Access::kStore : Access::kLoadPastL1, sector);
                    });
  }
}

void note_meeting(unsigned warp) {
  if (!counting) return;
  BlockRequests& own = running_block();
  send_all(own, own.warps[warp]);
}

void note_block_end() {
  if (!counting) return;
  BlockRequests& own = running_block();
  for (WarpRequests& warp : own.warps) send_all(own, warp);
  own.in_l1.clear();
}

void note_launch() {
  if (!counting) return;
  total.launches++;
  begin_kernel();
}

}  // namespace simt::emu
