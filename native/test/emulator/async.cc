// Asynchronous operations: cp.async, TMA, wgmma, and the mbarriers that tell of their end.
//
// For ThreadSanitizer a TMA copy or a product is a thread of its own. It begins after everything
// that its issuer knew. Others learn of its end through the mbarrier or the wait alone.
#include "test/emulator/state.h"
#include "test/emulator/traffic/products.h"
#include "test/emulator/traffic/traffic.h"

namespace simt::emu {

bool computes_products = true;

namespace {

// In the 8 bytes of an mbarrier. All ones, as fresh shared memory is, is no initialised barrier.
struct Word {
  uint64_t phase : 1, expected : 20, pending : 20;
  int64_t bytes : 23;
};
static_assert(sizeof(Word) == 8, "an mbarrier has 64 bits");
constexpr int kMaxArrivals = (1 << 20) - 1, kMaxBytes = (1 << 20) - 1;

Word load_word(const uint64_t* b) {
  Word word;
  __builtin_memcpy(&word, b, 8);
  return word;
}
void store_word(uint64_t* b, Word word) {
  __builtin_memcpy(b, &word, 8);
}

void check_mbarrier(const uint64_t* b, const char* op, bool initialised, Site at) {
  const auto* p = reinterpret_cast<const unsigned char*>(b);
  if (p < block.smem || p + 8 > block.smem + block.smem_bytes)
    fail(at, "%s: the mbarrier is not in shared memory", op);
  if ((p - block.smem) % 8 != 0) fail(at, "%s: the mbarrier is not aligned to 8", op);
  const Word word = load_word(b);
  if (initialised && (word.expected == 0 || word.expected == kMaxArrivals))
    fail(at, "%s: the mbarrier is not initialised", op);
}

void check_visible(const uint64_t* b, Site at) {
  const auto offset = reinterpret_cast<const unsigned char*>(b) - block.smem;
  uint64_t seen;
  __builtin_memcpy(&seen, async_smem() + offset, 8);
  if (seen == ~uint64_t{0})
    fail(at, "TMA load: no fence_mbarrier_init since the mbarrier was initialised");
}

// One edge for each parity, so that who waits late for a phase does not also wait for arrivals of
// the next.
const char* phase_edge(const uint64_t* b, int parity) {
  return reinterpret_cast<const char*>(b) + parity;
}

void run_copy(const PendingCopy& p) {
  if (p.mbarrier == nullptr) {
    p.copy.run(p.copy);
  } else {
    mbarrier_update(p.mbarrier, 1, 0, {"cp_async_mbar_arrive", 0});
  }
}

// Runs a copy as an engine. `run` is instrumented. So the part of the description that it reads
// must lie where no fiber writes, on no stack. Else the engine's reads would race with the stack
// owner's later writes there.
void run_bulk(const PendingBulk& p) {
  static Bulk description;
  description = p.bulk;
  description.run(description);
}

void land(const PendingBulk& p, Site at) {
  run_bulk(p);
  const int64_t bytes = int64_t{1} * p.bulk.box_columns * p.bulk.box_rows * p.bulk.element_bytes;
  mbarrier_update(p.mbarrier, 0, -bytes, at);
}

// A load by the block whose shared memory begins at `from`. It lands in the same place of `block`.
struct Landing {
  PendingBulk p;
  const unsigned char* from;
  Site at;
};
void land_here(void* argument) {
  const auto* landing = static_cast<const Landing*>(argument);
  PendingBulk p = landing->p;
  p.bulk.smem = block.smem + (p.bulk.smem - landing->from);
  p.mbarrier = reinterpret_cast<uint64_t*>(
      block.smem + (reinterpret_cast<const unsigned char*>(p.mbarrier) - landing->from));
  land(p, landing->at);
}

void run_load(const PendingBulk& p, Site at) {
  require_block_of_cluster(p.to, at);
  void* before = begin_engine(p.edge);
  Landing landing = {p, block.smem, at};
  in_block_of_cluster(p.to, at, land_here, &landing);
  end_engine(before);
}

void run_store(Thread& thread, const PendingBulk& p) {
  void* before = begin_engine(p.edge);
  run_bulk(p);
  release(&block.edges->stored[thread.rank]);
  end_engine(before);
}

void run_product(unsigned group, const PendingProduct& p) {
  void* before = begin_engine(p.edge);
  if (computes_products) p.product.run(p.product);
  release(&block.edges->finished[group]);
  end_engine(before);
}

const char* next_bulk_edge() {
  const char* edge = &block.edges->bulk[block.bulk_issued++ % sizeof block.edges->bulk];
  release(edge);
  return edge;
}

}  // namespace

unsigned char* async_smem() {
  if (!block.async_used) {
    block.async_used = true;
    __builtin_memset(block.parts->async_smem, 0xff, block.smem_bytes);
  }
  return block.parts->async_smem;
}
// By all threads so far, not the caller alone. Those that it does not wait for are later in another
// schedule.
void proxy_fence() {
  __builtin_memcpy(async_smem(), block.smem, block.smem_bytes);
}

bool phase_complete(const uint64_t* b, int parity) {
  return static_cast<int>(load_word(b).phase) != parity;
}

void mbarrier_init(uint64_t* b, int arrivals, Site at) {
  check_mbarrier(b, "mbar_init", false, at);
  if (arrivals < 1 || arrivals >= kMaxArrivals) fail(at, "mbar_init: %d arrivals", arrivals);
  Word word = {};
  word.expected = word.pending = static_cast<unsigned>(arrivals);
  store_word(b, word);
  __builtin_memset(async_smem() + (reinterpret_cast<unsigned char*>(b) - block.smem), 0xff, 8);
}

void mbarrier_update(uint64_t* b, int arrivals, int64_t bytes, Site at) {
  check_mbarrier(b, "mbarrier", true, at);
  Word word = load_word(b);
  release(phase_edge(b, word.phase));
  const int64_t pending_bytes = word.bytes + bytes;
  if (pending_bytes > kMaxBytes || pending_bytes < -kMaxBytes)
    fail(at, "mbarrier: too many bytes in one phase");
  word.bytes = pending_bytes;
  if (arrivals > 0 && word.pending == 0)
    fail(at, "mbarrier: more arrivals than mbar_init was given");
  word.pending = word.pending - static_cast<unsigned>(arrivals);
  if (word.pending == 0 && word.bytes == 0) {
    word.phase = !word.phase;
    word.pending = word.expected;
  }
  store_word(b, word);
}

void mbarrier_arrive(uint64_t* b, Site at) {
  const unsigned phase = load_word(b).phase;
  mbarrier_update(b, 1, 0, at);
  if (load_word(b).phase != phase) step_aside();
}

namespace {
struct Arrival {
  int64_t offset;
  Site at;
};
void arrive_here(void* argument) {
  const auto* arrival = static_cast<const Arrival*>(argument);
  mbarrier_update(reinterpret_cast<uint64_t*>(block.smem + arrival->offset), 1, 0, arrival->at);
}
}  // namespace

void mbarrier_arrive_in(uint64_t* b, unsigned rank, Site at) {
  Arrival arrival = {reinterpret_cast<unsigned char*>(b) - block.smem, at};
  in_block_of_cluster(rank, at, arrive_here, &arrival);
}

void mbarrier_wait(uint64_t* b, int parity, Site at) {
  check_mbarrier(b, "mbar_wait", true, at);
  if (parity != 0 && parity != 1) fail(at, "mbar_wait: parity %d", parity);
  if (!phase_complete(b, parity)) {
    current->mbarrier = b;
    current->parity = parity;
    wait_as(State::kPhase, "mbar_wait", at);
  }
  acquire(phase_edge(b, parity));
}

bool mbarrier_try_wait(uint64_t* b, int parity, Site at) {
  check_mbarrier(b, "mbar_try_wait", true, at);
  if (!phase_complete(b, parity)) {
    yield();
    return false;
  }
  mbarrier_wait(b, parity, at);
  return true;
}

// PTX: copies of 16 bytes go past L1 (cp.async.cg), others by it.
void copy_start(const Copy& copy, Site at) {
  note_access(copy.bytes == 16 ? Access::kLoadPastL1 : Access::kLoad, copy.src,
              static_cast<size_t>(copy.source_bytes), SIMT_PLACE);
  if (options.async == Async::kEager) {
    copy.run(copy);
  } else if (!current->copies.push({copy, nullptr, nullptr})) {
    fail(at, "cp.async: more than 256 copies of a thread in flight");
  }
}
void copy_commit() {
  current->copies.open_group++;
}
void copy_wait(unsigned newest) {
  auto& copies = current->copies;
  for (; copies.due(newest); copies.pop()) {
    if (copies.front().mbarrier != nullptr) current->arrivals--;
    run_copy(copies.front());
  }
}
void copy_arrive(uint64_t* mbarrier, Site at) {
  check_mbarrier(mbarrier, "cp_async_mbar_arrive", true, at);
  if (options.async == Async::kEager) {
    mbarrier_update(mbarrier, 1, 0, at);
    return;
  }
  const char* edge = &block.edges->copied[block.copies_issued++ % sizeof block.edges->copied];
  release(edge);
  if (!current->copies.push({{}, mbarrier, edge}))
    fail(at, "cp.async: more than 256 copies of a thread in flight");
  current->arrivals++;
}

// A load for several blocks comes to each in its own time.
void bulk_load_start(const Bulk& bulk, uint64_t* mbarrier, Site at, unsigned mask) {
  check_mbarrier(mbarrier, "TMA load", true, at);
  check_visible(mbarrier, at);
  note_bulk(bulk, false);
  if (mask == 0) mask = 1u << rank_in_cluster();
  for (unsigned rank = 0; mask >> rank != 0; rank++) {
    if ((mask >> rank & 1) == 0) continue;
    const PendingBulk pending = {bulk, mbarrier, next_bulk_edge(), rank};
    if (options.async == Async::kEager) {
      run_load(pending, at);
    } else if (block.bulk_count == kMostBulks) {
      fail(at, "TMA: more than %u loads in flight", kMostBulks);
    } else {
      block.bulks[block.bulk_count++] = pending;
    }
  }
}
void bulk_store_start(const Bulk& bulk, Site at) {
  note_bulk(bulk, true);
  const PendingBulk pending = {bulk, nullptr, next_bulk_edge(), 0};
  if (options.async == Async::kEager) run_store(*current, pending);
  // Also when done: whether the thread waits for it before the block ends is checked either way.
  if (!current->stores.push(pending)) fail(at, "TMA: more than 16 stores of a thread in flight");
}
void bulk_store_commit() {
  current->stores.open_group++;
}
void bulk_store_wait(unsigned newest) {
  for (; current->stores.due(newest); current->stores.pop()) {
    if (options.async == Async::kLazy) run_store(*current, current->stores.front());
  }
  acquire(&block.edges->stored[current->rank]);
}

void product_issue(Site at) {
  const unsigned group = current->rank / 128;
  if (block.group[group].fence_missing)
    fail(at, "wgmma: no wgmma_fence since the start or the last wgmma_wait");
  release(
      &block.edges->issued[group][block.group[group].issued % sizeof block.edges->issued[group]]);
}
void product_start(const Product& product) {
  const unsigned number = current->rank / 128;
  Group& group = block.group[number];
  const PendingProduct pending = {
      product, &block.edges->issued[number][group.issued++ % sizeof block.edges->issued[number]]};
  if (options.async == Async::kEager) run_product(number, pending);
  if (!group.products.push(pending)) fail(group.at, "wgmma: more than 64 products in flight");
}
void product_fence() {
  block.group[current->rank / 128].fence_missing = 0;
}
void product_commit() {
  block.group[current->rank / 128].products.open_group++;
}
void product_wait(unsigned newest) {
  const unsigned number = current->rank / 128;
  Group& group = block.group[number];
  for (; group.products.due(newest); group.products.pop()) {
    if (options.async == Async::kLazy) run_product(number, group.products.front());
  }
  group.fence_missing = 1;
}
void product_waited() {
  acquire(&block.edges->finished[current->rank / 128]);
}

bool run_one_pending(uint64_t choice) {
  if (block.bulk_count != 0) {
    const unsigned chosen = choice == ~uint64_t{0}
                                ? block.bulk_count - 1
                                : static_cast<unsigned>(choice % block.bulk_count);
    const PendingBulk pending = block.bulks[chosen];
    block.bulk_count--;
    for (unsigned i = chosen; i < block.bulk_count; i++) block.bulks[i] = block.bulks[i + 1];
    run_load(pending, {"TMA load", 0});
    return true;
  }
  const unsigned first = static_cast<unsigned>(choice % block.threads);
  for (unsigned i = 0; i < block.threads; i++) {
    Thread& t = block.thread[(first + i) % block.threads];
    if (t.arrivals == 0) continue;
    // of the arrival: the copies before it began with what the thread knew then
    const char* edge = nullptr;
    for (unsigned k = t.copies.head; edge == nullptr; k++)
      edge = t.copies.entries[k % 256].item.edge;
    void* before = begin_engine(edge);
    bool arrived = false;
    while (!arrived) {
      arrived = t.copies.front().mbarrier != nullptr;
      run_copy(t.copies.front());
      t.copies.pop();
    }
    end_engine(before);
    t.arrivals--;
    return true;
  }
  return false;
}

void end_thread_copies() {
  copy_commit();
  copy_wait(0);
  if (!current->stores.empty())
    fail({"end of the thread", 0}, "the thread ends without tma_store_wait<0> for its stores");
}

void check_block_end() {
  const char* what = nullptr;
  if (block.bulk_count != 0) what = "the block ends while TMA loads are in flight";
  for (unsigned g = 0; g < kGroups; g++) {
    if (!block.group[g].products.empty())
      what = "the block ends without wgmma_wait<0> for its products";
  }
  if (what != nullptr) fail({"end of the block", 0}, "%s", what);
}

}  // namespace simt::emu
