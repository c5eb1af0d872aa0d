#include <algorithm>
#include <cstring>
#include <exception>

#include "test.h"

namespace moepp::test {

static int failures = 0;

std::vector<Test>& registry() {
  static std::vector<Test> tests;
  return tests;
}

void fail(const char* file, int line, const std::string& message) {
  failures++;
  std::printf("    %s:%d: %s\n", file, line, message.c_str());
  std::fflush(stdout);  // it may be the last thing before a crash
}

bool parse_selection(int argc, char** argv, Selection* selection) {
  for (int i = 0; i < argc; i++) {
    const std::string argument = argv[i];
    if (argument == "--cpu" || argument == "--gpu") {
      selection->wanted = argument == "--cpu" ? Wanted::kCpu : Wanted::kGpu;
    } else if (argument == "--list") {
      selection->list = true;
    } else if (argument == "--exact") {
      selection->exact = true;
    } else if (argument.empty() || argument[0] == '-' || !selection->name.empty()) {
      return false;
    } else {
      selection->name = argument;
    }
  }
  return !selection->exact || !selection->name.empty();
}

static bool needs_gpu(const Test& test) {
  return std::strncmp(test.name, "simt_", 5) == 0 || std::strncmp(test.name, "cuda_", 5) == 0;
}

static bool is_selected(const Test& test, const Selection& selection) {
  const bool named = selection.exact ? selection.name == test.name
                                     : std::strstr(test.name, selection.name.c_str()) != nullptr;
  return named && (selection.wanted == Wanted::kAll ||
                   needs_gpu(test) == (selection.wanted == Wanted::kGpu));
}

// A GPU's instructions, then ops, then the device and whole steps: the first failure is the one to
// look at.
static int rank(const Test& test) {
  static const char* const kFirst[] = {"/warp_test", "/copy_test",      "/mma_test",
                                       "/tma_test",  "/pipelines_test", "/convert_test"};
  static const char* const kLast[] = {"/cuda_device_test", "/step_order_test"};
  int rank = 0;
  for (const char* file : kFirst) {
    if (std::strstr(test.file, file) != nullptr) return rank;
    rank++;
  }
  for (const char* file : kLast) {
    rank++;
    if (std::strstr(test.file, file) != nullptr) return rank;
  }
  return static_cast<int>(std::size(kFirst));
}

static std::vector<Test> select(const Selection& selection) {
  std::vector<Test> tests;
  for (const Test& test : registry()) {
    if (is_selected(test, selection)) tests.push_back(test);
  }
  std::stable_sort(tests.begin(), tests.end(),
                   [](const Test& a, const Test& b) { return rank(a) < rank(b); });
  return tests;
}

static bool passes(const Test& test) {
  failures = 0;
  try {
    test.run();
  } catch (const std::exception& error) {
    fail(test.file, 0, std::string("exception: ") + error.what());
  }
  return failures == 0;
}

int run_tests(const Selection& selection) {
  const std::vector<Test> tests = select(selection);
  if (tests.empty()) {
    std::fprintf(stderr, "there is no such test: %s (--list names them)\n", selection.name.c_str());
    return 1;
  }
  int failed = 0;
  for (const Test& test : tests) {
    if (selection.list) {
      std::printf("%s\n", test.name);
      continue;
    }
    const bool passed = passes(test);
    std::printf("%s %s\n", passed ? "ok  " : "FAIL", test.name);
    std::fflush(stdout);
    failed += passed ? 0 : 1;
  }
  if (!selection.list)
    std::printf("%d passed, %d failed\n", static_cast<int>(tests.size()) - failed, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace moepp::test
