// The GPUs, and the kernels of an op on them, that the tests of ops run on.
#include <map>
#include <utility>

#include "cuda/kernels/attention/attention.h"
#include "cuda/kernels/grouped_gemm/gemm.h"
#include "cuda/kernels/kernels.h"
#include "cuda/rank_link.h"
#include "cuda/status_of.h"
#include "op_test.h"
#include "ranks.h"
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
  if (capability == 90) gpu.block_shared_bytes = size_t{227} << 10;
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

std::vector<std::shared_ptr<Device>> rank_devices(int ranks) {
  static auto& devices = *new std::vector<std::shared_ptr<Device>>();
#if SIMT_EMULATED
  const bool enough = true;  // one is shared by all
#else
  int count = 0;
  const bool enough = simt::count_devices(&count) == simt::kSuccess && count >= ranks;
#endif
  if (!enough) return {};
  while (static_cast<int>(devices.size()) < ranks) {
    std::shared_ptr<Device> device;
    must(open_cuda_device(SIMT_EMULATED ? 0 : static_cast<int>(devices.size()), &device));
    devices.push_back(std::move(device));
  }
  return {devices.begin(), devices.begin() + ranks};
}

void count_messages(parallel::Group& group) {
  static_cast<cuda::RankLink*>(group.link())->set_whole_bytes(0);
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

// The shared memory of a block of such a chip; of a card its own.
static size_t block_shared_bytes(int capability, Device& device) {
  if (!SIMT_EMULATED) return cuda::CudaQueue::from(device.queue()).block_shared_bytes();
  const bool large = capability == 90 || capability == 100;
  return size_t{large ? 227u : capability == 80 ? 163u : capability == 75 ? 64u : 99u} << 10;
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
    queue.set_block_shared_bytes(block_shared_bytes(compiled.capability, device));
    launch(args, queue);
    return cuda::status_of(queue.take_error(), device.info().name);
  };
  return way;
}

