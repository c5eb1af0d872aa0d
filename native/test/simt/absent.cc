// In place of gpu_ways.cu in a program without CUDA kernels.
#include "op_test.h"
#include "ranks.h"

namespace moepp::test::gpu {

const bool kHere = false, kAlone = false;

std::vector<Target> targets(std::initializer_list<int>) {
  return {};
}
std::vector<Way<LinearArgs>> ways(Device&, const LinearArgs&, int) {
  return {};
}
std::vector<Way<GroupedGemmArgs>> ways(Device&, const GroupedGemmArgs&, int) {
  return {};
}
std::vector<Way<HeadLinearArgs>> ways(Device&, const HeadLinearArgs&) {
  return {};
}
std::vector<Way<AttentionArgs>> ways(Device&, const AttentionArgs&) {
  return {};
}
std::vector<Way<RouterLogitsArgs>> ways(Device&, const RouterLogitsArgs&) {
  return {};
}
std::vector<Way<NormRouteTopKArgs>> ways(Device&, const NormRouteTopKArgs&) {
  return {};
}
std::vector<Way<TopLogitsArgs>> ways(Device&, const TopLogitsArgs&) {
  return {};
}
Inputs chosen_inputs(Device&, const LinearArgs&) {
  return Inputs::kExact;
}
Inputs chosen_inputs(Device&, const GroupedGemmArgs&) {
  return Inputs::kExact;
}
Inputs chosen_inputs(Device&, const HeadLinearArgs&) {
  return Inputs::kExact;
}
std::vector<std::shared_ptr<Device>> rank_devices(int) {
  return {};
}
void count_messages(parallel::Group&) {}
int schedules() {
  return 1;
}
void use_schedule(int) {}

}  // namespace moepp::test::gpu
