#include "tokens.h"

#include <algorithm>
#include <new>
#include <utility>

#include "group.h"
#include "rows.h"

namespace moepp::parallel {

namespace {

Status bad_message(const Group& group, int from, const std::string& words) {
  return Status::error(Code::kParallel, "the message that rank " + std::to_string(from) +
                                            " sent to rank " + std::to_string(group.rank()) + " " +
                                            words);
}

// Makes a failure the group's.
template <class Work>
void run(const Ranks& ranks, const Work& work) {
  Status status;
  try {
    status = work(*ranks.group);
  } catch (const std::bad_alloc&) {
    status = Status::error(Code::kOutOfMemory, "out of memory for rows of other ranks");
  }
  if (!status.ok()) ranks.group->fail(status);
}

// The rows for each rank. Writes sent_picks and sent_offsets.
std::vector<Rows> rows_to_send(const DispatchTokensArgs& args) {
  const int64_t tokens = args.x->shape[0], chosen = args.expert_rows->shape[1];
  std::vector<Rows> to(static_cast<size_t>(args.ranks.count));
  std::vector<std::vector<int32_t>> picks(to.size());
  for (int64_t t = 0; t < tokens; t++) {
    for (int64_t k = 0; k < chosen; k++) {
      const int32_t row = args.expert_rows->i32()[t * chosen + k];
      if (row < 0) continue;
      const int32_t expert = args.experts.rank_in_kind(args.expert_indices->i32()[t * chosen + k]);
      const auto rank = static_cast<size_t>(args.destinations[static_cast<size_t>(expert)]);
      Rows& rows = to[rank];
      if (rows.tokens.empty() || rows.tokens.back() != t) {
        rows.tokens.push_back(static_cast<int32_t>(t));
        rows.counts.push_back(0);
      }
      rows.counts.back()++;
      rows.experts.push_back(static_cast<uint16_t>(expert));
      picks[rank].push_back(row);
    }
  }
  int32_t *sent = args.sent_picks->i32(), *offsets = args.sent_offsets->i32();
  offsets[0] = 0;
  for (size_t rank = 0; rank < to.size(); rank++) {
    std::copy(picks[rank].begin(), picks[rank].end(), sent + offsets[rank]);
    offsets[rank + 1] = offsets[rank] + static_cast<int32_t>(picks[rank].size());
  }
  return to;
}

// The place of each FFN expert in `held`, or -1.
std::vector<int32_t> places_of(const DispatchTokensArgs& args) {
  std::vector<int32_t> places(args.destinations.size(), -1);
  for (size_t l = args.held.size(); l-- > 0;)  // of several places the first
    places[static_cast<size_t>(args.held[l])] = static_cast<int32_t>(l);
  return places;
}

// Sorts the picks that came by expert, in their order.
void sort_picks(const DispatchTokensArgs& args, const std::vector<ArrivedRows>& arrived,
                const std::vector<int32_t>& places) {
  const auto held = static_cast<int64_t>(args.held.size()), chosen = args.token_order->shape[1];
  int32_t *offsets = args.expert_offsets->i32(), *order = args.token_order->i32(),
          *picks = args.received_picks->i32(), *of_rank = args.received_offsets->i32();
  std::fill(offsets, offsets + held + 1, 0);
  for (const ArrivedRows& from : arrived)
    for (int64_t i = 0; i < from.picks; i++) offsets[places[from.experts[i]] + 1]++;
  for (int64_t l = 0; l < held; l++) offsets[l + 1] += offsets[l];
  std::vector<int32_t> next(offsets, offsets + held);
  int64_t pick = 0, row = 0;
  for (size_t rank = 0; rank < arrived.size(); rank++) {
    const ArrivedRows& from = arrived[rank];
    const uint16_t* expert = from.experts;
    of_rank[rank] = static_cast<int32_t>(pick);
    for (int64_t i = 0; i < from.rows; i++, row++) {
      for (int64_t j = 0; j < from.counts[i]; j++) {
        const int32_t place = next[static_cast<size_t>(places[*expert++])]++;
        order[place] = static_cast<int32_t>(row * chosen + j);
        picks[pick++] = place;
      }
    }
  }
  of_rank[arrived.size()] = static_cast<int32_t>(pick);
}

// The rows of all ranks, checked: they fit, and their experts are here.
Status read_all(const DispatchTokensArgs& args, const Rows& own,
                const std::vector<Message>& received, const std::vector<int32_t>& places,
                std::vector<ArrivedRows>* arrived) {
  const int64_t hidden = args.x->shape[1], chosen = args.token_order->shape[1];
  int64_t rows = 0;
  for (int rank = 0; rank < args.ranks.count; rank++) {
    ArrivedRows from;
    if (rank == args.ranks.own) {
      from = {static_cast<int64_t>(own.counts.size()), static_cast<int64_t>(own.experts.size()),
              own.counts.data(), own.experts.data()};
    } else {
      const std::string fault = read_rows(received[static_cast<size_t>(rank)], hidden, chosen,
                                          static_cast<int64_t>(places.size()), &from);
      if (!fault.empty()) return bad_message(*args.ranks.group, rank, fault);
    }
    for (int64_t i = 0; i < from.picks; i++) {
      if (places[from.experts[i]] < 0)
        return bad_message(*args.ranks.group, rank,
                           "has a pick of FFN expert " + std::to_string(from.experts[i]) +
                               ", which is not held there");
    }
    rows += from.rows;
    if (rows > args.rows->shape[0])
      return bad_message(*args.ranks.group, rank,
                         "has " + std::to_string(from.rows) + " rows, expected at most " +
                             std::to_string(args.rows->shape[0] - (rows - from.rows)) +
                             " more in a step of " + std::to_string(args.rows->shape[0]));
    arrived->push_back(from);
  }
  return {};
}

// The picks that went to a rank, or came from it.
struct PicksOfRank {
  const int32_t* picks;
  int64_t count;

