// The CUDA device behind the interpreter: a small program gives the CPU's numbers, again when it is
// replayed; failures are typed.
#include "cuda/cuda_queue.h"
#include "lookup_model.h"
#include "opened_device.h"
#include "small_model.h"
#include "test.h"

namespace moepp::simt_test {

MOEPP_TEST(cuda_device_program) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  std::shared_ptr<Device> cpu;
  EXPECT(open_cpu_device(1, "", &cpu).ok());
  const auto on_cpu = compiled(cpu, model.spec), on_gpu = compiled(opened(), model.spec);
  // 3 tokens are recorded the second time and then replayed, 70 are not; they grow the arena, after
  // which 3 are new again.
  for (const int64_t tokens : {3, 3, 3, 5, 70, 3, 3, 3, 70}) {
    const std::vector<std::string> capture = {"sum1", "next0", "coefficients2"};
    SmallStep want(*on_cpu, tokens, capture), got(*on_gpu, tokens, capture);
    const Status cpu_status = on_cpu->run(want.step), gpu_status = on_gpu->run(got.step);
    EXPECT_MESSAGE(cpu_status.ok(), cpu_status.message);
    EXPECT_MESSAGE(gpu_status.ok(), gpu_status.message);
    EXPECT(want.results.size() == 4 && got.results.size() == 4);
    for (const auto& [name, values] : want.results) {
      for (size_t i = 0; i < values.size(); i++) {
        // Three layers of sums of 20 products of the size of 1, in another order.
        const float value = got.results[name][i],
                    bound = 200.0f * 5.96e-8f * (1.0f + std::fabs(values[i]));
        EXPECT_MESSAGE(std::fabs(values[i] - value) <= bound,
                       std::to_string(tokens) + " tokens, " + name + "[" + std::to_string(i) +
                           "] is " + std::to_string(value) + ", expected " +
                           std::to_string(values[i]));
      }
    }
  }
}

// A replay reads the inputs of its own step.
MOEPP_TEST(cuda_device_replay_inputs) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  const auto program = compiled(opened(), model.spec), other = compiled(opened(), model.spec);
  SmallStep first(*program, 2), recorded(*program, 2), replayed(*program, 2), alone(*other, 2);
  for (SmallStep* step : {&recorded, &replayed, &alone}) step->tokens[0] = 30;
  replayed.tokens[1] = alone.tokens[1] = 31;
  for (SmallStep* step : {&first, &recorded, &replayed}) EXPECT(program->run(step->step).ok());
  EXPECT(other->run(alone.step).ok());
  EXPECT(replayed.results == alone.results);
  EXPECT(replayed.results != recorded.results && recorded.results != first.results);
}

// A replay reads the rows of its own step from the table, which is not on the device.
MOEPP_TEST(cuda_device_replay_looks_up) {
  const TemporaryFile file(400);
  const ProgramSpec spec = LookupModel(file.path()).spec;
  std::shared_ptr<Device> cpu;
  EXPECT(open_cpu_device(1, "", &cpu).ok());
  const auto on_cpu = compiled(cpu, spec), on_gpu = compiled(opened(), spec);
  for (const int32_t row : {0, 3, 7, 9}) {
    std::vector<float> want, got;
    const std::vector<int32_t> rows = {row, 11, 4, 5, 1, row};
    EXPECT(LookupModel::run(*on_cpu, rows, &want).ok());
    EXPECT(LookupModel::run(*on_gpu, rows, &got).ok());
    for (size_t t = 0; t < want.size(); t++) {
      // 30 products, each below 10 by far, in another order.
      EXPECT(std::fabs(got[t] - want[t]) <= 30 * 30 * 10 * 5.96e-8f);
    }
  }
}

// Captures move buffers: a step of the same sizes has another recording with them.
MOEPP_TEST(cuda_device_replay_captures) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  const auto program = compiled(opened(), model.spec), other = compiled(opened(), model.spec);
  const std::vector<std::string> capture = {"x0", "moe_output1"};
  SmallStep plain(*program, 2), captured(*program, 2, capture), alone(*other, 2, capture);
  for (SmallStep* step : {&captured, &plain, &plain, &plain, &captured, &captured})
    EXPECT(program->run(step->step).ok());
  EXPECT(other->run(alone.step).ok());
  EXPECT(captured.results == alone.results);
  EXPECT(plain.results["logits"] == alone.results["logits"]);
}

// Wrong integers are found before anything reaches the device.
MOEPP_TEST(cuda_device_checks_inputs) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  const auto program = compiled(opened(), model.spec);
  SmallStep step(*program, 4);
  step.tokens[2] = kVocabulary;
  const Status status = program->run(step.step);
  EXPECT(status.code == Code::kBadProgram &&
         status.message.find("tokens[2] is 37, expected 0 to 36") != std::string::npos);
  step.tokens[2] = 0;
  EXPECT(program->run(step.step).ok());
}

