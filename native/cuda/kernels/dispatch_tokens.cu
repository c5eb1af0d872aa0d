// Four kernels, and an exchange between the second and the third (rank_messages.h). A block for
// each rank finds the rows and picks that go there; a block for each row of a message packs it. A
// block for each rank checks what came from it. Then a block for each held expert sorts its picks,
// and a block for each row copies it. Places are prefix sums, so the order is the CPU's.
// SASS * plan_rows: SHFL BAR !LDL !STL registers<=64 no-spills
// SASS * pack_rows: LDG STG !LDL !STL registers<=48 no-spills
// SASS * check_rows: SHFL BAR !LDL !STL registers<=48 no-spills
// SASS sm_75,sm_86,sm_89,sm_90a arrange_rows: SHFL BAR !LDL !STL registers<=64 no-spills
// SASS sm_100,sm_120 arrange_rows: SHFL BAR !LDL !STL registers<=64 no-spills
// On sm_80 ptxas moves 20 bytes of a thread to local memory, with registers to spare.
// SASS sm_80 arrange_rows: SHFL BAR registers<=64
#include "cuda/cuda_queue.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/ranks/block_scan.cuh"
#include "cuda/kernels/ranks/copy_row.cuh"
#include "cuda/rank_link.h"

namespace moepp::cuda {

namespace {

constexpr int kRowThreads = 128;
// Places of a scan hold two counts: rows and picks, or picks that came and those of an expert.
constexpr int kHigh = 16;
static_assert(kScanThreads * kMostChosen < 1 << kHigh, "a tile's picks fit their half");

struct Outgoing {
  const float* x;
  const int32_t *expert_indices, *expert_rows;
  int32_t *sent_picks, *sent_offsets;
  int32_t* sent_rows;  // [ranks, tokens]: whose rows go to each rank
  RowsHeader* headers;
  RankReport* reports;
  int tokens, chosen, hidden, ranks, own, bf16;
  ExpertRuns experts;
  ExpertTable destinations;

