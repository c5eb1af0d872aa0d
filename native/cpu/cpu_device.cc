// The CPU as a device: memory, the shared thread pool, and the packing of weights.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

#include "../device.h"
#include "host/platform.h"
#include "weights/stacked_rows.h"
#include "isa/isa.h"
#include "kv_pages.h"
#include "pack.h"
#include "weights/panels.h"
#include "host/thread_pool.h"

namespace moepp {

namespace cpu {
namespace {

// One pool for each number of threads, shared by all devices that ask for it; null without memory
// for it.
std::shared_ptr<ThreadPool> shared_pool(int threads) {
  static std::mutex mutex;
  static std::map<int, std::weak_ptr<ThreadPool>> pools;
  const std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<ThreadPool> pool = pools[threads].lock();
  if (pool == nullptr) {
    try {
      pool = std::make_shared<ThreadPool>(threads);
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
    pools[threads] = pool;
  }
  return pool;
}

class CpuDevice final : public Device {
 public:
  CpuDevice(std::shared_ptr<ThreadPool> pool, const Isa& isa) : pool_(std::move(pool)), isa_(isa) {}

  DeviceInfo info() const override {
    return {"cpu", isa_.name, pool_->threads(), processor_model()};
  }
  const Kernels& kernels() const override { return *isa_.kernels; }
  Queue& queue() override { return *pool_; }

  void* allocate(int64_t bytes) override { return allocate_pages(bytes); }
  void release(void* data, int64_t bytes) override { release_pages(data, bytes); }

  int64_t weight_bytes(const WeightSpec& spec, Layout layout) const override {
    if (layout == Layout::kRows) return elements_of(spec.shape) * dtype_size(spec.dtype);
    const size_t rank = spec.shape.size();
    const int64_t groups = rank == 3 ? spec.shape[0] : 1;
    return groups * panel_count(layout, spec.shape[rank - 2]) *
           panel_bytes(spec.dtype, spec.shape[rank - 1]);
  }

  Status load_weight(const WeightSpec& spec, Layout layout, void* data,
                     const Control& control) override;

  bool rounds_x(const GroupedGemmArgs& args) const override {
    return isa_.multiplies_pairs && args.may_round_x && args.weight->dtype == DType::kBf16;
  }

  Status copy_page(const KvView& cache, int64_t from, int64_t to) override {
    const int64_t bytes = cache.page_elements() * dtype_size(cache.dtype);
    for (int64_t layer = 0; layer < cache.layers; layer++) {
      auto* pages = static_cast<std::byte*>(cache.data) + layer * cache.pages * bytes;
      std::memcpy(pages + to * bytes, pages + from * bytes, static_cast<size_t>(bytes));
    }
    return {};
  }

  Status read_page(const KvView& cache, int64_t layer, int64_t page, float* out) override {
    cpu::read_page(cache, layer, page, out);
    return {};
  }
  Status write_page(const KvView& cache, int64_t layer, int64_t page,
                    const float* values) override {
    cpu::write_page(cache, layer, page, values);
    return {};
  }

 private:
  std::shared_ptr<ThreadPool> pool_;
  Isa isa_;
};

// A model that loads shares its threads with models that run: it gives them back so often, for
// whose turn comes (thread_pool.h).
constexpr auto kLoadingTurn = std::chrono::milliseconds(10);
// Bytes that a thread loads between two looks at the clock, or one panel if that is more.
constexpr int64_t kBatchElements = 256 << 10;

// Packs panels [first, last), counted over all groups, and drops the rows they were made of.
// Returns the first row that is not finite where it must be, or -1.
int64_t pack_panels(const StackedRows& rows, const WeightSpec& spec, Layout layout, int64_t first,
                    int64_t last, std::byte* target) {
  const int64_t group_rows = spec.shape[spec.shape.size() - 2],
                per_group = panel_count(layout, group_rows);
  const int64_t bytes = panel_bytes(spec.dtype, rows.length());
  for (int64_t unit = first; unit < last; unit++) {
    const int64_t start = unit / per_group * group_rows, panel = unit % per_group;
    PackRow lanes[kPanelRows];
    for (int64_t lane = 0; lane < kPanelRows; lane++) {
      const int64_t row = panel_row(layout, group_rows, panel, lane);
      lanes[lane] = row < 0 ? PackRow{} : rows.row(start + row);
    }
    const int64_t bad = pack_panel(target + unit * bytes, spec.dtype, lanes, rows.length());
    if (bad >= 0) return start + panel_row(layout, group_rows, panel, bad);
  }
  for (int64_t unit = first; unit < last;) {  // one group after the other
    const int64_t start = unit / per_group * group_rows, panel = unit % per_group;
    const int64_t panels = std::min(last - unit, per_group - panel);
    const bool halves = layout == Layout::kGateUp;
    const int64_t width = halves ? kGateUpColumns : kPanelRows,
                  limit = halves ? group_rows / 2 : group_rows;
    const int64_t from = panel * width, to = std::min((panel + panels) * width, limit);
    rows.drop(start + from, start + to);
    if (halves) rows.drop(start + limit + from, start + limit + to);
    unit += panels;
  }
  return -1;
}

Status CpuDevice::load_weight(const WeightSpec& spec, Layout layout, void* data,
                              const Control& control) {
  if (spec.dtype == DType::kF8)
    return Status::error(Code::kUnsupported, spec.name + " is float8, which a CPU does not hold");
  StackedRows rows;
  MOEPP_CHECK(StackedRows::open(spec, &rows));
  auto* target = static_cast<std::byte*>(data);
  const bool panels = layout != Layout::kRows;
  const int64_t unit_bytes =
      panels ? panel_bytes(spec.dtype, rows.length()) : rows.length() * dtype_size(spec.dtype);
  const int64_t units =
      panels ? weight_bytes(spec, layout) / std::max<int64_t>(1, unit_bytes) : rows.count();
  const int64_t batch = std::max<int64_t>(
      1, kBatchElements / std::max<int64_t>(1, rows.length() * (panels ? kPanelRows : 1)));
  std::atomic<int64_t> next{0}, bad_row{-1};
  const auto load = [&](int64_t first, int64_t last) {
    if (panels) {
      const int64_t bad = pack_panels(rows, spec, layout, first, last, target);
      if (bad >= 0) bad_row.store(bad, std::memory_order_relaxed);
    } else {
      for (int64_t unit = first; unit < last; unit++) {
        if (!convert_row(rows.row(unit), 0, rows.length(), spec.dtype, target + unit * unit_bytes))
          bad_row.store(unit, std::memory_order_relaxed);
      }
      rows.drop(first, last);
    }
    control.add((last - first) * unit_bytes);
  };
  const auto has_more = [&] {
    return next.load(std::memory_order_relaxed) < units &&
           bad_row.load(std::memory_order_relaxed) < 0 && !control.is_cancelled();
  };
  while (has_more()) {
    pool_->parallel_for(pool_->threads(), [&](int64_t, int) {
      const auto end = std::chrono::steady_clock::now() + kLoadingTurn;
      do {
        const int64_t first = next.fetch_add(batch, std::memory_order_relaxed);
        if (first < units) load(first, std::min(units, first + batch));
      } while (has_more() && std::chrono::steady_clock::now() < end);
    });
  }
  if (control.is_cancelled()) return Status::error(Code::kAborted, "loading was cancelled");
  const int64_t bad = bad_row.load(std::memory_order_relaxed);
  return bad < 0 ? Status{} : not_finite(spec, bad);
}

}  // namespace
}  // namespace cpu

Status open_cpu_device(int threads, const std::string& isa, std::shared_ptr<Device>* device) {
  if (threads < 0 || threads > 1024)
    return Status::error(Code::kUnsupported,
                         "threads is " + std::to_string(threads) + ", expected 1 to 1024");
  const std::string wanted = isa.empty() ? cpu::fastest_isa().name : isa;
  std::string names;
  for (const cpu::Isa& candidate : cpu::available_isas()) {
    if (wanted == candidate.name) {
      const int count = threads > 0 ? threads : available_threads();
      std::shared_ptr<ThreadPool> pool = cpu::shared_pool(count);
      if (pool == nullptr)
        return Status::error(Code::kOutOfMemory,
                             "out of memory: scratch for " + std::to_string(count) + " threads");
      *device = std::make_shared<cpu::CpuDevice>(std::move(pool), candidate);
      return {};
    }
    names += std::string(names.empty() ? "" : ", ") + candidate.name;
  }
  return Status::error(Code::kUnsupported, "the instruction set " + isa +
                                               " is not available, expected one of " + names);
}

}  // namespace moepp
