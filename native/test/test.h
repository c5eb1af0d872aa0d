// A test is a function registered by MOEPP_TEST; a program runs all of them, or those that its
// arguments name.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

namespace moepp::test {

// Emulated GPUs take minutes under sanitizers, which look at accesses, not at results. A way runs
// once, and under AddressSanitizer once more with bf16 inputs. Of a long table each type meets
// every so many-th case, and another type others.
#if defined(__SANITIZE_THREAD__)
constexpr size_t kStride = 8;
#elif defined(__SANITIZE_ADDRESS__)
constexpr size_t kStride = 5;
#else
constexpr size_t kStride = 1;
#endif
// A processor that is emulated, of another platform, is slow on every case.
#if defined(MOEPP_EMULATED)
constexpr size_t kCpuStride = 4;
#else
constexpr size_t kCpuStride = 1;
#endif
constexpr bool kFewCases = kStride > 5, kRepeats = kStride == 1;

struct Test {
  const char *name, *file;
  void (*run)();
};

std::vector<Test>& registry();
// Counts a failure of the running test and prints where.
void fail(const char* file, int line, const std::string& message);

// Tests whose names begin with simt_ or cuda_ run CUDA kernels.
enum class Wanted { kAll, kCpu, kGpu };

struct Selection {
  Wanted wanted = Wanted::kAll;
  std::string name;  // a part of it; all of it where `exact`
  bool exact = false, list = false;
};
// [--cpu | --gpu] [--list] [--exact NAME | part of a name]; false where that is not understood.
bool parse_selection(int argc, char** argv, Selection* selection);

// Prints the names of the tests selected where it says so, else runs them: what everything else is
// made of comes first. Returns 0 if there are any and all pass.
int run_tests(const Selection& selection);

struct Registration {
  Registration(const char* name, const char* file, void (*run)()) {
    registry().push_back({name, file, run});
  }
};

}  // namespace moepp::test

#define MOEPP_TEST(name)                                                                \
  static void name();                                                                   \
  static const ::moepp::test::Registration name##_registration(#name, __FILE__, &name); \
  static void name()

#define EXPECT(condition)                                                  \
  do {                                                                     \
    if (!(condition)) ::moepp::test::fail(__FILE__, __LINE__, #condition); \
  } while (0)

#define EXPECT_MESSAGE(condition, message)                                \
  do {                                                                    \
    if (!(condition)) ::moepp::test::fail(__FILE__, __LINE__, (message)); \
  } while (0)
