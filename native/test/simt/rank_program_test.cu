// A recorded model on several emulated GPUs, which the NCCL of nccl/ joins. Each rank computes the
// results of one GPU, in steps that are launched, recorded and replayed. A rank that fails, hangs
// or lies ends the others' steps.
#include <cstring>

#include "compare.h"
#include "cuda/rank_link.h"
#include "debugging.h"
#include "ranked_model.h"

#if SIMT_EMULATED
namespace moepp::simt_test {

namespace {

using Steps = std::vector<std::vector<int64_t>>;  // tokens of each rank

// The same kernels for a rank's tokens as for those of all, so that their bits are the same.
const Steps kSteps = {{1, 2, 0}, {1, 2, 0},   {1, 2, 0}, {9, 40, 12}, {9, 40, 12},
                      {0, 9, 0}, {9, 40, 12}, {1, 2, 0}, {70, 0, 9}};

std::vector<float> logits_alone(Program& program, int rank, int64_t tokens) {
  if (tokens == 0) return {};
  SmallStep small = step_of(program, rank, tokens, tokens);
  const Status status = program.run(small.step);
  EXPECT_MESSAGE(status.ok(), status.message);
  return small.results["logits"];
}

// Every rank's statuses of a step after another; a rank ends after a failure.
struct Ranks {
  int ranks;
  bool counted;
  int64_t deadline_ms = 60000;

