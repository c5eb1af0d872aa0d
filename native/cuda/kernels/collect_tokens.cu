// Two kernels, and an exchange between them. A block for each result packs it for its rank; a block
// for each pick of an own token takes its result to its place.
// SASS * pack_results: LDG STG !LDL !STL registers<=40 no-spills
// SASS * place_results: LDG STG !LDL !STL registers<=40 no-spills
#include "cuda/cuda_queue.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/ranks/copy_row.cuh"
#include "cuda/rank_link.h"

namespace moepp::cuda {

namespace {

constexpr int kThreads = 128;

struct Results {
  const float* received_out;
  const int32_t *sent_picks, *sent_offsets, *received_picks, *received_offsets;
  float* expert_out;
  int hidden, ranks, own;

  SIMT_DEVICE float* row(const MessageBox& box, int rank, int row) const {
    return reinterpret_cast<float*>(box.of(rank)) + static_cast<int64_t>(row) * hidden;
  }
  SIMT_DEVICE const float* received(int pick) const {
    return received_out + static_cast<int64_t>(received_picks[pick]) * hidden;
  }
};

template <int N>
__global__ void __launch_bounds__(kThreads) pack_results(Results r, MessageBox box) {
  await_inputs();
  const int pick = static_cast<int>(blockIdx.x);
  if (pick >= r.received_offsets[r.ranks]) return;
  const int to = rank_of(r.received_offsets, pick);
  if (to != r.own)
    copy_row<N>(r.received(pick), r.row(box, to, pick - r.received_offsets[to]), r.hidden);
}

// The own results do not travel.
template <int N>
__global__ void __launch_bounds__(kThreads) place_results(Results r, MessageBox box) {
  await_inputs();
  const int pick = static_cast<int>(blockIdx.x);
  if (pick >= r.sent_offsets[r.ranks]) return;
  const int from = rank_of(r.sent_offsets, pick), number = pick - r.sent_offsets[from];
  const float* source = r.row(box, from, number);
  if (from == r.own) {
    // After a fault nothing has come.
    const int own_pick = r.received_offsets[from] + number;
    if (own_pick >= r.received_offsets[from + 1]) return;
    source = r.received(own_pick);
  }
  copy_row<N>(source, r.expert_out + static_cast<int64_t>(r.sent_picks[pick]) * r.hidden, r.hidden);
}

template <class Kernel>
void launch(Kernel by_fours, Kernel by_ones, int64_t picks, const Results& r, MessageBox box,
            CudaQueue& queue) {
  queue.launch(r.hidden % 4 == 0 ? by_fours : by_ones,
               {dim3(static_cast<unsigned>(picks)), dim3(kThreads)}, r, box);
}

void pack(const Results& r, int64_t picks, MessageBox box, CudaQueue& queue) {
  launch(pack_results<4>, pack_results<1>, picks, r, box, queue);
}
void place(const Results& r, int64_t picks, MessageBox box, CudaQueue& queue) {
  launch(place_results<4>, place_results<1>, picks, r, box, queue);
}

Status exchange_counted(const Results& r, RankLink& link, CudaQueue& queue) {
  std::vector<int32_t> sent, came;
  MOEPP_CHECK(link.read_offsets(r.sent_offsets, r.received_offsets, queue.stream(), &sent, &came));
  std::vector<int64_t> to, from;
  for (size_t w = 0; w + 1 < sent.size(); w++) {
    const int64_t bytes = static_cast<int>(w) == r.own ? 0 : int64_t{4} * r.hidden;
    to.push_back((came[w + 1] - came[w]) * bytes);
    from.push_back((sent[w + 1] - sent[w]) * bytes);
  }
  RankLink::Boxes boxes;
  MOEPP_CHECK(link.reserve(to, from, queue.stream(), &boxes));
  pack(r, came.back(), boxes.sent, queue);
  MOEPP_CHECK(link.exchange_reserved(queue.stream()));
  place(r, sent.back(), boxes.received, queue);
  return {};
}

}  // namespace

void collect_tokens(const CollectTokensArgs& args, Queue& any_queue) {
  CudaQueue& queue = CudaQueue::from(any_queue);
  RankLink* link = RankLink::of(args.ranks);
  if (link == nullptr) return RankLink::refuse(args.ranks);
  const Results r = {args.received_out->f32(),
                     args.sent_picks->i32(),
                     args.sent_offsets->i32(),
                     args.received_picks->i32(),
                     args.received_offsets->i32(),
                     args.expert_out->f32(),
                     static_cast<int>(args.expert_out->shape[2]),
                     args.ranks.count,
                     args.ranks.own};
  const int64_t received = args.received_picks->elements(), bytes = received * r.hidden * 4;
  if (!link->sends_whole(bytes))
    return link->between(queue, [=, &queue] { return exchange_counted(r, *link, queue); });
  pack(r, received, link->sent_whole(), queue);
  link->between(queue, [=, &queue] { return link->exchange_whole(bytes, queue.stream()); });
  place(r, args.sent_picks->elements(), link->received_whole(), queue);
}

}  // namespace moepp::cuda
