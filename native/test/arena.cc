#include "arena.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "cpu/kv_pages.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace moepp::test {

static constexpr int64_t kMargin = 256;

void must(const Status& status) {
  if (!status.ok()) throw Failure(status);
}

void run_step(Device& device, const std::function<Status()>& work) {
  must(device.begin_step());
  const Status status = work();
  const Status end = device.end_step();
  must(status);
  must(end);
}

static constexpr size_t kHugePage = size_t{2} << 20;

Buffer::Buffer(size_t bytes, unsigned char content)
    : bytes_(bytes), alignment_(bytes < kHugePage ? 64 : kHugePage) {
  if (alignment_ == kHugePage) bytes_ = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  data_ = ::operator new(bytes_, std::align_val_t{alignment_});
#if defined(__linux__)
  if (alignment_ == kHugePage) madvise(data_, bytes_, MADV_HUGEPAGE);
#endif
  std::memset(data_, content, bytes_);
}

Buffer::~Buffer() {
  ::operator delete(data_, std::align_val_t{alignment_});
}

static unsigned char content_of(Guard guard) {
  return guard == Guard::kMargins ? kPoison : 0;
}

Block::Block(Arena& arena, int64_t bytes, int64_t host_bytes)
    : arena_(arena),
      bytes_(bytes),
      margin_(arena.guard == Guard::kMargins ? kMargin : 0),
      same_order_(host_bytes == 0 || arena.device().uses_mapped_weights()),
      host_(static_cast<size_t>((same_order_ ? bytes : host_bytes) + 2 * margin_),
            content_of(arena.guard)) {
  Device& device = arena.device();
  if (is_shared()) {
    device_ = host();
  } else {
    auto* data = static_cast<std::byte*>(device.allocate(bytes + 2 * margin_));
    if (data == nullptr) {
      must(device.fault());
      must(Status::error(Code::kOutOfMemory, std::to_string(bytes) + " bytes more are needed, " +
                                                 std::to_string(device.info().free_bytes) +
                                                 " are free"));
    }
    device_ = data + margin_;
  }
  arena_.blocks_.push_back(this);
  if (margin_ == 0) return;
  if (!is_shared()) {
    const Buffer poison(static_cast<size_t>(bytes + 2 * margin_), kPoison);
    copy(poison.as<std::byte>(), device_ - margin_, bytes + 2 * margin_, true);
  }
  close_margins(true);
}

Block::~Block() {
  arena_.blocks_.erase(std::find(arena_.blocks_.begin(), arena_.blocks_.end(), this));
  close_margins(false);
  if (!is_shared()) arena_.device().release(device_ - margin_, bytes_ + 2 * margin_);
}

bool Block::is_shared() const {
  return arena_.device().uses_callers_memory();
}

// An access to the margins of memory that is the host's ends a program under AddressSanitizer.
void Block::close_margins([[maybe_unused]] bool closed) const {
#if defined(__SANITIZE_ADDRESS__)
  if (margin_ == 0) return;
  for (const std::byte* margin : {device_ - margin_, device_ + bytes_}) {
    if (closed) {
      ASAN_POISON_MEMORY_REGION(margin, static_cast<size_t>(margin_));
    } else {
      ASAN_UNPOISON_MEMORY_REGION(margin, static_cast<size_t>(margin_));
    }
  }
#endif
}

void Block::copy(const std::byte* from, std::byte* to, int64_t bytes, bool up) const {
  constexpr int64_t kAtOnce = int64_t{16} << 20;
  Device& device = arena_.device();
  for (int64_t at = 0; at < bytes; at += kAtOnce) {
    auto* source = const_cast<std::byte*>(from) + at;
    const int64_t count = std::min(kAtOnce, bytes - at);
    run_step(device, [&] {
      return up ? device.upload({{to + at, source, count}})
                : device.download({{source, to + at, count}});
    });
  }
}

void Block::upload(const std::byte* from, int64_t to, int64_t bytes) {
  if (!is_shared()) copy(from, device_ + to, bytes, true);
}

void Block::write(const std::byte* from, int64_t to, int64_t bytes) {
  if (is_shared()) {
    std::memcpy(device_ + to, from, static_cast<size_t>(bytes));
  } else {
    upload(from, to, bytes);
  }
}

void Block::download() {
  if (!is_shared()) copy(device_, host(), bytes_, false);
}

std::vector<unsigned char> Block::content() const {
  std::vector<unsigned char> bytes(static_cast<size_t>(bytes_));
  auto* to = reinterpret_cast<std::byte*>(bytes.data());
  if (is_shared()) {
    std::copy_n(device_, bytes_, to);
  } else {
    copy(device_, to, bytes_, false);
  }
  return bytes;
}

void Block::poison() {
  std::memset(host(), kPoison, static_cast<size_t>(bytes_));
  upload();
}

bool Block::margins_intact() const {
  if (margin_ == 0) return true;
  std::vector<std::byte> both(static_cast<size_t>(2 * margin_));
  close_margins(false);
  for (const bool behind : {false, true}) {
    const std::byte* from = behind ? device_ + bytes_ : device_ - margin_;
    std::byte* to = both.data() + (behind ? margin_ : 0);
    if (is_shared()) {
      std::copy_n(from, margin_, to);
    } else {
      copy(from, to, margin_, false);
    }
  }
  close_margins(true);
  return std::all_of(both.begin(), both.end(),
                     [](std::byte byte) { return byte == std::byte{kPoison}; });
}

Block* Arena::block_of(const void* data) const {
  const auto* at = static_cast<const std::byte*>(data);
  for (Block* block : blocks_) {
    if (at >= block->device() && at < block->device() + block->bytes()) return block;
  }
  return nullptr;
}

void Arena::fetch() {
  for (Block* block : blocks_) {
    if (block->same_order()) block->download();
  }
  twins_.clear();
  twin_caches_.clear();
  twin_pages_.clear();
}

Tensor* Arena::twin(const Tensor& tensor) {
  twins_.push_back(tensor);
  const Block* block = block_of(tensor.data);
  if (block != nullptr) {
    const auto* data = static_cast<const std::byte*>(tensor.data);
    twins_.back().data = block->host() + (block->same_order() ? data - block->device() : 0);
  }
  return &twins_.back();
}

const KvView* Arena::twin_of_layer(const KvView& cache, int64_t layer) {
  KvView& one = twin_caches_.emplace_back(cache);
  one.layers = 1;
  const int64_t elements = one.page_elements();
  one.data =
      twin_pages_.emplace_back(static_cast<size_t>(one.pages * elements * dtype_size(one.dtype)))
          .as<char>();
  std::vector<float> page(static_cast<size_t>(elements));
  for (int64_t p = 0; p < one.pages; p++) {
    must(device_->read_page(cache, layer, p, page.data()));
    cpu::write_page(one, 0, p, page.data());
  }
  return &one;
}

}  // namespace moepp::test