  // Of a pick the FFN expert, or -1.
  SIMT_DEVICE int expert(int pick) const {
    return expert_rows[pick] < 0 ? -1 : experts.rank_in_kind(expert_indices[pick]);
  }
  SIMT_DEVICE int rank(int pick) const {
    const int n = expert(pick);
    return n < 0 ? -1 : destinations.of[n];
  }
};

__global__ void __launch_bounds__(kScanThreads) plan_rows(Outgoing o) {
  await_inputs();
  auto* memory = simt::smem<ScanMemory>();
  const int to = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  uint32_t lower = 0;  // picks of ranks below this one
  for (int pick = thread; pick < o.tokens * o.chosen; pick += kScanThreads) {
    const int rank = o.rank(pick);
    lower += rank >= 0 && rank < to ? 1 : 0;
  }
  const uint32_t first = block_total(lower, memory);
  uint32_t rows = 0, picks = 0;
  for (int begin = 0; begin < o.tokens; begin += kScanThreads) {
    const int token = begin + thread;
    uint32_t count = 0;
    for (int k = 0; k < o.chosen && token < o.tokens; k++)
      count += o.rank(token * o.chosen + k) == to ? 1 : 0;
    uint32_t total;
    const uint32_t before = block_scan(count | (count > 0 ? 1u << kHigh : 0), memory, &total);
    if (count > 0) {
      o.sent_rows[to * o.tokens + static_cast<int>(rows + (before >> kHigh))] = token;
      int32_t* next = o.sent_picks + first + picks + (before & ((1u << kHigh) - 1));
      for (int k = 0; k < o.chosen; k++) {
        const int pick = token * o.chosen + k;
        if (o.rank(pick) == to) *next++ = o.expert_rows[pick];
      }
    }
    rows += total >> kHigh, picks += total & ((1u << kHigh) - 1);
  }
  if (thread != 0) return;
  o.sent_offsets[to] = static_cast<int32_t>(first);
  if (to == o.ranks - 1) o.sent_offsets[o.ranks] = static_cast<int32_t>(first + picks);
  o.headers[to] = {static_cast<int32_t>(rows), static_cast<int32_t>(picks), o.hidden, o.bf16};
  o.reports[to].picks += picks;
  if (to != o.own) o.reports[to].rows += rows;
}

// Of the own message the picks alone: rows are read from x.
template <int N>
__global__ void __launch_bounds__(kRowThreads) pack_rows(Outgoing o, MessageBox box) {
  await_inputs();
  const int row = static_cast<int>(blockIdx.x), to = static_cast<int>(blockIdx.y);
  const RowsHeader header = o.headers[to];
  std::byte* message = box.of(to);
  if (row == 0 && threadIdx.x == 0) *reinterpret_cast<RowsHeader*>(message) = header;
  if (row >= header.rows) return;
  const int token = o.sent_rows[to * o.tokens + row];
  if (threadIdx.x == 0) {
    auto* slot = reinterpret_cast<uint16_t*>(message + sizeof(RowsHeader)) + row * o.chosen;
    int used = 0;
    for (int k = 0; k < o.chosen; k++) {
      const int expert = o.expert(token * o.chosen + k);
      if (expert >= 0 && o.destinations.of[expert] == to)
        slot[used++] = static_cast<uint16_t>(expert);
    }
    for (; used < o.chosen; used++) slot[used] = kNoExpert;
  }
  if (to == o.own) return;
  const float* from = o.x + static_cast<int64_t>(token) * o.hidden;
  std::byte* rows = message + rows_at(header.rows, o.chosen);
  const int64_t at = static_cast<int64_t>(row) * o.hidden;
  if (o.bf16 != 0) {
    copy_row<N>(from, reinterpret_cast<simt::bf16*>(rows) + at, o.hidden);
  } else {
    copy_row<N>(from, reinterpret_cast<float*>(rows) + at, o.hidden);
  }
}

struct Incoming {
  const float* x;
  const int32_t* sent_rows;
  MessageBox own_box, box;      // own_box: with the message to itself
  const RowsHeader* announced;  // of each other rank's message, where they came first; else null
  CheckedRows* checked;
  RankReport* reports;
  Output rows;
  int32_t *expert_offsets, *token_order, *received_picks, *received_offsets;
  int tokens, chosen, hidden, ranks, own, most, held, experts;
  ExpertTable places;  // of FFN experts among those that are held, or kNoExpert

