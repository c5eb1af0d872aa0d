// The GEMMs stay within their buffers, whatever the bytes of the weights are. Buffers end where no
// one may read: no sanitizer watches tile loads.
#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <memory>
#include <random>
#include <vector>

#include "cpu/isa/isa.h"
#include "weights/panels.h"
#include "host/thread_pool.h"
#include "reference_gemm.h"
#include "test.h"

namespace moepp::test {

using cpu::Isa;

// `usable` bytes of whole pages between two that no one may touch; the first of these.
#if defined(_WIN32)
constexpr size_t kPage = 4096;
static char* fenced_pages(size_t usable) {
  char* base =
      static_cast<char*>(VirtualAlloc(nullptr, usable + 2 * kPage, MEM_RESERVE, PAGE_NOACCESS));
  VirtualAlloc(base + kPage, usable, MEM_COMMIT, PAGE_READWRITE);
  return base;
}
static void release_fenced(char* base, size_t) {
  VirtualFree(base, 0, MEM_RELEASE);
}
#else
static const size_t kPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));
static char* fenced_pages(size_t usable) {
  char* base = static_cast<char*>(
      mmap(nullptr, usable + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  mprotect(base + kPage, usable, PROT_READ | PROT_WRITE);
  return base;
}
static void release_fenced(char* base, size_t usable) {
  munmap(base, usable + 2 * kPage);
}
#endif

// n elements between pages that no one may touch; the last ends where a page does.
template <class T>
class Fenced {
 public:
  explicit Fenced(int64_t n) : n_(static_cast<size_t>(n)) {
    const size_t bytes = n_ * sizeof(T);
    usable_ = (bytes + kPage - 1) / kPage * kPage;
    base_ = fenced_pages(usable_);
    before_ = usable_ - bytes;
    data_ = reinterpret_cast<T*>(base_ + kPage + before_);
  }
  ~Fenced() { release_fenced(base_, usable_); }
  Fenced(const Fenced&) = delete;
  Fenced& operator=(const Fenced&) = delete;
  T* data() { return data_; }
  // True if the rest of the first page is still zeros.
  bool intact() const {
    const char* rest = reinterpret_cast<const char*>(data_) - before_;
    for (size_t i = 0; i < before_; i++) {
      if (rest[i] != 0) return false;
    }
    return true;
  }

 private:
  size_t n_, usable_, before_;
  char* base_;
  T* data_;
};

MOEPP_TEST(linear_stays_within_its_buffers) {
  ThreadPool two(2);
  const int64_t token_counts[] = {1, 2, 15, 16, 17, 33, 130};
  for (int64_t inputs : {1, 2, 15, 31, 32, 33, 63, 64, 65, 96, 129, 1543}) {
    std::vector<std::unique_ptr<Fenced<float>>> x;
    for (int64_t tokens : token_counts) {
      x.push_back(std::make_unique<Fenced<float>>(tokens * inputs));
      fill(x.back()->data(), tokens * inputs, 6);
    }
    for (const GemmKind& kind : kGemmKinds) {
      for (int64_t outputs : {1, 32, 33, 64, 65, 97, 129}) {
        Fenced<char> weight(panel_count(Layout::kMatrix, outputs) *
                            panel_bytes(kind.dtype, inputs));
        fill_panels(weight.data(), kind.dtype, Layout::kMatrix, 1, outputs, inputs, 5, 1.0f);
        const Tensor wt = tensor(weight.data(), kind.dtype, {outputs, inputs}, Layout::kMatrix);
        for (size_t i = 0; i < x.size(); i++) {
          const int64_t tokens = token_counts[i];
          Fenced<float> out(tokens * outputs);
          const Tensor xt = tensor(x[i]->data(), DType::kF32, {tokens, inputs});
          Tensor ot = tensor(out.data(), DType::kF32, {tokens, outputs});
          for (const Isa& isa : cpu::available_isas()) {
            isa.kernels->linear({&xt, &wt, &ot, Activation::kNone, kind.may_round_x}, two);
            EXPECT_MESSAGE(out.intact(), std::string(isa.name) + " " + kind.name());
          }
        }
      }
    }
  }
}

// Contents that no quantising makes and a damaged file may hold. They are q = -128, multipliers of
// 0, scales that are negative, infinite or NaN, and padding that is not zero, in rows and in k.
static void fill_any(void* weight, int64_t bytes) {
  std::mt19937 random(17);
  auto* at = static_cast<unsigned char*>(weight);
  for (int64_t i = 0; i < bytes; i++) {
    const uint32_t draw = random();
    at[i] = draw % 8 == 0 ? 0 : draw % 8 == 1 ? 0xff : static_cast<unsigned char>(draw >> 24);
  }
}

// NaN in the same places, else the same bits: integers are exact, and so what is made of them is
// the same on all sets.
static int64_t differing(const float* a, const float* b, int64_t n) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; i++)
    count += (std::isnan(a[i]) && std::isnan(b[i])) || same_bits(a + i, b + i, 4) ? 0 : 1;
  return count;
}

