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

}  // namespace moepp::test

int main(int argc, char** argv) {
  using namespace moepp::test;
  int passed = 0, failed = 0;
  for (const Test& test : registry()) {
    if (argc > 1 && std::strstr(test.name, argv[1]) == nullptr) continue;
    failures = 0;
    test.run();
    std::printf("%s %s\n", failures == 0 ? "ok  " : "FAIL", test.name);
    std::fflush(stdout);
    (failures == 0 ? passed : failed)++;
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}