  SIMT_DEVICE std::byte* message(int from) const { return (from == own ? own_box : box).of(from); }
  SIMT_DEVICE const uint16_t* slots(int from) const {
    return reinterpret_cast<const uint16_t*>(message(from) + sizeof(RowsHeader));
  }
  // The rows that came, of all ranks.
  SIMT_DEVICE int64_t all_rows() const {
    int64_t rows_of_all = 0;
    for (int from = 0; from < ranks; from++) rows_of_all += checked[from].rows;
    return rows_of_all;
  }
};

SIMT_DEVICE void note_fault(RankReport* report, RankFault fault, int32_t value) {
  if (report->fault != 0) return;
  report->fault = static_cast<int32_t>(fault);
  report->value = value;
}

__global__ void __launch_bounds__(kScanThreads) check_rows(Incoming in) {
  await_inputs();
  auto* memory = simt::smem<ScanMemory>();
  const int from = static_cast<int>(blockIdx.x);
  const RowsHeader header = *reinterpret_cast<const RowsHeader*>(in.message(from));
  bool fits = header.rows >= 0 && header.rows <= in.most && header.hidden == in.hidden &&
              (header.bf16 == 0 || header.bf16 == 1);
  if (in.announced != nullptr && from != in.own)
    fits = fits && header.rows == in.announced[from].rows && header.bf16 == in.announced[from].bf16;
  const uint16_t* slots = in.slots(from);
  uint32_t picks = 0, wrong = 0;
  int32_t value = 0;
  const int count = fits ? header.rows * in.chosen : 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kScanThreads) {
    const uint16_t expert = slots[i];
    const bool is_first = i % in.chosen == 0;
    bool is_good = !is_first;  // a row has a pick
    if (expert != kNoExpert) {
      is_good = expert < in.experts && in.places.of[expert] != kNoExpert &&
                (is_first || slots[i - 1] != kNoExpert);
      picks++;
    }
    if (is_good) continue;
    wrong++;
    value = expert;
  }
  picks = block_total(picks, memory);
  // The first thread's that has one.
  uint32_t all_wrong;
  const uint32_t before = block_scan(wrong, memory, &all_wrong);
  if (all_wrong > 0) {
    if (wrong > 0 && before == 0) note_fault(in.reports + from, RankFault::kPick, value);
  } else if (threadIdx.x == 0 && !fits) {
    note_fault(in.reports + from, RankFault::kHeader, header.rows);
  } else if (threadIdx.x == 0 && static_cast<int32_t>(picks) != header.picks) {
    note_fault(in.reports + from, RankFault::kPicks, header.picks);
  }
  const bool is_good = fits && all_wrong == 0 && static_cast<int32_t>(picks) == header.picks;
  if (threadIdx.x == 0)
    in.checked[from] =
        is_good ? CheckedRows{header.rows, header.picks, header.bf16} : CheckedRows{0, 0, 0};
}

// The picks of a held expert, in the order in which they came.
SIMT_DEVICE void sort_picks(const Incoming& in, int ranks, int held, ScanMemory* memory) {
  const int thread = static_cast<int>(threadIdx.x);
  uint32_t lower = 0;  // picks of places below
  for (int from = 0; from < ranks; from++) {
    const uint16_t* slots = in.slots(from);
    for (int i = thread; i < in.checked[from].rows * in.chosen; i += kScanThreads)
      lower += slots[i] != kNoExpert && in.places.of[slots[i]] < held ? 1 : 0;
  }
  const uint32_t first = block_total(lower, memory);
  uint32_t came = 0, own = 0;
  int row = 0;
  for (int from = 0; from < in.ranks; from++) {
    if (held == 0 && thread == 0) in.received_offsets[from] = static_cast<int32_t>(came);
    if (from >= ranks) continue;
    const uint16_t* slots = in.slots(from);
    const int count = in.checked[from].rows * in.chosen;
    for (int begin = 0; begin < count; begin += kScanThreads) {
      const int i = begin + thread;
      const uint16_t expert = i < count ? slots[i] : kNoExpert;
      const bool is_own = expert != kNoExpert && in.places.of[expert] == held;
      uint32_t total;
      const uint32_t before =
          block_scan((expert != kNoExpert ? 1u << kHigh : 0) | (is_own ? 1 : 0), memory, &total);
      if (is_own) {
        const uint32_t place = first + own + (before & ((1u << kHigh) - 1));
        in.token_order[place] = row * in.chosen + i;
        in.received_picks[came + (before >> kHigh)] = static_cast<int32_t>(place);
      }
      came += total >> kHigh, own += total & ((1u << kHigh) - 1);
    }
    row += in.checked[from].rows;
  }
  if (thread != 0) return;
  in.expert_offsets[held] = static_cast<int32_t>(first);
  if (held == in.held - 1) in.expert_offsets[in.held] = static_cast<int32_t>(first + own);
  if (held == 0) in.received_offsets[in.ranks] = static_cast<int32_t>(came);
}

template <int N>
SIMT_DEVICE void copy_arrived(const Incoming& in, int row) {
  int from = 0, first = 0;
  while (first + in.checked[from].rows <= row) first += in.checked[from++].rows;
  const int64_t to = static_cast<int64_t>(row) * in.hidden;
  const int64_t at = static_cast<int64_t>(row - first) * in.hidden;
  const std::byte* rows = in.message(from) + rows_at(in.checked[from].rows, in.chosen);
  const float* source = reinterpret_cast<const float*>(rows) + at;
  if (from == in.own)
    source =
        in.x + static_cast<int64_t>(in.sent_rows[in.own * in.tokens + row - first]) * in.hidden;
  const bool is_bf16 = from != in.own && in.checked[from].bf16 != 0;
  for (int i = static_cast<int>(threadIdx.x) * N; i < in.hidden; i += kScanThreads * N) {
    float v[N];
    if (is_bf16) {
      load_elements(reinterpret_cast<const simt::bf16*>(rows) + at + i, v);
    } else {
      load_elements(source + i, v);
    }
    in.rows.store(to + i, v);
  }
}

template <int N>
__global__ void __launch_bounds__(kScanThreads) arrange_rows(Incoming in) {
  await_inputs();
  auto* memory = simt::smem<ScanMemory>();
  const int64_t rows = in.all_rows();
  const bool fits = rows <= in.most;
  const int block = static_cast<int>(blockIdx.x);
  if (block == 0 && threadIdx.x == 0 && !fits)
    note_fault(in.reports + in.ranks - 1, RankFault::kRows, static_cast<int32_t>(rows));
  if (block < in.held) {
    sort_picks(in, fits ? in.ranks : 0, block, memory);
  } else if (fits && block - in.held < rows) {
    copy_arrived<N>(in, block - in.held);
  }
}

Outgoing outgoing(const DispatchTokensArgs& args, const RankLink& link) {
  Outgoing o = {};
  o.x = args.x->f32();
  o.expert_indices = args.expert_indices->i32(), o.expert_rows = args.expert_rows->i32();
  o.sent_picks = args.sent_picks->i32(), o.sent_offsets = args.sent_offsets->i32();
  o.headers = link.sent_headers(), o.reports = link.reports();
  o.tokens = static_cast<int>(args.x->shape[0]), o.hidden = static_cast<int>(args.x->shape[1]);
  o.chosen = static_cast<int>(args.expert_rows->shape[1]);
  o.ranks = args.ranks.count, o.own = args.ranks.own, o.bf16 = args.sends_bf16 ? 1 : 0;
  o.experts = args.experts;
  for (size_t n = 0; n < args.destinations.size(); n++)
    o.destinations.of[n] = static_cast<uint16_t>(args.destinations[n]);
  return o;
}

Incoming incoming(const DispatchTokensArgs& args, const RankLink& link) {
  Incoming in = {};
  in.x = args.x->f32();
  in.checked = link.checked(), in.reports = link.reports();
  in.rows = output_of(*args.rows);
  in.expert_offsets = args.expert_offsets->i32(), in.token_order = args.token_order->i32();
  in.received_picks = args.received_picks->i32();
  in.received_offsets = args.received_offsets->i32();
  in.tokens = static_cast<int>(args.x->shape[0]), in.hidden = static_cast<int>(args.x->shape[1]);
  in.chosen = static_cast<int>(args.expert_rows->shape[1]);
  in.ranks = args.ranks.count, in.own = args.ranks.own;
  in.most = static_cast<int>(args.rows->shape[0]);
  in.held = static_cast<int>(args.held.size());
  in.experts = static_cast<int>(args.destinations.size());
  for (uint16_t& place : in.places.of) place = kNoExpert;
  for (size_t l = args.held.size(); l-- > 0;)  // of several places the first
    in.places.of[args.held[l]] = static_cast<uint16_t>(l);
  return in;
}

bool by_fours(int hidden) {
  return hidden % 4 == 0;
}

void plan(Outgoing* o, Incoming* in, CudaQueue& queue) {
  const int64_t bytes = int64_t{4} * o->ranks * o->tokens;
  o->sent_rows = static_cast<int32_t*>(queue.workspace(bytes));
  in->sent_rows = o->sent_rows;
  queue.launch(plan_rows,
               {dim3(static_cast<unsigned>(o->ranks)), dim3(kScanThreads), sizeof(ScanMemory)}, *o);
}

void pack(const Outgoing& o, MessageBox box, CudaQueue& queue) {
  const dim3 grid(static_cast<unsigned>(max(o.tokens, 1)), static_cast<unsigned>(o.ranks));
  queue.launch(by_fours(o.hidden) ? pack_rows<4> : pack_rows<1>, {grid, dim3(kRowThreads)}, o, box);
}

void unpack(const Incoming& in, int64_t rows, CudaQueue& queue) {
  queue.launch(check_rows,
               {dim3(static_cast<unsigned>(in.ranks)), dim3(kScanThreads), sizeof(ScanMemory)}, in);
  const dim3 grid(static_cast<unsigned>(in.held + rows));
  queue.launch(by_fours(in.hidden) ? arrange_rows<4> : arrange_rows<1>,
               {grid, dim3(kScanThreads), sizeof(ScanMemory)}, in);
}

// Messages as long as their rows: the ranks tell each other how many first.
Status exchange_counted(Outgoing o, Incoming in, RankLink& link, CudaQueue& queue) {
  plan(&o, &in, queue);
  std::vector<RowsHeader> sent, came;
  MOEPP_CHECK(link.exchange_headers(queue.stream(), &sent, &came));
  std::vector<int64_t> to, from;
  int64_t rows = 0;
  for (int r = 0; r < in.ranks; r++) {
    const RowsHeader& head = came[static_cast<size_t>(r)];
    rows += head.rows;
    if (head.rows < 0 || rows > in.most || head.hidden != in.hidden || (head.bf16 & ~1) != 0)
      return Status::error(Code::kParallel,
                           "rank " + std::to_string(r) + " sends " + std::to_string(head.rows) +
                               " rows of " + std::to_string(head.hidden) + " elements to rank " +
                               std::to_string(in.own) + ", more than the step has, or others");
    const int64_t sent_rows = sent[static_cast<size_t>(r)].rows;
    // The own rows stay in x.
    to.push_back(r == in.own ? rows_at(sent_rows, o.chosen)
                             : rows_end(sent_rows, o.chosen, o.hidden, o.bf16 != 0));
    from.push_back(r == in.own ? 0 : rows_end(head.rows, in.chosen, in.hidden, head.bf16 != 0));
  }
  RankLink::Boxes boxes;
  MOEPP_CHECK(link.reserve(to, from, queue.stream(), &boxes));
  in.own_box = boxes.sent, in.box = boxes.received;
  in.announced = link.received_headers();
  pack(o, boxes.sent, queue);
  MOEPP_CHECK(link.exchange_reserved(queue.stream()));
  unpack(in, rows, queue);
  return {};
}

}  // namespace

void dispatch_tokens(const DispatchTokensArgs& args, Queue& any_queue) {
  CudaQueue& queue = CudaQueue::from(any_queue);
  RankLink* link = RankLink::of(args.ranks);
  if (link == nullptr) return RankLink::refuse(args.ranks);
  Outgoing o = outgoing(args, *link);
  Incoming in = incoming(args, *link);
  const int64_t bytes = rows_end(in.most, in.chosen, in.hidden, false);
  if (!link->sends_whole(bytes))
    return link->between(queue, [=, &queue] { return exchange_counted(o, in, *link, queue); });
  in.own_box = link->sent_whole(), in.box = link->received_whole();
  plan(&o, &in, queue);
  pack(o, in.own_box, queue);
  link->between(queue, [=, &queue] { return link->exchange_whole(bytes, queue.stream()); });
  unpack(in, in.most, queue);
}

}  // namespace moepp::cuda
