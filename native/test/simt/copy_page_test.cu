// Copies between pages of the KV cache, byte by byte, however far its layers lie apart.
#include "device.h"
#include "device_test.h"
#include "opened_device.h"

#if SIMT_EMULATED
#include <sys/mman.h>
#endif

namespace moepp::simt_test {

namespace {

int64_t page_bytes(const KvView& kv) {
  return kv.page_elements() * dtype_size(kv.dtype);
}

// A cache in memory that nothing has touched: the emulated GPU takes the host's addresses, and
// would write all of what it allocates itself.
class Cache {
 public:
  Cache(std::shared_ptr<Device> device, KvView shape) : device_(std::move(device)), view(shape) {
#if SIMT_EMULATED
    view.data = mmap(nullptr, bytes(), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (view.data == MAP_FAILED) view.data = nullptr;
#else
    view.data = device_->allocate(static_cast<int64_t>(bytes()));
#endif
  }
  ~Cache() {
    if (view.data == nullptr) return;
#if SIMT_EMULATED
    munmap(view.data, bytes());
#else
    device_->release(view.data, static_cast<int64_t>(bytes()));
#endif
  }

  // Words that tell layer, page and place; as bf16 and as f32 they are finite.
  static std::vector<uint16_t> words_of(const KvView& kv, int64_t layer, int64_t page) {
    std::vector<uint16_t> words(static_cast<size_t>(page_bytes(kv) / 2));
    for (size_t i = 0; i < words.size(); i++)
      words[i] =
          static_cast<uint16_t>((i * 7 + static_cast<size_t>(layer * 31 + page * 5)) % 16000);
    return words;
  }
  void write(int64_t layer, int64_t page) {
    const std::vector<uint16_t> words = words_of(view, layer, page);
    EXPECT(simt::copy_to_device(at(layer, page), words.data(), 2 * words.size(), nullptr) ==
           simt::kSuccess);
    EXPECT(simt::synchronize(nullptr) == simt::kSuccess);
  }
  std::vector<uint16_t> read(int64_t layer, int64_t page) {
    std::vector<uint16_t> words(static_cast<size_t>(page_bytes(view) / 2));
    EXPECT(simt::copy_to_host(words.data(), at(layer, page), 2 * words.size(), nullptr) ==
           simt::kSuccess);
    EXPECT(simt::synchronize(nullptr) == simt::kSuccess);
    return words;
  }
  // The device's own stream has done what was put into it.
  void finish() {
    EXPECT(device_->begin_step().ok());
    EXPECT(device_->end_step().ok());
  }

 private:
  size_t bytes() const {
    return static_cast<size_t>(view.layers * view.pages * page_bytes(view));
  }
  std::byte* at(int64_t layer, int64_t page) const {
    return static_cast<std::byte*>(view.data) + (layer * view.pages + page) * page_bytes(view);
  }
  std::shared_ptr<Device> device_;

 public:
  KvView view;
};

std::string name_of(const KvView& kv) {
  return std::string(dtype_name(kv.dtype)) + ", " + std::to_string(kv.layers) + " layers of " +
         std::to_string(kv.pages) + " pages of " + std::to_string(page_bytes(kv)) + " bytes: ";
}

// Fills `pages`, copies one of them to another, and expects all others as they were.
void expect_copy(const std::shared_ptr<Device>& device, const KvView& shape, int64_t from,
                 int64_t to, const std::vector<int64_t>& pages) {
  Cache cache(device, shape);
  const std::string label = name_of(shape);
  if (cache.view.data == nullptr) {
    std::printf("left out, there is no memory for it: %s\n", label.c_str());
    return;
  }
  for (int64_t layer = 0; layer < shape.layers; layer++)
    for (const int64_t page : pages) cache.write(layer, page);
  const Status status = device->copy_page(cache.view, from, to);
  EXPECT_MESSAGE(status.ok(), label + status.message);
  cache.finish();
  for (int64_t layer = 0; layer < shape.layers; layer++) {
    for (const int64_t page : pages) {
      EXPECT_MESSAGE(
          cache.read(layer, page) == Cache::words_of(shape, layer, page == to ? from : page),
          label + "layer " + std::to_string(layer) + ", page " + std::to_string(page));
    }
  }
}

}  // namespace

MOEPP_TEST(cuda_copy_page) {
  const auto device = opened();
  const KvView shapes[] = {
      {nullptr, DType::kBf16, 1, 2, 16, 1, 2, 2},   {nullptr, DType::kF32, 3, 5, 16, 1, 3, 7},
      {nullptr, DType::kBf16, 2, 3, 48, 3, 5, 4},   {nullptr, DType::kBf16, 24, 4, 64, 2, 96, 96},
      {nullptr, DType::kF32, 133, 2, 16, 1, 2, 10},
  };
  for (const KvView& shape : shapes) {
    std::vector<int64_t> pages;
    for (int64_t page = 0; page < shape.pages; page++) pages.push_back(page);
    expect_copy(device, shape, 0, shape.pages - 1, pages);
    expect_copy(device, shape, shape.pages - 1, 0, pages);
    expect_copy(device, shape, 1, 1, pages);
  }
}

// 2.3 GB from layer to layer: more than an int holds, and than a 2D copy of the runtime takes.
MOEPP_TEST(cuda_copy_page_of_a_large_cache) {
  const KvView shape = {nullptr, DType::kBf16, 3, 5860, 64, 16, 96, 96};
  expect_copy(opened(), shape, 5859, 1, {0, 1, 2, 5858, 5859});
  expect_copy(opened(), shape, 1, 5859, {0, 1, 2, 5858, 5859});
}

}  // namespace moepp::simt_test