MOEPP_TEST(linear_takes_any_bytes_as_quantised_weights) {
  ThreadPool two(2);
  for (DType dtype : {DType::kI8, DType::kI4}) {
    for (int64_t inputs : {1, 60, 128, 300}) {
      for (int64_t outputs : {1, 33, 75}) {
        const int64_t bytes = panel_count(Layout::kMatrix, outputs) * panel_bytes(dtype, inputs);
        Fenced<char> weight(bytes);
        fill_any(weight.data(), bytes);
        for (int64_t tokens : {1, 3, 12, 33, 70}) {
          Fenced<float> x(tokens * inputs);
          fill(x.data(), tokens * inputs, 6);
          std::vector<float> expected;
          for (size_t i = cpu::available_isas().size(); i-- > 0;) {  // scalar first
            const Isa& isa = cpu::available_isas()[i];
            Fenced<float> out(tokens * outputs);
            const Tensor xt = tensor(x.data(), DType::kF32, {tokens, inputs});
            const Tensor wt = tensor(weight.data(), dtype, {outputs, inputs}, Layout::kMatrix);
            Tensor ot = tensor(out.data(), DType::kF32, {tokens, outputs});
            isa.kernels->linear({&xt, &wt, &ot, Activation::kNone}, two);
            if (expected.empty()) expected.assign(out.data(), out.data() + tokens * outputs);
            EXPECT_MESSAGE(
                out.intact() && differing(out.data(), expected.data(), tokens * outputs) == 0,
                std::string(isa.name) + " " + dtype_name(dtype) + " T=" + std::to_string(tokens) +
                    " I=" + std::to_string(inputs) + " O=" + std::to_string(outputs));
          }
        }
      }
    }
  }
}

// Two experts with SwiGLU; the second has all rows. Its exponential may differ in the last bits
// between sets. So each set is compared with itself: a row alone.
MOEPP_TEST(grouped_gemm_takes_any_bytes_as_quantised_weights) {
  constexpr int64_t kInputs = 300, kColumns = 37;
  ThreadPool two(2);
  for (DType dtype : {DType::kI8, DType::kI4}) {
    const int64_t bytes =
        2 * panel_count(Layout::kGateUp, 2 * kColumns) * panel_bytes(dtype, kInputs);
    Fenced<char> weight(bytes);
    fill_any(weight.data(), bytes);
    const Tensor wt = tensor(weight.data(), dtype, {2, 2 * kColumns, kInputs}, Layout::kGateUp);
    for (const Isa& isa : cpu::available_isas()) {
      const auto run = [&](float* x, float* out, int64_t tokens) {
        int32_t offsets[3] = {0, 0, static_cast<int32_t>(tokens)};
        const Tensor xt = tensor(x, DType::kF32, {tokens, 1, kInputs}),
                     st = tensor(offsets, DType::kI32, {3});
        Tensor ot = tensor(out, DType::kF32, {tokens, 1, kColumns});
        isa.kernels->grouped_gemm({&xt, &st, nullptr, &wt, &ot, 1.0f, Activation::kSwiglu}, two);
      };
      for (int64_t tokens : {1, 13, 70}) {
        Fenced<float> x(tokens * kInputs), out(tokens * kColumns), last(kColumns);
        fill(x.data(), tokens * kInputs, 6);
        run(x.data(), out.data(), tokens);
        run(x.data() + (tokens - 1) * kInputs, last.data(), 1);
        EXPECT_MESSAGE(
            out.intact() &&
                differing(out.data() + (tokens - 1) * kColumns, last.data(), kColumns) == 0,
            std::string(isa.name) + " " + dtype_name(dtype) + " T=" + std::to_string(tokens));
      }
    }
  }
}

}  // namespace moepp::test
