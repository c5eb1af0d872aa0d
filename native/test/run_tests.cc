#include <cstring>

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
}

static bool needs_gpu(const Test& test) {
  return std::strncmp(test.name, "simt_", 5) == 0 || std::strncmp(test.name, "cuda_", 5) == 0;
}

int run_tests(const char* name, Wanted wanted) {
  int passed = 0, failed = 0;
  for (const Test& test : registry()) {
    if (std::strstr(test.name, name) == nullptr) continue;
    if (wanted != Wanted::kAll && needs_gpu(test) != (wanted == Wanted::kGpu)) continue;
    failures = 0;
    test.run();
    std::printf("%s %s\n", failures == 0 ? "ok  " : "FAIL", test.name);
    std::fflush(stdout);
    (failures == 0 ? passed : failed)++;
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}

}  // namespace moepp::test