MOEPP_TEST(cuda_device_pages) {
  const auto device = opened();
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    std::shared_ptr<KvCache> cache;
    EXPECT(KvCache::create(device, {nullptr, dtype, 3, 4, 16, 2, 6, 10}, &cache).ok());
    std::vector<float> page(2 * 16 * (6 + 10), NAN);
    EXPECT(cache->copy_page(1, 3).ok());
    EXPECT(cache->read_page(2, 3, page.data()).ok());
    for (const float value : page) EXPECT(value == 0.0f);  // memory comes cleared
    // Numbers that bf16 holds.
    std::vector<float> written(page.size());
    for (size_t i = 0; i < written.size(); i++)
      written[i] = static_cast<float>(static_cast<int>(i % 256) - 128) / 8;
    EXPECT(cache->write_page(2, 1, written.data()).ok());
    EXPECT(cache->copy_page(1, 3).ok());
    EXPECT(cache->read_page(2, 3, page.data()).ok() && page == written);
    for (const int64_t other : {0, 2}) {
      EXPECT(cache->read_page(2, other, page.data()).ok());
      for (const float value : page) EXPECT(value == 0.0f);
    }
    EXPECT(cache->read_page(1, 1, page.data()).ok() && page[0] == 0.0f);
    EXPECT(cache->copy_page(1, 4).code == Code::kBadProgram);
    EXPECT(cache->read_page(3, 0, page.data()).code == Code::kBadProgram);
    EXPECT(cache->write_page(0, 4, page.data()).code == Code::kBadProgram);
  }
}

MOEPP_TEST(cuda_device_index) {
  std::shared_ptr<Device> device;
  EXPECT(open_cuda_device(99, &device).code == Code::kNoGpu);
  EXPECT(open_cuda_device(-1, &device).code == Code::kNoGpu);
  EXPECT(cuda_info().built && cuda_info().devices >= 1);
}

#if SIMT_EMULATED
__global__ void count_launch(int* launches) {
  cuda::await_inputs();
  if (threadIdx.x == 0) ++*launches;
}

MOEPP_TEST(cuda_device_failures) {
  const OtherGpu restore;
  std::shared_ptr<Device> device;
  simt::emu::Gpu& gpu = simt::emu::gpu();
  const auto opens_with = [&](Code code, const char* text) {
    const Status status = open_cuda_device(0, &device);
    EXPECT_MESSAGE(status.code == code && status.message.find(text) != std::string::npos,
                   status.message);
    gpu = restore.before;
  };
  gpu.driver_version = 0;
  opens_with(Code::kNoGpu, "no NVIDIA driver");
  gpu.driver_version = 12080;
  opens_with(Code::kDriverTooOld, "supports CUDA 12.8, this build needs CUDA 13.0");
  gpu.driver_error = simt::kMismatchedDriver;
  opens_with(Code::kDevice, "restart the machine");
  gpu.driver_error = simt::kNoCompatibility;
  opens_with(Code::kDriverTooOld, "install driver 580 or newer");
  gpu.driver_error = simt::kNotReady;
  opens_with(Code::kDevice, "nvidia-fabricmanager");
  gpu.devices = 0;
  opens_with(Code::kNoGpu, "no such device");
  gpu.major = 6;
  opens_with(Code::kGpuTooOld, "compute capability 6.6, 7.5 or newer is needed");
  gpu.major = 11, gpu.minor = 0, gpu.has_code = false;
  opens_with(Code::kUnsupported, "compute capability 11.0, for which this build has no kernels");
  gpu.copies_to_fault = 0;
  opens_with(Code::kDevice, "the emulated GPU was lost");
  gpu.memory_bytes = simt::emu::used_bytes() + (1 << 20);
  opens_with(Code::kOutOfMemory, "out of memory");

  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  const auto program = compiled(opened(), model.spec);
  gpu.launches_left = 0;
  SmallStep step(*program, 4);
  const Status status = program->run(step.step);
  EXPECT_MESSAGE(status.code == Code::kDevice && status.op == "embedding", status.message);
  gpu.launches_left = -1;
  EXPECT(program->run(step.step).ok());  // nothing is left behind
}

