#pragma once

namespace moepp::bench {

int run_expert_forward(int argc, char** argv);

}  // namespace moepp::bench
