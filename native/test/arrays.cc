#include "arrays.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <thread>

#include "pack_for_gpu.h"
#include "cpu/kv_layout.h"

namespace moepp::test {

void round_to_bf16(Floats& x) {
  for (int64_t i = 0; i < x.tensor.elements(); i++)
    x.host()[i] = bf16_to_f32(f32_to_bf16(x.host()[i]));
  x.upload();
}

Activations::Activations(Arena& arena, std::initializer_list<int64_t> shape, uint32_t seed)
    : arena_(arena), f32_(std::make_unique<Floats>(arena, shape, seed)) {
  tensor = f32_->tensor;
  round_to_bf16(*f32_);
}

void Activations::make_bf16() {
  const auto n = static_cast<size_t>(tensor.elements());
  bf16_ = std::make_unique<Block>(arena_, 2 * static_cast<int64_t>(n), 4 * static_cast<int64_t>(n));
  std::memcpy(bf16_->host(), f32_->host(), 4 * n);
  std::vector<uint16_t> narrow(n);
  for (size_t i = 0; i < n; i++) narrow[i] = f32_to_bf16(f32_->host()[i]);
  bf16_->upload(reinterpret_cast<const std::byte*>(narrow.data()), 0, bf16_->bytes());
  tensor.data = bf16_->device();
  tensor.dtype = DType::kBf16;
  f32_.reset();
}

struct WeightShape {
  int64_t groups, rows, inputs;
  explicit WeightShape(std::initializer_list<int64_t> shape)
      : groups(shape.size() == 3 ? shape.begin()[0] : 1),
        rows(shape.end()[-2]),
        inputs(shape.end()[-1]) {}
};

static int64_t panel_bytes_of(DType dtype, Layout layout, const WeightShape& shape) {
  if (layout == Layout::kRows) return shape.groups * shape.rows * shape.inputs * dtype_size(dtype);
  return shape.groups * panel_count(layout, shape.rows) *
         panel_bytes(panel_dtype(dtype), shape.inputs);
}

int64_t Weight::bytes_of(Arena& arena, DType dtype, Layout layout,
                         std::initializer_list<int64_t> shape) {
  const WeightShape s(shape);
  if (arena.device().uses_mapped_weights() || layout == Layout::kRows)
    return panel_bytes_of(dtype, layout, s);
  return cuda::weight_bytes(dtype, layout, s.groups, s.rows, s.inputs);
}

Weight::Weight(Arena& arena, DType dtype, Layout layout, std::initializer_list<int64_t> shape,
               uint32_t seed, int64_t copies, float scale)
    : tensor(test::tensor(nullptr, dtype, shape, layout)),
      same_order_(arena.device().uses_mapped_weights() || layout == Layout::kRows),
      bytes_(bytes_of(arena, dtype, layout, shape)),
      copies_(copies) {
  const WeightShape s(shape);
  block_ = std::make_unique<Block>(arena, bytes_ * copies,
                                   same_order_ ? 0 : panel_bytes_of(dtype, layout, s));
  tensor.data = block_->device();
  if (layout == Layout::kRows) {
    // Any bits of a small number will do.
    std::mt19937 random(seed);
    auto* halves = reinterpret_cast<uint16_t*>(block_->host());
    for (int64_t i = 0; i < bytes_ / 2; i++)
      halves[i] = static_cast<uint16_t>((random() & 0x8000) + 0x3c00 + random() % 0x400);
  } else {
    fill_panels(panels(), dtype, layout, s.groups, s.rows, s.inputs, seed, scale);
  }
  upload();
}

// The weight that `panels` holds, in a GPU's order; groups on threads of their own.
static void pack_groups_for_gpu(const Tensor& panels, std::byte* to) {
  const int64_t rows = panels.shape[panels.rank - 2], inputs = panels.shape[panels.rank - 1],
                groups = panels.rank == 3 ? panels.shape[0] : 1,
                group_bytes = cuda::weight_bytes(panels.dtype, panels.layout, 1, rows, inputs);
  std::vector<std::thread> threads;
  for (int64_t group = 0; group < groups; group++) {
    threads.emplace_back([&, group] { pack_for_gpu(panels, group, to + group * group_bytes); });
  }
  for (std::thread& thread : threads) thread.join();
}

void Weight::upload() {
  if (same_order_) {
    for (int64_t c = 1; c < copies_; c++)
      std::memcpy(panels() + c * bytes_, panels(), static_cast<size_t>(bytes_));
    return block_->upload();
  }
  const Buffer packed(static_cast<size_t>(bytes_));
  Tensor from = tensor;
  from.data = panels();
  pack_groups_for_gpu(from, packed.as<std::byte>());
  for (int64_t c = 0; c < copies_; c++) block_->upload(packed.as<std::byte>(), c * bytes_, bytes_);
}

static int64_t cache_bytes(const KvView& kv) {
  return kv.layers * kv.pages * kv.page_elements() * dtype_size(kv.dtype);
}

Cache::Cache(Arena& arena, KvView shape)
    : view(shape),
      arena_(arena),
      block_(arena, cache_bytes(shape), arena.guard == Guard::kMargins ? 0 : 1) {
  view.data = block_.device();
  if (arena.guard == Guard::kNone) fill_with_random();
}

// Random elements are a cache in any order.
void Cache::fill_with_random() {
  constexpr int64_t kValues = int64_t{1} << 20;
  std::vector<float> values(kValues);
  fill(values.data(), kValues, 1);
  std::vector<uint16_t> halves(kValues);
  for (size_t i = 0; i < halves.size(); i++) halves[i] = f32_to_bf16(values[i]);
  const auto* bytes = view.dtype == DType::kF32 ? reinterpret_cast<std::byte*>(values.data())
                                                : reinterpret_cast<std::byte*>(halves.data());
  const int64_t at_once = kValues * dtype_size(view.dtype);
  for (int64_t at = 0; at < block_.bytes(); at += at_once)
    block_.write(bytes, at, std::min(at_once, block_.bytes() - at));
}

// A GPU has the order of Device::read_page: heads begin where the CPU's do, and rows are whole.
void Cache::set(int64_t layer, int64_t page, int64_t head, int64_t s, int64_t i, float x) {
  const bool on_cpu = arena_.device().uses_mapped_weights();
  const int64_t d = view.key_dim, j = i - d;
  const int64_t index =
      i < d ? cpu::kv_keys(view, layer, page, head) + (on_cpu ? cpu::kv_key(view, s, i) : s * d + i)
            : cpu::kv_values(view, layer, page, head) +
                  (on_cpu ? cpu::kv_value(view, s, j) : s * view.value_dim + j);
  const uint16_t half = f32_to_bf16(x);
  const int64_t size = dtype_size(view.dtype);
  std::memcpy(block_.host() + index * size, size == 4 ? static_cast<const void*>(&x) : &half,
              static_cast<size_t>(size));
}

void Cache::set(int64_t layer, const PagedStep& step) {
  std::vector<float> x(static_cast<size_t>(view.key_dim + view.value_dim));
  uint32_t seed = 2;
  for (int64_t b = 0; b < step.sequences(); b++) {
    const SequenceSpec& spec = step.specs[static_cast<size_t>(b)];
    for (int64_t p = spec.first_seen(step.window); p < spec.before + spec.tokens; p++) {
      for (int64_t head = 0; head < view.kv_heads; head++) {
        fill(x.data(), static_cast<int64_t>(x.size()), seed++);
        for (size_t i = 0; i < x.size(); i++)
          set(layer, step.page(b, p), head, p % view.page_size, static_cast<int64_t>(i), x[i]);
      }
    }
  }
  upload();
}

int64_t Cache::numbers() const {
  std::vector<float> elements(static_cast<size_t>(view.page_elements()));
  int64_t count = 0;
  for (int64_t i = 0; i < view.layers * view.pages; i++) {
    must(arena_.device().read_page(view, i / view.pages, i % view.pages, elements.data()));
    count +=
        std::count_if(elements.begin(), elements.end(), [](float x) { return !std::isnan(x); });
  }
  return count;
}

void set(Ints& array, const std::vector<int32_t>& values) {
  std::copy(values.begin(), values.end(), array.host());
  array.upload();
}

PagedInts::PagedInts(Arena& arena, const PagedStep& step)
    : positions(arena, {step.tokens}),
      starts(arena, {step.sequences() + 1}),
      page_table(arena, {step.sequences(), step.columns}),
      one_token_(arena, {2}) {
  set(positions, step.positions);
  set(starts, step.starts);
  set(page_table, step.page_table);
  set(one_token_, {0, 1});
}

Picks draw_picks(int64_t tokens, int64_t k, int64_t ffn_experts, int64_t others, double ffn_share,
                 uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::vector<int32_t>> of_expert(static_cast<size_t>(ffn_experts));
  Picks picks;
  picks.rows.assign(static_cast<size_t>(tokens * k), -1);
  for (int64_t t = 0; t < tokens; t++) {
    std::vector<int64_t> chosen;
    int64_t ffn_left = ffn_experts, others_left = others;
    for (int64_t i = 0; i < k; i++) {
      const bool is_ffn =
          others_left == 0 || (ffn_left > 0 && static_cast<double>(random()) < ffn_share * 0x1p32);
      (is_ffn ? ffn_left : others_left)--;
      int64_t expert;
      do {
        expert = is_ffn ? static_cast<int64_t>(random()) % ffn_experts
                        : ffn_experts + static_cast<int64_t>(random()) % others;
      } while (std::find(chosen.begin(), chosen.end(), expert) != chosen.end());
      chosen.push_back(expert);
      if (expert < ffn_experts)
        of_expert[static_cast<size_t>(expert)].push_back(static_cast<int32_t>(t * k + i));
    }
  }
  picks.offsets.push_back(0);
  for (const auto& list : of_expert) {
    for (const int32_t pick : list) {
      picks.rows[static_cast<size_t>(pick)] = static_cast<int32_t>(picks.order.size());
      picks.order.push_back(pick);
    }
    picks.offsets.push_back(static_cast<int32_t>(picks.order.size()));
    picks.experts_used += list.empty() ? 0 : 1;
  }
  picks.order.resize(static_cast<size_t>(tokens * k));
  return picks;
}

}  // namespace moepp::test
