// The experts of a layer by kind, in their order: runs of experts of one kind. Plain data, so that
// it is an argument of kernels.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define MOEPP_HOST_DEVICE __host__ __device__
#else
#define MOEPP_HOST_DEVICE
#endif

namespace moepp {

// ffn: an MLP. constant: f(y) = a_0 y + a_1 v, with a the softmax of two scores of y. copy:
// f(y) = y. zero: f(y) = 0.
enum class ExpertKind : int32_t { kFfn = 0, kConstant = 1, kCopy = 2, kZero = 3 };

constexpr int kExpertKinds = 4, kMostExperts = 1024, kMostExpertRuns = 8, kMostChosen = 16;

struct ExpertRuns {
  // An expert's kind, and how many of its kind are before it.
  struct Place {
    ExpertKind kind;
    int32_t rank;
  };
  int32_t used = 0, experts = 0;
  int32_t counts[kExpertKinds] = {};

  // False where there is no place: too many runs or experts, or a count below 0.
  bool append(ExpertKind kind, int32_t count) {
    if (used == kMostExpertRuns || count < 0 || count > kMostExperts - experts) return false;
    if (count == 0) return true;
    int32_t& of_kind = counts[static_cast<int>(kind)];
    kinds[used] = kind;
    ranks[used] = of_kind - experts;
    for (int i = used; i < kMostExpertRuns; i++) ends[i] = experts + count;
    used++;
    of_kind += count;
    experts += count;
    return true;
  }

  MOEPP_HOST_DEVICE int32_t count(ExpertKind kind) const { return counts[static_cast<int>(kind)]; }
  MOEPP_HOST_DEVICE Place place_of(int32_t expert) const {
    int run = 0;
#if defined(__CUDA_ARCH__)  // the host's compiler does not know it
#pragma unroll
#endif
    for (int i = 0; i + 1 < kMostExpertRuns; i++) run += expert >= ends[i] ? 1 : 0;
    return {kinds[run], expert + ranks[run]};
  }
  MOEPP_HOST_DEVICE ExpertKind kind_of(int32_t expert) const {
    return place_of(expert).kind;
  }
  MOEPP_HOST_DEVICE int32_t rank_in_kind(int32_t expert) const {
    return place_of(expert).rank;
  }

 private:
  ExpertKind kinds[kMostExpertRuns] = {};
  int32_t ends[kMostExpertRuns] = {};   // the first expert after the run; of all, where unused
  int32_t ranks[kMostExpertRuns] = {};  // what makes an expert's rank of its index
};

}  // namespace moepp
