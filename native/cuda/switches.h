// MOEPP_CUDA_DEBUG switches parts of the device off, to find a fault on a GPU without building
// anew. One word switches a part on, which no card has shown to gain.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "status.h"

namespace moepp::cuda {

struct Switches {
  bool no_pdl = false;       // programmatic launches: a kernel starts when the one before has ended
  bool no_graph = false;     // recorded steps: every kernel is launched anew
  bool no_prefetch = false;  // hints that bring weights into L2 before they are needed
  bool no_wgmma = false;     // Hopper's products: mma.sync instead
  bool no_split = false;     // attention split over the context, in steps of few tokens
  bool no_fuse = false;      // ops of one token in the kernel of the product before them
  bool no_bf16 = false;      // bf16 between an op and the products that round it: f32 instead
  bool sync = false;  // the host waits after every kernel, so a fault names its op; no graphs

  bool persistent = false;  // one kernel for many ops of a decode step (kernels/persistent/), on

  static constexpr const char* kNames =
      "no-pdl, no-graph, no-prefetch, no-wgmma, no-split, no-fuse, no-bf16, sync, persistent";

  bool* find(const std::string& word) {
    if (word == "no-pdl") return &no_pdl;
    if (word == "no-graph") return &no_graph;
    if (word == "no-prefetch") return &no_prefetch;
    if (word == "no-wgmma") return &no_wgmma;
    if (word == "no-split") return &no_split;
    if (word == "no-fuse") return &no_fuse;
    if (word == "no-bf16") return &no_bf16;
    if (word == "sync") return &sync;
    if (word == "persistent") return &persistent;
    return nullptr;
  }
};

// The words of MOEPP_CUDA_DEBUG, which commas separate, as they were given.
inline std::vector<std::string> debug_words() {
  std::vector<std::string> words;
  const char* setting = std::getenv("MOEPP_CUDA_DEBUG");
  std::string text = setting != nullptr ? setting : "";
  for (size_t at = 0; at < text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    if (comma > at) words.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return words;
}

// kUnsupported for a word that means nothing: a typing error must not look like a measurement.
inline Status read_switches(const std::vector<std::string>& words, Switches* switches) {
  for (const std::string& word : words) {
    bool* found = switches->find(word);
    if (found == nullptr) {
      return Status::error(Code::kUnsupported, "MOEPP_CUDA_DEBUG holds " + word +
                                                   ", expected some of " + Switches::kNames +
                                                   ", separated by commas");
    }
    *found = true;
  }
  return {};
}

// kUnsupported where one kernel for many ops has no code: the word must not be ignored.
inline Status check_persistent(const std::string& device, int compiled_capability) {
  if (compiled_capability >= 90) return {};
  return Status::error(Code::kUnsupported,
                       device + ": MOEPP_CUDA_DEBUG holds persistent, which needs kernels for " +
                           "sm_90 or newer; these are for sm_" +
                           std::to_string(compiled_capability));
}

}  // namespace moepp::cuda
