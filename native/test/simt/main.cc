// moepp-simt-test [--list] [--exact NAME | part of a name]
#include "test.h"

int main(int argc, char** argv) {
  moepp::test::Selection selection;
  if (moepp::test::parse_selection(argc - 1, argv + 1, &selection))
    return moepp::test::run_tests(selection);
  std::fprintf(stderr,
               "moepp-simt-test [--cpu | --gpu] [--list] [--exact NAME | part of a name]\n");
  return 2;
}
