// moepp-simt-test [part of a name]
#include "test.h"

int main(int argc, char** argv) {
  return moepp::test::run_tests(argc > 1 ? argv[1] : "", moepp::test::Wanted::kAll);
}