  // at(rank, program, group): on a thread for each rank that has joined and compiled.
  template <class At>
  void run(const ProgramSpec& spec, const At& at) const {
    const auto devices = gpu::rank_devices(ranks);
    const Groups groups = make_groups(ranks, deadline_ms);
    const Placement placement(ranks, kFfnExperts, Spread::kContiguous);
    on_ranks(ranks, [&](int rank) {
      const auto r = static_cast<size_t>(rank);
      parallel::Group& group = *groups[r];
      Status status = devices[r]->join(group);
      std::unique_ptr<Program> program;
      if (status.ok()) {
        if (counted) gpu::count_messages(group);
        status = Program::compile(devices[r], on_rank(spec, placement, r), {}, &program, groups[r]);
      }
      EXPECT_MESSAGE(status.ok(), status.message);
      if (!status.ok()) return group.abort("it did not begin");
      at(rank, *program, group);
    });
  }
};

void expect_steps_of_one_gpu(const ProgramSpec& spec, int ranks, bool counted) {
  const std::string what =
      std::to_string(ranks) + (counted ? " ranks, counted" : " ranks") + ", step ";
  const auto alone = compiled(opened(), spec);
  std::vector<std::vector<std::vector<float>>> expected;
  for (const auto& tokens : kSteps) {
    expected.emplace_back();
    for (int rank = 0; rank < ranks; rank++)
      expected.back().push_back(logits_alone(*alone, rank, tokens[static_cast<size_t>(rank)]));
  }
  const int64_t graphs = simt::emu::counts().graphs;
  Ranks{ranks, counted}.run(spec, [&](int rank, Program& program, parallel::Group& group) {
    const auto r = static_cast<size_t>(rank);
    for (size_t s = 0; s < kSteps.size(); s++) {
      int64_t all = 0;
      for (int w = 0; w < ranks; w++) all += kSteps[s][static_cast<size_t>(w)];
      SmallStep small = step_of(program, rank, kSteps[s][r], all);
      const Status status = program.run(small.step);
      EXPECT_MESSAGE(status.ok(), what + std::to_string(s) + ": " + status.message);
      if (!status.ok()) return;
      const std::vector<float>&got = small.results["logits"], &want = expected[s][r];
      EXPECT_MESSAGE(
          got.size() == want.size() && same_bits(got.data(), want.data(), got.size() * 4),
          what + std::to_string(s) + ": the logits of rank " + std::to_string(rank) + " differ");
    }
    EXPECT(group.close().ok());
  });
  // Of each rank two sizes, in pieces between the exchanges of three layers.
  EXPECT(simt::emu::counts().graphs - graphs == ranks * 2 * 7);
}

// The statuses of a step of 3 tokens at each of two ranks. `breaks` takes the place of rank 1's.
using Breaks = std::function<Status(Program& program, parallel::Group& group)>;
std::vector<Status> run_broken(int64_t deadline_ms, const Breaks& breaks) {
  const TemporaryFile file(SmallModel::floats());
  std::vector<Status> statuses(2);
  Ranks{2, false, deadline_ms}.run(
      SmallModel(file.path()).spec, [&](int rank, Program& program, parallel::Group& group) {
        SmallStep small = step_of(program, rank, 3, 6);
        statuses[static_cast<size_t>(rank)] =
            rank == 1 ? breaks(program, group) : program.run(small.step);
        if (!group.fault().ok()) EXPECT(!program.run(small.step).ok());
      });
  return statuses;
}

void expect_words(const Status& status, Code code, const std::string& words) {
  EXPECT_MESSAGE(status.code == code && status.message.find(words) != std::string::npos,
                 status.message);
}

}  // namespace

MOEPP_TEST(cuda_ranks_equal_one_gpu) {
  const TemporaryFile file(SmallModel::floats());
  const ProgramSpec spec = SmallModel(file.path()).spec;
  for (const int ranks : {1, 2, 3})
    for (const bool counted : {false, true}) expect_steps_of_one_gpu(spec, ranks, counted);
}

MOEPP_TEST(cuda_rank_that_fails_ends_the_step_of_others) {
  const std::vector<Status> statuses = run_broken(60000, [](Program& program, parallel::Group&) {
    SmallStep small = step_of(program, 1, 3, 6);
    small.tokens[1] = -1;
    return program.run(small.step);
  });
  EXPECT(statuses[1].code == Code::kBadProgram);
  expect_words(statuses[0], Code::kParallel, "rank 1 failed: embedding: tokens[1] is -1");
}

MOEPP_TEST(cuda_rank_that_hangs_ends_the_step_of_others) {
  const std::vector<Status> statuses =
      run_broken(300, [&](Program&, parallel::Group& group) -> Status {
        while (group.fault().ok() && group.look().ok()) std::this_thread::yield();
        return group.fault();
      });
  expect_words(statuses[0], Code::kParallel, "an exchange of rows: no end within 300 ms");
  expect_words(statuses[1], Code::kParallel, "rank 0 failed");
}

// Another number of tokens of all ranks is another size of messages.
MOEPP_TEST(cuda_ranks_of_other_sizes_do_not_meet) {
  const std::vector<Status> statuses = run_broken(60000, [](Program& program, parallel::Group&) {
    SmallStep small = step_of(program, 1, 3, 5);
    return program.run(small.step);
  });
  for (const Status& status : statuses) EXPECT(status.code == Code::kParallel);
}

// Nothing of a message is used that does not fit.
MOEPP_TEST(cuda_messages_are_checked) {
  const struct {
    const char* words;
    cuda::RowsHeader header;
    std::vector<uint16_t> slots;  // of two a row
  } messages[] = {
      {"header that does not fit the step, of 7 rows", {7, 7, kHidden, 0}, {}},
      {"header that does not fit the step, of -1 rows", {-1, 0, kHidden, 0}, {}},
      {"header that does not fit the step, of 0 rows", {0, 0, kHidden + 1, 0}, {}},
      {"header that does not fit the step, of 0 rows", {0, 0, kHidden, 2}, {}},
      {"a pick of FFN expert 3, which is not held", {1, 1, kHidden, 0}, {3, cuda::kNoExpert}},
      {"a pick of FFN expert 2, which is not held", {1, 1, kHidden, 0}, {2, cuda::kNoExpert}},
      {"a pick of FFN expert 65535", {1, 1, kHidden, 0}, {cuda::kNoExpert, 0}},
      {"other picks than the 2 that it says", {1, 2, kHidden, 0}, {0, cuda::kNoExpert}},
      {"rows, more than the step's tokens",
       {6, 6, kHidden, 0},
       {0, cuda::kNoExpert, 0, cuda::kNoExpert, 0, cuda::kNoExpert, 0, cuda::kNoExpert, 0,
        cuda::kNoExpert, 0, cuda::kNoExpert}},
  };
  for (const auto& message : messages) {
    const std::vector<Status> statuses =
        run_broken(60000, [&](Program&, parallel::Group& group) -> Status {
          // In place of its kernels', and of each exchange of the three layers.
          auto& link = *static_cast<cuda::RankLink*>(group.link());
          const auto device = opened();
          const simt::Stream stream = cuda::CudaQueue::from(device->queue()).stream();
          std::byte* to = link.sent_whole().data;
          std::memset(to, 0xff, 4096);
          std::memcpy(to, &message.header, sizeof message.header);
          if (!message.slots.empty())
            std::memcpy(to + sizeof message.header, message.slots.data(), 2 * message.slots.size());
          const int64_t rows = cuda::rows_end(6, kChosen, kHidden, false),
                        results = 6 * kChosen * kHidden * 4;
          Status status;
          for (int i = 0; i < 6 && status.ok(); i++)
            status = link.exchange_whole(i % 2 == 0 ? rows : results, stream);
          if (status.ok()) status = link.wait(stream);
          while (group.look().ok()) std::this_thread::yield();
          return group.fault();
        });
    expect_words(statuses[0], Code::kParallel, "the message that rank 1 sent to rank 0 has");
    expect_words(statuses[0], Code::kParallel, message.words);
    expect_words(statuses[1], Code::kParallel, "rank 0 failed");
  }
}

}  // namespace moepp::simt_test
#endif
