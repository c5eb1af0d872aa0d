// A test is a function registered by MOEPP_TEST; a program runs all of them, or those whose name
// holds its argument.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

namespace moepp::test {

struct Test {
  const char* name;
  void (*run)();
};

std::vector<Test>& registry();
// Counts a failure of the running test and prints where.
void fail(const char* file, int line, const std::string& message);

// Tests whose names begin with simt_ or cuda_ run CUDA kernels.
enum class Wanted { kAll, kCpu, kGpu };
// Runs the tests wanted whose names hold `name`; 0 if there are any and all pass.
int run_tests(const char* name, Wanted wanted);

struct Registration {
  Registration(const char* name, void (*run)()) { registry().push_back({name, run}); }
};

}  // namespace moepp::test

#define MOEPP_TEST(name)                                                      \
  static void name();                                                         \
  static const ::moepp::test::Registration name##_registration(#name, &name); \
  static void name()

#define EXPECT(condition)                                                  \
  do {                                                                     \
    if (!(condition)) ::moepp::test::fail(__FILE__, __LINE__, #condition); \
  } while (0)

#define EXPECT_MESSAGE(condition, message)                                \
  do {                                                                    \
    if (!(condition)) ::moepp::test::fail(__FILE__, __LINE__, (message)); \
  } while (0)