  PicksOfRank(const Tensor& all, const Tensor& offsets, int rank)
      : picks(all.i32() + offsets.i32()[rank]),
        count(offsets.i32()[rank + 1] - offsets.i32()[rank]) {}
};

// Rows of [H] f32: the one of pick i to row to[i], from row from[i]; without a list, row i.
void copy_results(const std::byte* source, const int32_t* from, std::byte* target,
                  const int32_t* to, int64_t count, size_t row_bytes) {
  for (int64_t i = 0; i < count; i++)
    std::memcpy(target + static_cast<size_t>(to != nullptr ? to[i] : i) * row_bytes,
                source + static_cast<size_t>(from != nullptr ? from[i] : i) * row_bytes, row_bytes);
}

}  // namespace

void dispatch_tokens(const DispatchTokensArgs& args) {
  run(args.ranks, [&](Group& group) -> Status {
    const int64_t hidden = args.x->shape[1];
    const std::vector<Rows> to = rows_to_send(args);
    const Rows& own = to[static_cast<size_t>(args.ranks.own)];
    std::vector<Message> messages, received;
    int64_t picks = 0;
    for (int rank = 0; rank < args.ranks.count; rank++) {
      const Rows& rows = to[static_cast<size_t>(rank)];
      const bool is_own = rank == args.ranks.own;
      messages.push_back(is_own ? Message::of_body(0)
                                : write_rows(rows, args.x->f32(), hidden, args.sends_bf16));
      if (!is_own) group.count_rows(static_cast<int64_t>(rows.counts.size()));
      picks += static_cast<int64_t>(rows.experts.size());
    }
    group.count_picks(picks, static_cast<int64_t>(own.experts.size()));
    MOEPP_CHECK(group.exchange(Exchange::kDispatch, std::move(messages), &received));
    const std::vector<int32_t> places = places_of(args);
    std::vector<ArrivedRows> arrived;
    MOEPP_CHECK(read_all(args, own, received, places, &arrived));
    float* row = args.rows->f32();
    for (int rank = 0; rank < args.ranks.count; rank++) {
      const ArrivedRows& from = arrived[static_cast<size_t>(rank)];
      if (rank != args.ranks.own) {
        copy_rows(from, hidden, row);
      } else {
        for (int64_t i = 0; i < from.rows; i++)
          std::memcpy(row + i * hidden, args.x->f32() + own.tokens[i] * hidden,
                      static_cast<size_t>(hidden) * 4);
      }
      row += from.rows * hidden;
    }
    sort_picks(args, arrived, places);
    return {};
  });
}

void collect_tokens(const CollectTokensArgs& args) {
  run(args.ranks, [&](Group& group) -> Status {
    const auto row_bytes = static_cast<size_t>(args.expert_out->shape[2]) * 4;
    const auto* results = args.received_out->as<std::byte>();
    auto* out = args.expert_out->as<std::byte>();
    const auto sent_to = [&](int rank) {
      return PicksOfRank(*args.sent_picks, *args.sent_offsets, rank);
    };
    const auto came_from = [&](int rank) {
      return PicksOfRank(*args.received_picks, *args.received_offsets, rank);
    };
    const int own = args.ranks.own;
    std::vector<Message> messages, received;
    for (int rank = 0; rank < args.ranks.count; rank++) {
      const PicksOfRank came = came_from(rank);
      const int64_t count = rank == own ? 0 : came.count;
      messages.push_back(Message::of_body(static_cast<size_t>(count) * row_bytes));
      copy_results(results, came.picks, messages.back().body(), nullptr, count, row_bytes);
      group.count_rows(count);
    }
    MOEPP_CHECK(group.start(Exchange::kCollect, std::move(messages)));
    // The own ones while the others travel.
    if (came_from(own).count != sent_to(own).count)
      return Status::error(Code::kParallel,
                           "the picks of own experts are not those that were sent");
    copy_results(results, came_from(own).picks, out, sent_to(own).picks, sent_to(own).count,
                 row_bytes);
    MOEPP_CHECK(group.finish(&received));
    for (int rank = 0; rank < args.ranks.count; rank++) {
      const Message& message = received[static_cast<size_t>(rank)];
      const PicksOfRank sent = sent_to(rank);
      const size_t bytes = rank == own ? 0 : static_cast<size_t>(sent.count) * row_bytes;
      if (message.body_bytes() != bytes)
        return bad_message(group, rank,
                           "has " + std::to_string(message.body_bytes()) +
                               " bytes of results, expected " + std::to_string(bytes));
      if (rank != own)
        copy_results(message.body(), nullptr, out, sent.picks, sent.count, row_bytes);
    }
    return {};
  });
}

}  // namespace moepp::parallel
