// Groups of ranks: messages, and every way in which a rank fails the others.
#include "parallel/group.h"

#include <chrono>
#include <random>
#include <stdexcept>
#include <string>

#include "arena.h"
#include "ops/rank_tokens.h"
#include "parallel/tokens.h"
#include "ranks.h"
#include "test.h"

namespace moepp::test {

using parallel::Exchange;
using parallel::Group;
using parallel::Message;

namespace {

Message text_message(const std::string& text) {
  Message message = Message::of_body(text.size());
  std::memcpy(message.body(), text.data(), text.size());
  return message;
}

std::string text_of(const Message& message) {
  return {reinterpret_cast<const char*>(message.body()), message.body_bytes()};
}

std::vector<Message> messages(const Group& group, const std::string& text) {
  std::vector<Message> all;
  for (int to = 0; to < group.size(); to++)
    all.push_back(text_message(std::to_string(group.rank()) + ">" + std::to_string(to) + text));
  return all;
}

Status mail(Group& group, const std::string& text = "", bool waits = false) {
  std::vector<Message> received;
  return group.exchange(Exchange::kMail, messages(group, text), &received, waits);
}

void expect_parallel(const Status& status, const std::string& words) {
  EXPECT_MESSAGE(status.code == Code::kParallel && status.message.find(words) != std::string::npos,
                 "expected '" + words + "', got '" + status.message + "'");
}

}  // namespace

MOEPP_TEST(group_exchanges_messages) {
  for (const int ranks : {1, 2, 3, 5}) {
    const Groups groups = make_groups(ranks);
    on_ranks(ranks, [&](int rank) {
      Group& group = *groups[static_cast<size_t>(rank)];
      std::mt19937 random(static_cast<uint32_t>(rank));
      for (int i = 0; i < 50; i++) {
        // Empty ones, too; and ranks that are ahead of others.
        const std::string text = i % 3 == 0 ? "" : " " + std::string(random() % 999, 'x');
        if (random() % 8 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        std::vector<Message> received;
        const Status status =
            group.exchange(Exchange::kMail, messages(group, text), &received, i % 2 == 0);
        EXPECT_MESSAGE(status.ok(), status.message);
        for (int from = 0; from < ranks; from++) {
          const std::string expected = std::to_string(from) + ">" + std::to_string(rank);
          EXPECT(text_of(received[static_cast<size_t>(from)]).rfind(expected, 0) == 0);
        }
      }
      EXPECT(group.close().ok());
      EXPECT(group.close().ok());
      EXPECT(mail(group).code == Code::kClosed);
    });
    const parallel::Counters counters = groups[0]->counters();
    EXPECT(counters.exchanges == 51 && counters.messages_sent == 51 * (ranks - 1));
    EXPECT((counters.bytes_sent == 0) == (ranks == 1));
  }
}

MOEPP_TEST(group_ends_when_a_rank_is_late) {
  const Groups groups = make_groups(3, 50);
  Status statuses[3];
  on_ranks(2, [&](int rank) { statuses[rank] = mail(*groups[static_cast<size_t>(rank)]); });
  for (const int rank : {0, 1}) {
    expect_parallel(statuses[rank], "no message from rank 2 within 50 ms");
    expect_parallel(statuses[rank], "rank " + std::to_string(rank) + " of 3: ");
  }
  // The late one is told, and so is every later call.
  for (int i = 0; i < 2; i++) expect_parallel(mail(*groups[2]), "no message from rank 2");
  expect_parallel(mail(*groups[0]), "no message from rank 2");
  expect_parallel(groups[1]->close(), "no message from rank 2");
}

MOEPP_TEST(group_ends_when_a_rank_goes) {
  Groups groups = make_groups(3);
  Status statuses[2];
  std::thread goes([&] { groups[2] = nullptr; });
  on_ranks(2, [&](int rank) { statuses[rank] = mail(*groups[static_cast<size_t>(rank)]); });
  goes.join();
  for (const Status& status : statuses)
    expect_parallel(status, "rank 2 failed: it went without closing its group");
}

MOEPP_TEST(group_is_aborted_while_it_waits) {
  const Groups groups = make_groups(3, 0);
  Status statuses[3];
  std::thread aborts([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    groups[1]->abort("of a test");
    groups[1]->abort("again");
  });
  // Rank 1 waits itself; rank 2 never comes.
  on_ranks(2,
           [&](int rank) { statuses[rank] = mail(*groups[static_cast<size_t>(rank)], "", true); });
  aborts.join();
  expect_parallel(statuses[0], "rank 0 of 3: mail 0: rank 1 failed: of a test");
  expect_parallel(statuses[1], "rank 1 of 3: the group was aborted: of a test");
  expect_parallel(mail(*groups[2]), "rank 1 failed: of a test");
}

MOEPP_TEST(group_finds_ranks_in_different_exchanges) {
  const Groups groups = make_groups(2);
  Status statuses[2];
  on_ranks(2, [&](int rank) {
    Group& group = *groups[static_cast<size_t>(rank)];
    EXPECT(mail(group).ok());
    std::vector<Message> received;
    statuses[rank] = group.exchange(rank == 0 ? Exchange::kMail : Exchange::kCollect,
                                    messages(group, ""), &received);
  });
  const bool first =
      statuses[0].message.find("expected mail 1 from rank 1, got collect 1") != std::string::npos;
  const bool second =
      statuses[1].message.find("expected collect 1 from rank 0, got mail 1") != std::string::npos;
  EXPECT_MESSAGE(first || second, statuses[0].message + "; " + statuses[1].message);
  EXPECT(statuses[0].code == Code::kParallel && statuses[1].code == Code::kParallel);
}

namespace {

// A rank 1 whose messages are changed on their way.
class Damaging final : public parallel::Communicator {
 public:
  Damaging(std::unique_ptr<Communicator> inner, std::function<void(Message*)> damage)
      : inner_(std::move(inner)), damage_(std::move(damage)) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  Status start(std::vector<Message> messages) override {
    damage_(&messages[0]);
    return inner_->start(std::move(messages));
  }
  Status finish(int64_t deadline_ms, std::vector<Message>* received) override {
    return inner_->finish(deadline_ms, received);
  }
  Status look() override { return inner_->look(); }
  void abort(const std::string& reason) override { inner_->abort(reason); }
  void interrupt(const std::string& reason) override { inner_->interrupt(reason); }

 private:
  const std::unique_ptr<Communicator> inner_;
  const std::function<void(Message*)> damage_;
};

Groups damaged_groups(const std::function<void(Message*)>& damage) {
  auto communicators = parallel::local_communicators(2);
  Groups groups = {std::make_shared<Group>(std::move(communicators[0]), 60000)};
  groups.push_back(std::make_shared<Group>(
      std::make_unique<Damaging>(std::move(communicators[1]), damage), 60000));
  return groups;
}

void cut(Message* message, size_t bytes) {
  Message shorter = Message::of_all(bytes);
  std::memcpy(shorter.data(), message->data(), std::min(bytes, message->bytes()));
  *message = std::move(shorter);
}

Status mail_damaged(const std::function<void(Message*)>& damage) {
  const Groups groups = damaged_groups(damage);
  Status statuses[2];
  on_ranks(2, [&](int rank) {
    statuses[rank] = mail(*groups[static_cast<size_t>(rank)]);
    if (!statuses[rank].ok()) return;
    EXPECT(!(statuses[rank] = mail(*groups[static_cast<size_t>(rank)])).ok());  // told
  });
  return statuses[0];
}

}  // namespace

MOEPP_TEST(group_refuses_damaged_messages) {
  for (const size_t bytes : {size_t{0}, sizeof(parallel::Frame) - 1})
    expect_parallel(mail_damaged([&](Message* m) { cut(m, bytes); }),
                    "rank 1 sent " + std::to_string(bytes) + " bytes that are no message");
  expect_parallel(mail_damaged([](Message* m) { m->data()[0] ^= std::byte{1}; }),
                  "no message of this version");
  expect_parallel(mail_damaged([](Message* m) { cut(m, m->bytes() - 1); }),
                  "the message from rank 1 has 2 bytes, expected 3");
  expect_parallel(mail_damaged([](Message* m) { m->data()[8] = std::byte{7}; }),
                  "expected mail 0 from rank 1, got mail 7");
  expect_parallel(mail_damaged([](Message* m) { m->data()[4] = std::byte{99}; }),
                  "expected mail 0 from rank 1, got unknown 0");
}

namespace {

// Rank 0's failure of a dispatch, or of the collect behind it, with a damaged message. Ok if none
// is noticed: changed activations do not show.
Status tokens_damaged(Arena& arena, const RankCase& c,
                      const std::function<void(Message*)>& damage) {
  const Placement placement(c.ranks, c.ffn, Spread::kContiguous);
  World world = {damaged_groups(damage), {}, {}, {}};
  for (const auto& group : world.groups)
    world.data.push_back(std::make_unique<RankData>(arena, c, placement, group, 1));
  on_ranks(2, [&](int rank) {
    const RankData& data = *world.data[static_cast<size_t>(rank)];
    parallel::dispatch_tokens(data.dispatch);
    if (data.dispatch.ranks.group->fault().ok()) parallel::collect_tokens(data.collect);
  });
  for (const Block* block : arena.blocks()) EXPECT(block->margins_intact());
  return world.groups[0]->fault();
}

template <class T>
void write(Message* message, size_t at, T value) {
  std::memcpy(message->body() + at, &value, sizeof value);
}

}  // namespace

MOEPP_TEST(tokens_refuse_damaged_messages) {
  std::shared_ptr<Device> device;
  must(open_cpu_device(1, "", &device));
  Arena arena(device, Guard::kMargins);
  const RankCase c = {2, {4}, 8, 2, 6, 0};  // every pick is of an FFN expert
  const auto refused = [&](const std::function<void(Message*)>& damage, const std::string& words) {
    expect_parallel(
        tokens_damaged(arena, c,
                       [&](Message* m) {
                         if (m->frame().kind == static_cast<uint32_t>(Exchange::kDispatch))
                           damage(m);
                       }),
        words);
  };
  EXPECT(tokens_damaged(arena, c, [](Message*) {}).ok());
  const auto cut_body = [](Message* m, size_t bytes) {
    parallel::Frame frame = m->frame();
    frame.bytes = bytes;
    cut(m, sizeof frame + bytes);
    m->set_frame(frame);
  };
  refused([&](Message* m) { cut_body(m, 15); },
          "the message that rank 1 sent to rank 0 has no header");
  refused([&](Message* m) { cut_body(m, m->body_bytes() - 4); }, "bytes, expected ");
  refused([&](Message* m) { write(m, 0, int32_t{-1}); }, "picks of -1 rows");
  refused([&](Message* m) { write(m, 0, INT32_MAX); }, "picks of 2147483647 rows");
  refused([&](Message* m) { write(m, 4, int32_t{9}); }, "has 9 picks of ");
  refused([&](Message* m) { write(m, 8, int32_t{9}); }, "has rows of 9 elements, expected 8");
  refused([&](Message* m) { write(m, 12, int32_t{2}); }, "picks of ");
  refused([&](Message* m) { write(m, 16, uint16_t{0}); }, "has 0 picks of row 0, expected 1 to 2");
  refused([&](Message* m) { write(m, 16, uint16_t{3}); }, "has 3 picks of row 0, expected 1 to 2");
  // The experts lie behind a count for each row.
  const auto expert = [](Message* m, uint16_t number) {
    int32_t rows;
    std::memcpy(&rows, m->body(), 4);
    write(m, 16 + 2 * static_cast<size_t>(rows), number);
  };
  refused([&](Message* m) { expert(m, 6); }, "has a pick of FFN expert 6, expected 0 to 5");
  refused([&](Message* m) { expert(m, 5); }, "FFN expert 5, which is not held there");
  refused(
      [&](Message* m) {
        // As many rows as a message may have, which are more than the step's.
        const int32_t rows = 9, picks = 9;
        cut_body(m, 64 + static_cast<size_t>(rows) * 32);
        std::memset(m->body(), 0, m->body_bytes());
        write(m, 0, rows), write(m, 4, picks), write(m, 8, int32_t{8});
        for (size_t row = 0; row < 9; row++) write(m, 16 + 2 * row, uint16_t{1});
      },
      "has 9 rows, expected at most ");
  expect_parallel(tokens_damaged(arena, c,
                                 [&](Message* m) {
                                   if (m->frame().kind == static_cast<uint32_t>(Exchange::kCollect))
                                     cut_body(m, m->body_bytes() + 1);
                                 }),
                  "bytes of results, expected ");
}

// Random damage: each message is refused, or its fault is one that a message cannot show.
MOEPP_TEST(tokens_survive_random_messages) {
  std::shared_ptr<Device> device;
  must(open_cpu_device(1, "", &device));
  std::mt19937 random(5);
  int refused = 0;
  for (int round = 0; round < 300; round++) {
    Arena arena(device, Guard::kMargins);
    const Status status = tokens_damaged(arena, {2, {3}, 2, 2, 5, 1}, [&](Message* m) {
      for (int i = 0; i < 3 && m->body_bytes() > 0; i++)
        m->body()[random() % std::min<size_t>(m->body_bytes(), 40)] =
            static_cast<std::byte>(random() % 3 == 0 ? random() : random() % 8);
    });
    EXPECT(status.ok() || status.code == Code::kParallel);
    refused += status.ok() ? 0 : 1;
  }
  EXPECT(refused > 100);
}

}  // namespace moepp::test
