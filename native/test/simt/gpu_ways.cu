// The GPUs, and the kernels of an op on them, that the tests of ops run on.
#include <map>
#include <utility>

#include "cuda/kernels/attention/attention.h"
#include "cuda/kernels/grouped_gemm/gemm.h"
#include "cuda/kernels/kernels.h"
#include "cuda/status_of.h"
#include "op_test.h"
#include "opened_device.h"

namespace moepp::test::gpu {

using cuda::GemmKernel;

const bool kHere = true;
const bool kAlone = SIMT_EMULATED;

// Few multiprocessors, so that small steps take every path that large ones take on a card.
constexpr int kMultiprocessors = 4;

// Opened once and kept: a device's workspace alone is 32 MiB, which sanitizers shadow.
static const std::shared_ptr<Device>& device_of(int capability) {
#if SIMT_EMULATED
  const simt_test::OtherGpu other;
  simt::emu::Gpu& gpu = simt::emu::gpu();
  gpu.major = capability / 10, gpu.minor = capability % 10, gpu.multiprocessors = kMultiprocessors;
  if (capability == 90) gpu.block_shared_bytes = 227 << 10;
  const int compiled = gpu.compiled;
#else
  const int compiled = 0;
#endif
  static auto& devices = *new std::map<std::pair<int, int>, std::shared_ptr<Device>>();
  std::shared_ptr<Device>& device = devices[{capability, compiled}];
  if (device == nullptr) device = simt_test::opened();
  return device;
}

std::vector<Target> targets(std::initializer_list<int> capabilities) {
  std::vector<int> wanted(capabilities);
  if (wanted.empty() || simt_test::is_one_card()) wanted = {simt_test::newest_capability()};
  std::vector<Target> found;
  for (const int capability : wanted) {
    const std::shared_ptr<Device>& device = device_of(capability);
    found.push_back({device->info().isa, device});
  }
  return found;
}

int schedules() {
  return SIMT_EMULATED ? 6 : 1;
}

void use_schedule([[maybe_unused]] int number) {
#if SIMT_EMULATED
  using simt::emu::Async;
  using simt::emu::Order;
  constexpr Order kOrders[] = {Order::kForward, Order::kReverse, Order::kRandom};
  simt::emu::options = {kOrders[number % 3], number < 3 ? Async::kLazy : Async::kEager, 7};
#endif
}

// A way that launches with a queue of its own.
template <class Args, class Launch>  // launch(args, queue)
Way<Args> with_queue(const std::string& name, int multiprocessors, cuda::Compiled compiled,
                     const Launch& launch) {
  Way<Args> way;
  way.name = name;
  way.run = [=](Device& device, const Args& args) {
    cuda::CudaQueue queue(cuda::CudaQueue::from(device.queue()).stream(), multiprocessors,
                          compiled);
    launch(args, queue);
    return cuda::status_of(queue.take_error(), device.info().name);
  };
  return way;
}

static const char* kernel_name(GemmKernel kernel) {
  constexpr const char* names[] = {"f32", "decode", "few rows", "sm80", "sm90"};
  return names[static_cast<int>(kernel)];
}
// The kernels for such weights.
static std::vector<GemmKernel> kernels_for(DType dtype) {
  if (dtype == DType::kF32) return {GemmKernel::kF32, GemmKernel::kDecode};
  std::vector<GemmKernel> kernels = {GemmKernel::kF32, GemmKernel::kDecode, GemmKernel::kFewRows,
                                     GemmKernel::kSm80};
  if (dtype == DType::kBf16) kernels.push_back(GemmKernel::kSm90);
  return kernels;
}
static bool rounds_activations(GemmKernel kernel) {
  return kernel != GemmKernel::kF32 && kernel != GemmKernel::kDecode;
}
// The capabilities of chips for which the kernel is another one (sm80.cu); of a card its own.
static std::vector<int> chips_for(GemmKernel kernel, DType dtype) {
  if (simt_test::is_one_card()) {
    const int chip = simt_test::newest_capability();
    const bool able = kernel == GemmKernel::kSm90 ? simt_test::has_wgmma()
                                                  : !rounds_activations(kernel) || chip >= 80;
    return able ? std::vector<int>{chip} : std::vector<int>{};
  }
  if (kernel == GemmKernel::kSm90) return {90};
  if (kernel == GemmKernel::kSm80 && dtype == DType::kBf16) return {80, 86};
  return {86};
}

// Every kernel of products for such weights, on every chip that has another one.
template <class Args>
static std::vector<Way<Args>> product_ways(const Args& args, int multiprocessors) {
  std::vector<Way<Args>> ways;
  for (const GemmKernel kernel : kernels_for(args.weight->dtype)) {
    const bool wide = kernel == GemmKernel::kSm80 || kernel == GemmKernel::kSm90;
    if (wide && args.activation == Activation::kTanh) continue;  // no model has it
    for (const int chip : chips_for(kernel, args.weight->dtype)) {
      Way<Args> way =
          with_queue<Args>(std::string(kernel_name(kernel)) + " of " + std::to_string(chip),
                           multiprocessors, chip, [kernel](const Args& a, cuda::CudaQueue& queue) {
                             cuda::run_gemm(cuda::gemm_of(a), kernel, queue);
                           });
      way.reads_bf16 = rounds_activations(kernel);
      way.inputs = way.reads_bf16 ? Inputs::kRounded : Inputs::kExact;
      ways.push_back(way);
    }
  }
  return ways;
}
std::vector<Way<LinearArgs>> ways(Device&, const LinearArgs& args, int multiprocessors) {
  return product_ways(args, multiprocessors);
}
std::vector<Way<GroupedGemmArgs>> ways(Device&, const GroupedGemmArgs& args, int multiprocessors) {
  return product_ways(args, multiprocessors);
}

// Tiles of several tokens, and blocks of several chunks, for steps that are small beside the card.
template <class Args>
Way<Args> with_few_multiprocessors(const std::string& name, Device& device,
                                   void (*op)(const Args&, Queue&)) {
  const cuda::Compiled compiled = cuda::CudaQueue::from(device.queue()).compiled();
  return with_queue<Args>(name, kMultiprocessors, compiled,
                          [op](const Args& args, cuda::CudaQueue& queue) { op(args, queue); });
}

// Room for the partial results of so many units of attention; poison at first.
static std::shared_ptr<Block> workspace_for(Device& device, const AttentionArgs& args,
                                            int64_t units) {
  const KvView& kv = *args.cache;
  int64_t chunks = (args.page_table->shape[1] * kv.page_size + cuda::kChunk - 1) / cuda::kChunk;
  if (args.window > 0)  // what it may touch
    chunks = std::min(chunks, (int64_t{args.window} + cuda::kChunk - 2) / cuda::kChunk + 1);
  const int64_t bytes = units * args.q->shape[1] * chunks * (kv.value_dim + 2) * 4;
  struct Room {
    Arena arena;
    Block block;
    Room(Device& device, int64_t bytes)
        : arena({std::shared_ptr<Device>(), &device}, Guard::kMargins), block(arena, bytes) {}
    ~Room() {
      if (arena.device().fault().ok() && !block.margins_intact())
        fail(__FILE__, __LINE__, "touched memory beside the workspace");
    }
  };
  const auto room = std::make_shared<Room>(device, bytes);
  return {room, &room->block};
}

// Split contexts, in several launches; whole ones, without room to split them; and the device's
// choice.
std::vector<Way<AttentionArgs>> ways(Device& device, const AttentionArgs& args) {
  const auto whole = with_few_multiprocessors("whole", device, &cuda::attention);
  const auto split = with_queue<AttentionArgs>(
      "split", kMultiprocessors, cuda::CudaQueue::from(device.queue()).compiled(),
      [room = workspace_for(device, args, 3)](const AttentionArgs& a, cuda::CudaQueue& queue) {
        queue.set_workspace(room->device(), room->bytes());
        cuda::attention(a, queue);
      });
  std::vector<Way<AttentionArgs>> ways = {split, whole, own_way<AttentionArgs>()};
  ways[1].same_bits = ways[2].same_bits = true;
  return ways;
}

std::vector<Way<RouterLogitsArgs>> ways(Device& device, const RouterLogitsArgs&) {
  return {with_few_multiprocessors("", device, &cuda::router_logits)};
}

// Fails where the queue's counters are not left at zero.
Status check_counters(const cuda::CudaQueue& queue) {
  std::vector<unsigned> counters(cuda::CudaQueue::kCounters);
  const simt::Error errors[] = {
      simt::copy_to_host(counters.data(), queue.counters(), 4 * counters.size(), queue.stream()),
      simt::synchronize(queue.stream())};
  for (const simt::Error error : errors)
    if (error != simt::kSuccess) return Status::error(Code::kDevice, simt::error_text(error));
  const bool zero =
      std::all_of(counters.begin(), counters.end(), [](unsigned c) { return c == 0; });
  return zero ? Status() : Status::error(Code::kDevice, "a counter is left");
}
// The device's choice, which leaves the counters at zero.
template <class Args>
static Way<Args> counted_way() {
  Way<Args> counted = own_way<Args>();
  counted.name = "counters";
  counted.run = [own = counted.run](Device& d, const Args& args) {
    const Status status = own(d, args);
    return status.ok() ? check_counters(cuda::CudaQueue::from(d.queue())) : status;
  };
  return counted;
}
// With counters the last block sorts.
std::vector<Way<NormRouteTopKArgs>> ways(Device& device, const NormRouteTopKArgs&) {
  return {counted_way<NormRouteTopKArgs>(),
          with_few_multiprocessors("no counters", device, &cuda::norm_route_top_k)};
}

// The second has room for one row a launch.
std::vector<Way<TopLogitsArgs>> ways(Device& device, const TopLogitsArgs&) {
  const auto& own = cuda::CudaQueue::from(device.queue());
  Way<TopLogitsArgs> one_by_one =
      with_queue<TopLogitsArgs>("one by one", kMultiprocessors, own.compiled(),
                                [&own](const TopLogitsArgs& args, cuda::CudaQueue& queue) {
                                  const int64_t v = args.logits->shape[1];
                                  const int64_t bytes = (v / 32 + 1) * 4 + (v / 2048 + 1) * 16;
                                  queue.set_workspace(own.workspace(bytes), bytes);
                                  queue.set_counters(own.counters());
                                  cuda::top_logits(args, queue);
                                });
  one_by_one.same_bits = true;
  return {counted_way<TopLogitsArgs>(), one_by_one};
}

}  // namespace moepp::test::gpu
