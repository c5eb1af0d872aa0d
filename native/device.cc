#include "device.h"

namespace moepp {

Status Memory::allocate(std::shared_ptr<Device> device, int64_t bytes, const std::string& what,
                        Memory* memory) {
  memory->reset();
  void* data = device->allocate(bytes);
  if (data == nullptr) {
    MOEPP_CHECK(device->fault());
    const DeviceInfo info = device->info();
    std::string text =
        what + ": " + std::to_string(bytes) + " bytes could not be allocated on " + info.name;
    if (info.total_bytes > 0)
      text += ", where " + std::to_string(info.free_bytes) + " of " +
              std::to_string(info.total_bytes) + " are free";
    return Status::error(Code::kOutOfMemory, text);
  }
  memory->device_ = std::move(device);
  memory->data_ = data;
  memory->bytes_ = bytes;
  return {};
}

Memory Memory::shared(std::shared_ptr<const void> owner, const std::byte* data, int64_t bytes) {
  Memory memory;
  memory.owner_ = std::move(owner);
  memory.data_ = const_cast<std::byte*>(data);
  memory.bytes_ = bytes;
  return memory;
}

Memory& Memory::operator=(Memory&& other) noexcept {
  if (this != &other) {
    reset();
    device_ = std::move(other.device_);
    owner_ = std::move(other.owner_);
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

void Memory::reset() {
  if (device_ != nullptr && data_ != nullptr) device_->release(data_, bytes_);
  data_ = nullptr;
  bytes_ = 0;
  device_.reset();
  owner_.reset();
}

// The product of all factors, or -1 when it does not fit.
static int64_t checked_product(std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  for (const int64_t factor : factors) {
    if (factor < 0 || __builtin_mul_overflow(product, factor, &product)) return -1;
  }
  return product;
}

Status KvCache::create(std::shared_ptr<Device> device, KvView shape,
                       std::shared_ptr<KvCache>* cache) {
  if (shape.layers < 1 || shape.pages < 1 || shape.page_size < 16 || shape.page_size > 256 ||
      shape.page_size % 16 != 0 || shape.kv_heads < 1 || shape.key_dim < 2 || shape.value_dim < 0) {
    return Status::error(
        Code::kBadProgram,
        "kv cache: layers, pages, kvHeads must be at least 1, keyDim 2, valueDim 0, "
        "pageSize a multiple of 16 up to 256");
  }
  const int64_t bytes = checked_product({shape.layers, shape.pages, shape.page_size, shape.kv_heads,
                                         shape.key_dim + shape.value_dim, dtype_size(shape.dtype)});
  if (bytes < 0)
    return Status::error(Code::kOutOfMemory, "kv cache: its size does not fit in 64 bits");
  auto created = std::make_shared<KvCache>();
  MOEPP_CHECK(Memory::allocate(device, bytes, "kv cache", &created->memory_));
  created->device_ = std::move(device);
  created->view_ = shape;
  created->view_.data = created->memory_.data();
  *cache = std::move(created);
  return {};
}

Status KvCache::copy_page(int64_t from, int64_t to) {
  if (from < 0 || from >= view_.pages || to < 0 || to >= view_.pages) {
    return Status::error(Code::kBadProgram, "copies: pages " + std::to_string(from) + " and " +
                                                std::to_string(to) + " must be below " +
                                                std::to_string(view_.pages));
  }
  return device_->copy_page(view_, from, to);
}

Status KvCache::check_page(const char* call, int64_t layer, int64_t page) const {
  if (layer >= 0 && layer < view_.layers && page >= 0 && page < view_.pages) return {};
  return Status::error(Code::kBadProgram, std::string(call) + ": there is no page " +
                                              std::to_string(page) + " of layer " +
                                              std::to_string(layer));
}

Status KvCache::read_page(int64_t layer, int64_t page, float* out) {
  MOEPP_CHECK(check_page("readPage", layer, page));
  return device_->read_page(view_, layer, page, out);
}

Status KvCache::write_page(int64_t layer, int64_t page, const float* values) {
  MOEPP_CHECK(check_page("writePage", layer, page));
  return device_->write_page(view_, layer, page, values);
}

}  // namespace moepp
