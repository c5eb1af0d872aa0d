#include "communicator.h"

namespace moepp::parallel {

std::string no_message(int from, int64_t deadline_ms) {
  return "no message from rank " + std::to_string(from) + " within " + std::to_string(deadline_ms) +
         " ms";
}

std::string rank_failed(int rank, const std::string& reason) {
  return "rank " + std::to_string(rank) + " failed: " + reason;
}

}  // namespace moepp::parallel
