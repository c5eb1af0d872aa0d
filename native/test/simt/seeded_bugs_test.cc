// Runs each seeded bug in a process of its own, in every schedule, and looks how it ends: with a wrong result, with an error of
// the emulation, or stopped by a sanitizer. Correct kernels must pass in silence; each bug must be noticed by the builds that
// the table names. SIMT_BUG=name moepp-simt-test seeded_bug_child runs one.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "device_test.h"
#include "seeded_bugs.h"

namespace moepp::test {

namespace {

constexpr int kWrongResult = 10, kRefused = 11;  // exit statuses; a sanitizer's are others

// Whether the kernel ran and gave the right result.
int run_tiled(void (*kernel)(const bf16*, const bf16*, float*, int, int, int), size_t smem_bytes) {
  const size_t m = 40, n = 50, k = 136;
  Shared<bf16> a(m * k), b(n * k);
  Shared<float> c(m * n, NAN);
  for (size_t i = 0; i < a.size(); i++) a[i] = simt::to_bf16(static_cast<float>(small_integer(i, 1)));
  for (size_t i = 0; i < b.size(); i++) b[i] = simt::to_bf16(static_cast<float>(small_integer(i, 2)));
  const simt::Launch how = {dim3(2, 2), dim3(128), smem_bytes};
  const std::string text = run_kernel(kernel, how, a.data(), b.data(), c.data(), 40, 50, 136);
  if (!text.empty()) {
    std::printf("%s\n", text.c_str());
    return kRefused;
  }
  for (size_t i = 0; i < m * n; i++) {
    int sum = 0;
    for (size_t j = 0; j < k; j++) sum += small_integer(i / n * k + j, 1) * small_integer(i % n * k + j, 2);
    if (c[i] != static_cast<float>(sum)) return kWrongResult;
  }
  return 0;
}

int run_count(void (*kernel)(const float*, int, int*, int*)) {
  const size_t tokens = 23;
  Shared<float> logits(tokens * kChoices);
  Shared<int> best(tokens, -1), counts(kChoices);
  for (size_t i = 0; i < logits.size(); i++) {
    const size_t pair = i / (2 * kChoices) * kChoices + i % kChoices;  // the warps of a block see the same, and count the same
    logits[i] = static_cast<float>(static_cast<unsigned>(pair) * 2654435761u >> 16 & 255u);
  }
  const std::string text =
      run_kernel(kernel, {dim3(3), dim3(64), sizeof(CountSmem)}, logits.data(), 23, best.data(), counts.data());
  if (!text.empty()) {
    std::printf("%s\n", text.c_str());
    return kRefused;
  }
  int expected[kChoices] = {};
  for (size_t t = 0; t < tokens; t++) {
    int first = 0;
    for (int e = 1; e < kChoices; e++) {
      if (logits[t * kChoices + static_cast<size_t>(e)] > logits[t * kChoices + static_cast<size_t>(first)]) first = e;
    }
    expected[first]++;
    if (best[t] != first) return kWrongResult;
  }
  for (size_t e = 0; e < kChoices; e++) {
    if (counts[e] != expected[e]) return kWrongResult;
  }
  return 0;
}

int run_piped(void (*kernel)(TensorMap, TensorMap, TensorMap, int)) {
  using simt::Element;
  using simt::Swizzle;
  const size_t m = 100, k = 328;
  Shared<bf16> a(m * k), b(64 * k);
  Shared<float> c(m * 64, NAN);
  for (size_t i = 0; i < a.size(); i++) a[i] = simt::to_bf16(static_cast<float>(small_integer(i, 1)));
  for (size_t i = 0; i < b.size(); i++) b[i] = simt::to_bf16(static_cast<float>(small_integer(i, 2)));
  TensorMap ma, mb, mc;
  (void)simt::make_tensor_map(&ma, {a.data(), Element::kBf16, k, m, 2 * k, 64, 64, Swizzle::k128});
  (void)simt::make_tensor_map(&mb, {b.data(), Element::kBf16, k, 64, 2 * k, 64, 64, Swizzle::k128});
  (void)simt::make_tensor_map(&mc, {c.data(), Element::kF32, 64, m, 256, 32, 64, Swizzle::kNone});
  const std::string text = run_kernel(kernel, {dim3(2), dim3(160), sizeof(PipedSmem)}, ma, mb, mc, 328);
  if (!text.empty()) {
    std::printf("%s\n", text.c_str());
    return kRefused;
  }
  for (size_t i = 0; i < m * 64; i++) {
    int sum = 0;
    for (size_t j = 0; j < k; j++) sum += small_integer(i / 64 * k + j, 1) * small_integer(i % 64 * k + j, 2);
    if (c[i] != static_cast<float>(sum)) return kWrongResult;
  }
  return 0;
}

template <Bug bug>
int tiled() {
  return run_tiled(tiled_gemm<bug>, bug == Bug::kShortSmem ? sizeof(TiledSmem) - 128 : sizeof(TiledSmem));
}
template <Bug bug>
int counting() {
  return run_count(count_best<bug>);
}
template <Bug bug>
int piped() {
  return run_piped(piped_gemm<bug>);
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
};

// The exit status of this program running one bug; its output is dropped unless SIMT_VERBOSE is set.
int run_child(const char* name) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    setenv("SIMT_BUG", name, 1);
    if (getenv("SIMT_VERBOSE") == nullptr) {
      (void)!freopen("/dev/null", "w", stdout);
      (void)!freopen("/dev/null", "w", stderr);
    }
    execl("/proc/self/exe", "moepp-simt-test", "seeded_bug_child", nullptr);
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
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
    const bool right =
        seeded.noticed_by == 0 ? status == 0 : (seeded.noticed_by & kThisBuild) == 0 || (status != 0 && status != 127);
    EXPECT_MESSAGE(right, std::string(seeded.name) + ": " + outcome(status));
  }
}

}  // namespace moepp::test