// After a fault every call fails, and returns; so it is when a step of more memory would be needed.
MOEPP_TEST(cuda_device_lost) {
  const OtherGpu restore;
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  const auto device = opened();
  const auto program = compiled(device, model.spec);
  std::shared_ptr<KvCache> cache;
  EXPECT(KvCache::create(device, {nullptr, DType::kF32, 1, 2, 16, 1, 2, 2}, &cache).ok());
  simt::emu::gpu().kernels_to_fault = 5;
  for (const int64_t tokens : {4, 4, 4, 80}) {
    SmallStep step(*program, tokens);
    const Status status = program->run(step.step);
    EXPECT_MESSAGE(
        status.code == Code::kDevice && status.message.find("was lost") != std::string::npos,
        status.message);
  }
  EXPECT(cache->copy_page(0, 1).code == Code::kDevice);
  std::vector<float> page(2 * 16 * 2);
  EXPECT(cache->read_page(0, 0, page.data()).code == Code::kDevice);
  EXPECT(cache->write_page(0, 0, page.data()).code == Code::kDevice);
  std::unique_ptr<Program> other;
  EXPECT(Program::compile(device, model.spec, {}, &other).code == Code::kDevice);
}

// A fault while weights are on their way.
MOEPP_TEST(cuda_device_lost_while_loading) {
  const OtherGpu restore;
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  const auto device = opened();
  simt::emu::gpu().copies_to_fault = 3;
  std::unique_ptr<Program> program;
  const Status status = Program::compile(device, model.spec, {}, &program);
  EXPECT_MESSAGE(
      status.code == Code::kDevice && status.message.find("was lost") != std::string::npos,
      status.message);
}

// A step is recorded when its sizes come again, and forgotten when 64 others were used since.
MOEPP_TEST(cuda_device_recordings) {
  const TemporaryFile file(SmallModel::floats());
  ProgramSpec spec = SmallModel(file.path()).spec;
  spec.ops.resize(1);                                 // the embedding
  spec.buffers = {spec.buffers[0], spec.buffers[2]};  // tokens, x0
  spec.weights.resize(1);
  spec.outputs = {"x0"};
  const auto program = compiled(opened(), spec);
  const auto run = [&](int64_t tokens, int64_t rows) {
    SmallStep step(*program, tokens, {"x0"});
    step.step.sizes.rows = rows;
    const Status status = program->run(step.step);
    EXPECT_MESSAGE(status.ok(), status.message);
  };
  run(64, 1);  // the arena grows no more
  const int64_t before = simt::emu::counts().graphs;
  const auto made = [&] { return simt::emu::counts().graphs - before; };
  for (int64_t tokens = 2; tokens <= 64; tokens++) {
    for (const int64_t rows : {2, 3}) {
      run(tokens, rows);
      run(1, 1);
    }
  }
  EXPECT_MESSAGE(made() == 1, std::to_string(made()));  // of one token
  for (int64_t tokens = 1; tokens <= 64; tokens++) run(tokens, 4);
  run(1, 1);
  EXPECT_MESSAGE(made() == 1, std::to_string(made()));
  run(1, 1);
  EXPECT_MESSAGE(made() == 2, std::to_string(made()));
}

// A row of H floats in shared memory is more than a block of Turing has from a hidden size of
// 16,384 on.
MOEPP_TEST(cuda_device_shared_memory) {
  const OtherGpu restore;
  simt::emu::Gpu& gpu = simt::emu::gpu();
  gpu.major = 7, gpu.minor = 5, gpu.block_shared_bytes = 64;
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  const auto program = compiled(opened(), model.spec);
  SmallStep step(*program, 4);
  const Status status = program->run(step.step);
  EXPECT_MESSAGE(status.code == Code::kUnsupported && status.op == "norm", status.message);
  EXPECT_MESSAGE(status.message.find(
                     "64 bytes of shared memory for a block, a model of these sizes needs 112") !=
                     std::string::npos,
                 status.message);
}

// A kernel launched after an error could read memory that was never written.
MOEPP_TEST(cuda_queue_stops_at_an_error) {
  cuda::CudaQueue queue(nullptr, 2);
  Shared<int> ran(1);
  queue.check(simt::kOutOfMemory);
  const auto launch = [&] {
    queue.launch(count_launch, {dim3(1), dim3(32)}, ran.device());
    return queue.take_error();
  };
  EXPECT(run_on_device(launch) == simt::kOutOfMemory && ran[0] == 0);
  EXPECT(run_on_device(launch) == simt::kSuccess && ran[0] == 1);
}

// All that a device and its programs took is given back.
MOEPP_TEST(cuda_device_gives_back) {
  const size_t before = simt::emu::used_bytes();
  {
    const TemporaryFile file(SmallModel::floats());
    const SmallModel model(file.path());
    const auto program = compiled(opened(), model.spec);
    SmallStep step(*program, 4);
    EXPECT(program->run(step.step).ok());
    EXPECT(simt::emu::used_bytes() > before);
  }
  EXPECT(simt::emu::used_bytes() == before);
}
#endif

}  // namespace moepp::simt_test
