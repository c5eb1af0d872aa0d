#include "test/emulator/limits.h"

#include <algorithm>
#include <string>

#include "test/emulator/devices.h"
#include "test/emulator/runtime.h"
#include "test/emulator/state.h"

#if SIMT_KNOWS_BOUNDS
// The NOPs of all kernels that have bounds (base.h).
extern "C" {
extern const unsigned char* const __start___patchable_function_entries[];
extern const unsigned char* const __stop___patchable_function_entries[];
}
#endif

namespace simt::emu {

namespace {

constexpr unsigned kMostThreads = 1024, kMostDeep = 64, kMostRows = 65535, kMostColumns = 1u << 31;
constexpr size_t kMostSharedBytes = kMaxSmem;

#if SIMT_KNOWS_BOUNDS
bool are_nops(const unsigned char* from, const unsigned char* to) {
  while (from != to && *from == 0x90) from++;
  return from == to;
}
#endif

// Threads of a block that __launch_bounds__ allows.
unsigned bound_of([[maybe_unused]] Kernel kernel) {
#if SIMT_KNOWS_BOUNDS
  const auto* entry = reinterpret_cast<const unsigned char*>(kernel);
  for (auto* at = __start___patchable_function_entries; at != __stop___patchable_function_entries;
       at++) {
    if (*at < entry && entry - *at <= kMostThreads / 32 && are_nops(*at, entry))
      return static_cast<unsigned>(entry - *at) * 32;
  }
#endif
  return kMostThreads;
}

// The most shared memory of a block: what the card has, or the newest where all code runs.
size_t most_shared_bytes() {
  return gpu().compiled == Gpu::kAll ? kMostSharedBytes : gpu().block_shared_bytes;
}

// Blocks that the card holds at once, registers apart.
unsigned resident_blocks(unsigned threads, size_t smem_bytes) {
  const int capability = 10 * gpu().major + gpu().minor;
  const unsigned most_threads = capability == 75                       ? 1024
                                : capability == 80 || capability >= 90 ? 2048
                                                                       : 1536;
  const unsigned most_blocks = capability == 80 || capability >= 90 ? 32 : 16;
  constexpr size_t kOwnBytes = 1024;  // that the system takes of each block's shared memory
  const size_t shared = most_shared_bytes() + kOwnBytes;
  const size_t each = std::min(
      {size_t{most_blocks}, size_t{most_threads / threads}, shared / (smem_bytes + kOwnBytes)});
  return static_cast<unsigned>(std::max<size_t>(1, each)) *
         static_cast<unsigned>(gpu().multiprocessors);
}

std::string text_of(dim3 d) {
  return std::to_string(d.x) + " x " + std::to_string(d.y) + " x " + std::to_string(d.z);
}

Error refuse(Error error, const std::string& cause) {
  set_failure(cause);
  return error;
}

}  // namespace

// CUDA C++ Programming Guide, table "Technical specifications per compute capability".
Error check_launch(Kernel kernel, int device, GridCall* call) {
  const dim3 grid = call->grid, block = call->block;
  const size_t smem_bytes = call->smem_bytes;
  if (device != current_device())
    return refuse(kInvalidHandle, "invalid resource handle: a stream of device " +
                                      std::to_string(device) + ", while device " +
                                      std::to_string(current_device()) + " is current");
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (grid.x >= kMostColumns || grid.y > kMostRows || grid.z > kMostRows)
    return refuse(kInvalidConfiguration,
                  "a grid has up to 2^31 - 1 x 65535 x 65535 blocks; asked "
                  "for " +
                      text_of(grid));
  if (threads == 0 || block.x > kMostThreads || block.y > kMostThreads || block.z > kMostDeep ||
      threads > kMostThreads || threads % 32 != 0)
    return refuse(kInvalidConfiguration,
                  "a block has 32 to 1024 threads, a multiple of 32, and up "
                  "to 64 in z; asked for " +
                      text_of(block));
  if (threads > bound_of(kernel))
    return refuse(kOutOfResources, "the kernel's __launch_bounds__ allow " +
                                       std::to_string(bound_of(kernel)) +
                                       " threads in a block; asked for " + text_of(block));
  if (smem_bytes > most_shared_bytes())
    return refuse(kInvalidValue, "a block has up to " + std::to_string(most_shared_bytes() / 1024) +
                                     " KiB of shared memory; asked for " +
                                     std::to_string(smem_bytes) + " bytes");
  call->resident = resident_blocks(static_cast<unsigned>(threads), smem_bytes);
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  if (call->cooperative && blocks > call->resident)
    return refuse(kTooLarge, "too many blocks in cooperative launch: the card holds " +
                                 std::to_string(call->resident) + "; asked for " + text_of(grid));
  return kSuccess;
}

}  // namespace simt::emu
