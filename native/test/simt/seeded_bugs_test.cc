// Runs each seeded bug in a process of its own, in every schedule. It ends with a wrong result,
// with an error of the emulation, or stopped by a sanitizer. Correct kernels must pass in silence.
// Each bug must be noticed by the builds that the table names. SIMT_BUG=name moepp-simt-test
// seeded_bug_child runs one.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "device_test.h"
#include "memory_bugs.h"
#include "seeded_blocks.h"
#include "seeded_orders.h"

namespace moepp::simt_test {

namespace {

template <Bug bug>
int tiled() {
  return run_tiled(tiled_gemm<bug>,
                   bug == Bug::kShortSmem ? sizeof(TiledSmem) - 128 : sizeof(TiledSmem));
}
template <Bug bug>
int counting() {
  return run_count(count_best<bug>);
}
template <Bug bug>
int piped() {
  return run_piped(piped_gemm<bug>);
}

template <BlockBug bug>
int adding_blocks() {
  return run_blocks(blocks_gemm<bug>);
}

template <Bug bug>
int summing() {
  return run_sum(sum_last<bug>);
}

template <Bug bug>
int scaling() {
  return run_scales(scale_values<bug>);
}

enum Build : unsigned { kPlain = 1, kAsan = 2, kTsan = 4, kEvery = 7 };
#if defined(__SANITIZE_ADDRESS__)
constexpr Build kThisBuild = kAsan;
#elif defined(__SANITIZE_THREAD__)
constexpr Build kThisBuild = kTsan;
#else
constexpr Build kThisBuild = kPlain;
#endif

struct Seeded {
  const char* name;
  int (*run)();
  unsigned noticed_by;  // builds
};

const Seeded kSeeded[] = {
    {"tiled_gemm, correct", tiled<Bug::kNone>, 0},
    {"no barrier in the loop over k", tiled<Bug::kNoBarrier>, kEvery},
    {"cp.async wait one group short", tiled<Bug::kShortWait>, kEvery},
    {"load into the stage that is read", tiled<Bug::kEarlyLoad>, kEvery},
    {"operand read without its swizzle", tiled<Bug::kUnswizzledB>, kEvery},
    {"shared memory 128 bytes short", tiled<Bug::kShortSmem>, kEvery},
    {"no bounds check on rows", tiled<Bug::kNoRowCheck>, kAsan},
    {"no bounds check on k", tiled<Bug::kNoColumnCheck>, kEvery},
    {"misaligned ldmatrix", tiled<Bug::kMisalignedLdmatrix>, kEvery},
    {"count_best, correct", counting<Bug::kNone>, 0},
    {"shuffle in a divergent branch", counting<Bug::kDivergentShuffle>, kEvery},
    {"shuffle with half a mask", counting<Bug::kWrongMask>, kEvery},
    {"barrier that a warp skips", counting<Bug::kSkippedBarrier>, kEvery},
    {"plain add to a shared histogram", counting<Bug::kPlainAdd>, kTsan},
    {"no barrier after clearing", counting<Bug::kNoBarrierAfterClear>, kTsan},
    {"shared memory not cleared", counting<Bug::kNotCleared>, kEvery},
    {"no __syncwarp", counting<Bug::kNoSyncwarp>, kEvery},
    {"blocks add without atomics", counting<Bug::kBlocksCollide>, kTsan},
    {"piped_gemm, correct", piped<Bug::kNone>, 0},
    {"mbarrier parity inverted", piped<Bug::kWrongParity>, kEvery},
    {"expect_tx for one tile of two", piped<Bug::kShortExpect>, kEvery},
    {"stage freed before wgmma_wait", piped<Bug::kFreedEarly>, kTsan},
    {"no wait for the full barrier", piped<Bug::kNoFullWait>, kEvery},
    {"descriptor 32 bytes off", piped<Bug::kDescriptorOff>, kEvery},
    {"no wgmma_fence", piped<Bug::kNoWgmmaFence>, kEvery},
    {"accumulators read before the wait", piped<Bug::kReadEarly>, kEvery},
    {"mbarrier used before it is seen", piped<Bug::kNoInitBarrier>, kEvery},
    {"end without tma_store_wait", piped<Bug::kNoStoreWait>, kEvery},
    {"tile overwritten under a TMA store", piped<Bug::kStoreRace>, kEvery},
    {"blocks_gemm, correct", adding_blocks<BlockBug::kNone>, 0},
    {"block added before the wait", adding_blocks<BlockBug::kAddedEarly>, kEvery},
    {"no wgmma_fence for a second block", adding_blocks<BlockBug::kOneFence>, kEvery},
    {"e4m3 in steps of bf16", adding_blocks<BlockBug::kBf16Steps>, kEvery},
    {"scales freed before they are read", adding_blocks<BlockBug::kFreedScales>, kEvery},
    {"copies in order, correct", run_copies<OrderBug::kNone>, 0},
    {"staging overwritten before its copy", run_copies<OrderBug::kStagingOverwritten>, kEvery},
    {"memory freed in flight", run_copies<OrderBug::kFreedInFlight>, kEvery},
    {"copy in another stream", run_copies<OrderBug::kOtherStream>, kEvery},
    {"programmatic launches, correct", run_programmatic<OrderBug::kNone>, 0},
    {"read before the wait", run_programmatic<OrderBug::kReadBeforeWait>, kEvery},
    {"write before the wait", run_programmatic<OrderBug::kWriteBeforeWait>, kEvery},
    {"next kernel let go before the wait", run_programmatic<OrderBug::kLetGoBeforeWait>, kEvery},
    {"blocks that wait, correct", run_neighbours<OrderBug::kNone>, 0},
    {"blocks do not wait", run_neighbours<OrderBug::kNoGridBarrier>, kEvery},
    {"blocks wait for too many", run_neighbours<OrderBug::kGridTooLarge>, kEvery},
    {"no fence_mbarrier_init", piped<Bug::kNoInitFence>, kEvery},
    {"no fence_proxy_async", piped<Bug::kNoProxyFence>, kEvery},
    {"fence_proxy_async of one thread", piped<Bug::kOneProxyFence>, kEvery},
    {"fence_proxy_async after the arrival", piped<Bug::kLateProxyFence>, kEvery},
    {"one mbar_try_wait without a loop", piped<Bug::kSingleTry>, kEvery},
    {"sum_last, correct", summing<Bug::kNone>, 0},
    {"__threadfence_block across blocks", summing<Bug::kBlockFence>, kTsan},
    {"no __threadfence", summing<Bug::kNoFence>, kTsan},
    {"__threadfence before the write", summing<Bug::kEarlyFence>, kTsan},
    {"scale_values, correct", scaling<Bug::kNone>, 0},
    {"load_stream of a kernel's result", scaling<Bug::kStreamedLoad>, kEvery},
    {"norm in a program, correct", run_norm<MemoryBug::kNone>, 0},
    {"sum onto an output never written", run_norm<MemoryBug::kAddsToOutput>, kEvery},
    {"sum onto a workspace never written", run_norm<MemoryBug::kAddsToWorkspace>, kEvery},
    {"buffer of a step overrun", run_norm<MemoryBug::kWritesPast>, kAsan},
};

// The exit status of this program running one bug; its output is dropped unless SIMT_VERBOSE is
// set. Spawned, not forked: the sanitizers' address space is large to copy.
int run_child(const char* name) {
  std::fflush(nullptr);
  const bool verbose = getenv("SIMT_VERBOSE") != nullptr;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (int file : {STDOUT_FILENO, STDERR_FILENO}) {
    if (!verbose) posix_spawn_file_actions_addopen(&actions, file, "/dev/null", O_WRONLY, 0);
  }
  std::string bug = std::string("SIMT_BUG=") + name, program = "moepp-simt-test",
              filter = "seeded_bug_child";
  // The first report tells enough.
  std::string tsan =
      verbose ? "TSAN_OPTIONS=halt_on_error=0" : "TSAN_OPTIONS=halt_on_error=1:symbolize=0";
  char* const arguments[] = {program.data(), filter.data(), nullptr};
  char* const environment[] = {bug.data(), tsan.data(), nullptr};
  pid_t child = 0;
  const int error =
      posix_spawn(&child, "/proc/self/exe", &actions, nullptr, arguments, environment);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  if (error != 0 || waitpid(child, &status, 0) != child) return 127;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

const char* outcome(int status) {
  switch (status) {
    case 0:
      return "passes";
    case kWrongResult:
      return "wrong result";
    case kRefused:
      return "refused";
    case 127:
      return "could not be run";
    default:
      return status < 128 ? "sanitizer" : "crash";
  }
}

}  // namespace

MOEPP_TEST(seeded_bug_child) {
  const char* name = getenv("SIMT_BUG");
  if (name == nullptr) return;
  for (const Seeded& seeded : kSeeded) {
    if (std::string(seeded.name) != name) continue;
    int worst = 0;
    for_each_schedule([&] { worst = std::max(worst, seeded.run()); });
    exit(worst);  // not past the sanitizer, which may have an exit status of its own to give
  }
  exit(127);
}

MOEPP_TEST(simt_seeded_bugs_are_noticed) {
  for (const Seeded& seeded : kSeeded) {
    const int status = run_child(seeded.name);
    std::printf("    %-36s %s\n", seeded.name, outcome(status));
    const bool right = seeded.noticed_by == 0 ? status == 0
                                              : (seeded.noticed_by & kThisBuild) == 0 ||
                                                    (status != 0 && status != 127);
    EXPECT_MESSAGE(right, std::string(seeded.name) + ": " + outcome(status));
  }
}

}  // namespace moepp::simt_test
