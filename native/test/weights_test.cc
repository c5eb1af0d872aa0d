// Stored tensors: references into files are checked before a byte is read, whatever they claim.
#include "weights/weights.h"

#include <atomic>
#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>

#include "host/thread_pool.h"
#include "small_model.h"
#include "test.h"
#include "weights/stacked_rows.h"

namespace moepp::test {

static TensorRef reference(const std::string& file) {
  TensorRef ref;
  ref.name = "tensor";
  ref.shape = {10, 20};
  ref.strides = {20, 1};
  ref.file = file;
  ref.byte_length = 800;
  return ref;
}

static void expect_refused(const TensorRef& ref, const std::string& words) {
  std::map<std::string, std::shared_ptr<MappedFile>> files;
  SourceTensor tensor;
  const Status status = SourceTensor::open(ref, &files, &tensor);
  EXPECT_MESSAGE(!status.ok() && status.message.find(words) != std::string::npos,
                 "expected '" + words + "', got '" + status.message + "'");
}

MOEPP_TEST(weights_refuse_references_out_of_the_file) {
  const TemporaryFile file(1000);
  TensorRef ref = reference(file.path());
  ref.file = "/nowhere/at/all";
  expect_refused(ref, "cannot be opened");
  ref = reference("/tmp");
  expect_refused(ref, "is not a regular file");
  ref = reference(file.path());
  ref.byte_offset = 3204;
  expect_refused(ref, "lie past the end");
  ref = reference(file.path());
  ref.byte_offset = UINT64_MAX - 100;
  expect_refused(ref, "lie past the end");
  ref = reference(file.path());
  ref.strides = {21, 1};
  expect_refused(ref, "reach element 209");
  ref = reference(file.path());
  ref.shape = {INT64_MAX, INT64_MAX};
  ref.strides = {INT64_MAX, 1};
  expect_refused(ref, "do not fit in 64 bits");
}

// For any accepted reference, its first and last element can be read.
MOEPP_TEST(weights_survive_random_references) {
  const TemporaryFile file(1000);
  std::mt19937_64 random(5);
  int accepted = 0;
  for (int round = 0; round < 20000; round++) {
    TensorRef ref = reference(file.path());
    const auto any = [&](int64_t small) {
      return random() % 8 == 0 ? static_cast<int64_t>(random())
                               : static_cast<int64_t>(random() % small);
    };
    ref.dtype = random() % 2 ? DType::kF32 : DType::kBf16;
    ref.shape = {any(12), any(25)};
    ref.strides = {any(30), any(3)};
    ref.byte_offset = static_cast<uint64_t>(any(4200));
    ref.byte_length = static_cast<uint64_t>(any(4200));
    std::map<std::string, std::shared_ptr<MappedFile>> files;
    SourceTensor tensor;
    if (!SourceTensor::open(ref, &files, &tensor).ok()) continue;
    if (ref.shape[0] == 0 || ref.shape[1] == 0) continue;
    accepted++;
    const int64_t last = (ref.shape[0] - 1) * ref.strides[0] + (ref.shape[1] - 1) * ref.strides[1];
    std::byte value[4];
    convert_row({tensor.data, ref.dtype}, 0, 1, DType::kF32, value);
    convert_row({tensor.data, ref.dtype}, last, 1, DType::kF32, value);
  }
  EXPECT(accepted > 100);
}

static std::string content_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

MOEPP_TEST(weights_write_what_they_read) {
  const TemporaryFile file(1000);
  const std::string path = file.path() + ".out";
  TensorRef rows = reference(file.path()), transposed = reference(file.path()),
            unaligned = reference(file.path());
  transposed.shape = {20, 10};
  transposed.strides = {1, 20};
  unaligned.dtype = DType::kBf16;
  unaligned.byte_offset = 1;  // as in torch's legacy files
  const std::vector<uint8_t> header = {1, 2, 3};
  EXPECT(write_tensors(path, header, {rows, transposed, unaligned},
                       {DType::kF32, DType::kBf16, DType::kF32}, {})
             .ok());
  EXPECT(!write_tensors(path, header, {}, {}, {}).ok());  // it exists
  const std::string written = content_of(path), read = content_of(file.path());
  unlink(path.c_str());  // closed: Windows keeps what is open
  EXPECT(written.size() == 3 + 800 + 400 + 800);
  EXPECT(written.substr(3, 800) == read.substr(0, 800));
  for (int i = 0; i < 20; i++) {
    for (int j = 0; j < 10; j++) {
      float value;
      uint16_t half;
      std::memcpy(&value, read.data() + 4 * (j * 20 + i), 4);
      std::memcpy(&half, written.data() + 803 + 2 * (i * 10 + j), 2);
      EXPECT(half == f32_to_bf16(value));
    }
  }
}

// The biases of q, k and v are one vector.
MOEPP_TEST(weights_join_vectors) {
  const TemporaryFile file(12);
  WeightSpec spec;
  spec.name = "joined";
  spec.shape = {9};
  const auto part = [&](int64_t first, int64_t count) {
    TensorRef ref = reference(file.path());
    ref.shape = {count};
    ref.strides = {1};
    ref.byte_offset = static_cast<uint64_t>(4 * first);
    ref.byte_length = static_cast<uint64_t>(4 * count);
    return ref;
  };
  spec.parts = {part(7, 5), part(0, 3), part(3, 1)};
  StackedRows rows;
  EXPECT(StackedRows::open(spec, &rows).ok());
  EXPECT(rows.count() == 9 && rows.length() == 1);
  const int64_t expected[] = {7, 8, 9, 10, 11, 0, 1, 2, 3};
  StackedRows whole;
  WeightSpec all = spec;
  all.shape = {12};
  all.parts = {part(0, 12)};
  EXPECT(StackedRows::open(all, &whole).ok());
  for (int64_t i = 0; i < 9; i++) {
    float got, want;
    std::memcpy(&got, rows.row(i).data, 4);
    std::memcpy(&want, whole.row(0).data + 4 * expected[i], 4);
    EXPECT(std::memcmp(&got, &want, 4) == 0);
  }
  spec.shape = {10};
  EXPECT(!StackedRows::open(spec, &rows).ok());
}

// Loading one large weight lets others' jobs through, again and again.
MOEPP_TEST(weights_load_in_turns) {
  constexpr int64_t kOutputs = 8192, kInputs = 1024;
  const TemporaryFile file(kOutputs * kInputs);
  WeightSpec spec;
  spec.name = "weight";
  spec.dtype = DType::kI4;
  spec.shape = {kOutputs, kInputs};
  TensorRef part = reference(file.path());
  part.shape = spec.shape;
  part.strides = {kInputs, 1};
  part.byte_length = kOutputs * kInputs * 4;
  spec.parts = {part};
  std::shared_ptr<Device> device;
  EXPECT(open_cpu_device(2, "scalar", &device).ok());
  std::vector<std::byte> packed(static_cast<size_t>(device->weight_bytes(spec, Layout::kMatrix)));
  std::atomic<int64_t> done{0};
  std::atomic<bool> loaded{false};
  Control control;
  control.done_bytes = &done;
  std::thread loading([&] {
    EXPECT(device->load_weight(spec, Layout::kMatrix, packed.data(), control).ok());
    loaded = true;
  });
  int turns = 0;
  int64_t before = 0;
  while (!loaded) {  // a turn counts when something was loaded since the one before, and something
                     // remains
    static_cast<ThreadPool&>(device->queue()).parallel_for(1, [&](int64_t, int) {
      if (done > before && done < static_cast<int64_t>(packed.size())) turns++;
      before = done;
    });
  }
  loading.join();
  EXPECT(done == static_cast<int64_t>(packed.size()));
  // their number depends on the machine's speed
  EXPECT_MESSAGE(turns >= 1, "no turn while the weight was loaded");
}

// Projections of several tables are one matrix.
MOEPP_TEST(weights_stand_side_by_side) {
  const TemporaryFile file(60);
  WeightSpec spec;
  spec.name = "joined";
  spec.shape = {4, 7};
  const auto part = [&](int64_t columns, uint64_t byte_offset, DType dtype) {
    TensorRef ref = reference(file.path());
    ref.dtype = dtype;
    ref.shape = {4, columns};
    ref.strides = {columns, 1};
    ref.byte_offset = byte_offset;
    ref.byte_length = static_cast<uint64_t>(4 * columns * dtype_size(dtype));
    return ref;
  };
  spec.parts = {part(2, 8, DType::kF32), part(4, 100, DType::kBf16), part(1, 40, DType::kF32)};
  StackedRows rows;
  EXPECT(StackedRows::open(spec, &rows).ok());
  EXPECT(rows.count() == 4 && rows.length() == 7);
  for (int64_t row = 0; row < 4; row++) {
    float got[7], want[7];
    convert_row(rows.row(row), 0, 7, DType::kF32, reinterpret_cast<std::byte*>(got));
    float* to = want;
    for (const TensorRef& ref : spec.parts) {
      std::map<std::string, std::shared_ptr<MappedFile>> files;
      SourceTensor source;
      EXPECT(SourceTensor::open(ref, &files, &source).ok());
      convert_row(source.row(row), 0, ref.shape[1], DType::kF32, reinterpret_cast<std::byte*>(to));
      to += ref.shape[1];
    }
    EXPECT(std::memcmp(got, want, sizeof got) == 0);
  }
  spec.shape = {4, 8};
  EXPECT(!StackedRows::open(spec, &rows).ok());
}

}  // namespace moepp::test