// A workspace of so many bytes; poison at first.
static std::shared_ptr<Block> workspace_of(Device& device, int64_t bytes) {
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

static const char* kernel_name(GemmKernel kernel) {
  constexpr const char* names[] = {"f32", "decode", "few rows", "sm80", "sm90"};
  return names[static_cast<int>(kernel)];
}
// The kernels for such weights.
static std::vector<GemmKernel> kernels_for(DType dtype) {
  if (dtype == DType::kF32) return {GemmKernel::kF32, GemmKernel::kDecode};
  std::vector<GemmKernel> kernels = {GemmKernel::kF32, GemmKernel::kDecode, GemmKernel::kFewRows,
                                     GemmKernel::kSm80};
  if (dtype == DType::kBf16 || dtype == DType::kF8) kernels.push_back(GemmKernel::kSm90);
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
  if (kernel == GemmKernel::kSm80 && dtype == DType::kF8) return {86, 89};
  return {86};
}

// Just enough for rows of k elements as e4m3 with their scales.
static std::shared_ptr<Block> room_for_float8(Device& device, int64_t rows, int64_t k) {
  return workspace_of(device, (rows + 3) / 4 * 4 * ((k + 127) / 128) * (128 + 4));
}
// A kernel's treatment of x.
static Inputs inputs_of(GemmKernel kernel, const cuda::Gemm& gemm, const cuda::CudaQueue& queue) {
  if (!rounds_activations(kernel)) return Inputs::kExact;
  return multiplies_float8(gemm, kernel, queue) ? Inputs::kFloat8 : Inputs::kRounded;
}

// Every kernel of products for such weights, on every chip that has another one. The workspace
// holds a tile's rows of x, so that more of them come part by part.
template <class Args>
static std::vector<Way<Args>> product_ways(Device& device, const Args& args, int multiprocessors) {
  std::vector<Way<Args>> ways;
  const bool is_float8 = args.weight->dtype == DType::kF8;
  const int64_t k = args.weight->shape[args.weight->rank - 1], rows = args.x->elements() / k;
  const auto tile = is_float8 ? room_for_float8(device, 128, k)
                              : workspace_of(device, 128 * 2 * (k + 7) / 8 * 8),
             all = is_float8 ? room_for_float8(device, rows, k) : tile;
  for (const GemmKernel kernel : kernels_for(args.weight->dtype)) {
    const bool wide = kernel == GemmKernel::kSm80 || kernel == GemmKernel::kSm90;
    if (wide && cuda::gemm_of(args).activation == Activation::kTanh) continue;  // no model has it
    for (const int chip : chips_for(kernel, args.weight->dtype)) {
      const auto room = kernel == GemmKernel::kSm90 ? tile : all;
      Way<Args> way = with_queue<Args>(
          std::string(kernel_name(kernel)) + " of " + std::to_string(chip), multiprocessors, chip,
          [kernel, room](const Args& a, cuda::CudaQueue& queue) {
            queue.set_workspace(room->device(), room->bytes());
            cuda::run_gemm(cuda::gemm_of(a), kernel, queue);
          });
      cuda::CudaQueue queue(nullptr, multiprocessors, chip);
      queue.set_workspace(room->device(), room->bytes());
      way.reads_bf16 = rounds_activations(kernel);
      way.inputs = inputs_of(kernel, cuda::gemm_of(args), queue);
      ways.push_back(way);
    }
  }
  return ways;
}
std::vector<Way<LinearArgs>> ways(Device& device, const LinearArgs& args, int multiprocessors) {
  return product_ways(device, args, multiprocessors);
}
std::vector<Way<GroupedGemmArgs>> ways(Device& device, const GroupedGemmArgs& args,
                                       int multiprocessors) {
  return product_ways(device, args, multiprocessors);
}
std::vector<Way<HeadLinearArgs>> ways(Device& device, const HeadLinearArgs& args) {
  return product_ways(device, args, 2);
}

template <class Args>
static Inputs chosen(Device& device, const Args& args) {
  const auto& queue = cuda::CudaQueue::from(device.queue());
  const cuda::Gemm gemm = cuda::gemm_of(args);
  return inputs_of(cuda::choose_gemm(gemm, queue), gemm, queue);
}
Inputs chosen_inputs(Device& device, const LinearArgs& args) {
  return chosen(device, args);
}
Inputs chosen_inputs(Device& device, const GroupedGemmArgs& args) {
  return chosen(device, args);
}
Inputs chosen_inputs(Device& device, const HeadLinearArgs& args) {
  return chosen(device, args);
}

// Tiles of several tokens, and blocks of several chunks, for steps that are small beside the card.
template <class Args>
Way<Args> with_few_multiprocessors(const std::string& name, Device& device,
                                   void (*op)(const Args&, Queue&)) {
  const cuda::Compiled compiled = cuda::CudaQueue::from(device.queue()).compiled();
  return with_queue<Args>(name, kMultiprocessors, compiled,
                          [op](const Args& args, cuda::CudaQueue& queue) { op(args, queue); });
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
// Room for the partial results of so many units of attention.
static std::shared_ptr<Block> workspace_for(Device& device, const AttentionArgs& args,
                                            int64_t units) {
  return workspace_of(device, units * cuda::split_bytes(cuda::attention_of(args)));
}

// The device's choice with room for three units, whose launches follow each other. A row alone is
// split.
static Way<AttentionArgs> split_way(Device& device, const AttentionArgs& args, int chip) {
  Way<AttentionArgs> split;
  split.name = "split of " + std::to_string(chip);
  split.run = [chip, room = workspace_for(device, args, 3)](Device& d, const AttentionArgs& a) {
    const auto& device_queue = cuda::CudaQueue::from(d.queue());
    cuda::CudaQueue queue(device_queue.stream(), kMultiprocessors, chip);
    queue.set_workspace(room->device(), room->bytes());
    queue.set_counters(device_queue.counters());
    queue.set_block_shared_bytes(block_shared_bytes(chip, d));
    cuda::attention(a, queue);
    const Status status = cuda::status_of(queue.take_error(), d.info().name);
    return status.ok() ? check_counters(queue) : status;
  };
  split.rows_alone = cuda::splits_all(cuda::attention_of(args));
  return split;
}

// Latents on chips whose blocks have less shared memory.
static std::vector<Way<AttentionArgs>> ways_of_latents(Device& device, const AttentionArgs& args) {
  const auto attend = [](const AttentionArgs& a, cuda::CudaQueue& q) { cuda::attention(a, q); };
  const int own = cuda::CudaQueue::from(device.queue()).compiled().capability;
  std::vector<int> chips = {own};
  if (SIMT_EMULATED && own >= 80 && !kFewCases) chips = {86, 80, 90};
  std::vector<Way<AttentionArgs>> ways;
  for (const int chip : chips) {
    ways.push_back(with_queue<AttentionArgs>("whole of " + std::to_string(chip), kMultiprocessors,
                                             chip, attend));
    ways.back().same_bits = chip != chips[0];
  }
  for (const int chip : chips) {
    ways.push_back(split_way(device, args, chip));
    ways.back().same_bits = chip != chips[0];
  }
  return ways;
}

// Whole contexts, without room to split them; split ones; and the device's choice with room for
// all.
std::vector<Way<AttentionArgs>> ways(Device& device, const AttentionArgs& args) {
  if (args.cache->holds_latents()) return ways_of_latents(device, args);
  const auto& queue = cuda::CudaQueue::from(device.queue());
  const auto whole = with_few_multiprocessors("whole", device, &cuda::attention);
  Way<AttentionArgs> own = own_way<AttentionArgs>();
  own.same_bits = true;
  std::vector<Way<AttentionArgs>> ways = {
      whole, split_way(device, args, queue.compiled().capability), own};
  if (queue.uses_wgmma() && cuda::has_wgmma(cuda::attention_of(args), args.cache->dtype)) {
    const auto attend = [](const AttentionArgs& a, cuda::CudaQueue& q) { cuda::attention(a, q); };
    ways.push_back(with_queue<AttentionArgs>("whole of 80", kMultiprocessors, 80, attend));
  }
  return ways;
}

std::vector<Way<RouterLogitsArgs>> ways(Device& device, const RouterLogitsArgs&) {
  return {with_few_multiprocessors("", device, &cuda::router_logits)};
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
  Way<TopLogitsArgs> one_by_one = with_queue<TopLogitsArgs>(
      "one by one", kMultiprocessors, own.compiled(),
      [&own](const TopLogitsArgs& args, cuda::CudaQueue& queue) {
        const int64_t v = args.logits->shape[1], bytes = (v / 32 + 1) * 4 + (v / 2048 + 1) * 16;
        queue.set_workspace(own.workspace(bytes), bytes);
        queue.set_counters(own.counters());
        cuda::top_logits(args, queue);
      });
  one_by_one.same_bits = true;
  return {counted_way<TopLogitsArgs>(), one_by_one};
}

}  // namespace moepp::test::gpu
