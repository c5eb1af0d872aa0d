// A recorded model on several ranks: each computes for its tokens what one process does, bit by
// bit, whatever experts it holds.
#include <set>

#include "compare.h"
#include "cpu/isa/isa.h"
#include "ranked_model.h"
#include "test.h"

namespace moepp::test {

namespace {

struct Format {
  DType dtype;
  Compute compute;
};
constexpr Format kFormats[] = {{DType::kF32, Compute::kExact},
                               {DType::kBf16, Compute::kExact},
                               {DType::kBf16, Compute::kBf16},
                               {DType::kI8, Compute::kExact},
                               {DType::kI4, Compute::kExact}};

ProgramSpec in_format(ProgramSpec spec, const Format& format) {
  for (WeightSpec& weight : spec.weights)
    if (is_matrix(weight)) weight.dtype = format.dtype;
  spec.compute = format.compute;
  return spec;
}

std::shared_ptr<Device> device_of(const char* isa) {
  std::shared_ptr<Device> device;
  EXPECT(open_cpu_device(1, isa, &device).ok());
  return device;
}

// Every rank's logits and experts' sums in steps of so many tokens, against those of one process.
void expect_same_bits(const ProgramSpec& spec, const char* isa, const Placement& placement,
                      const std::vector<std::vector<int64_t>>& steps, const std::string& what) {
  const int ranks = static_cast<int>(placement.held.size());
  std::unique_ptr<Program> alone;
  Status status = Program::compile(device_of(isa), spec, {}, &alone);
  EXPECT_MESSAGE(status.ok(), what + ": " + status.message);
  if (!status.ok()) return;
  std::vector<std::vector<std::vector<float>>> expected(steps.size());
  for (size_t s = 0; s < steps.size(); s++) {
    for (int rank = 0; rank < ranks; rank++) {
      expected[s].emplace_back();
      const int64_t tokens = steps[s][static_cast<size_t>(rank)];
      if (tokens == 0) continue;
      SmallStep small = step_of(*alone, rank, tokens, tokens);
      EXPECT(alone->run(small.step).ok());
      expected[s].back() = small.results["logits"];
    }
  }
  const Groups groups = make_groups(ranks);
  on_ranks(ranks, [&](int rank) {
    const auto r = static_cast<size_t>(rank);
    std::unique_ptr<Program> program;
    const Status compiled =
        Program::compile(device_of(isa), on_rank(spec, placement, r), {}, &program, groups[r]);
    EXPECT_MESSAGE(compiled.ok(), what + ": " + compiled.message);
    if (!compiled.ok()) return groups[r]->abort("it did not compile");
    for (size_t s = 0; s < steps.size(); s++) {
      int64_t all = 0;
      for (const int64_t tokens : steps[s]) all += tokens;
      SmallStep small = step_of(*program, rank, steps[s][r], all);
      const Status ran = program->run(small.step);
      EXPECT_MESSAGE(ran.ok(), what + ": " + ran.message);
      if (!ran.ok()) return;
      const std::vector<float>& logits = small.results["logits"];
      EXPECT_MESSAGE(logits.size() == expected[s][r].size() &&
                         same_bits(logits.data(), expected[s][r].data(), logits.size() * 4),
                     what + ": the logits of rank " + std::to_string(rank) + " differ");
    }
    EXPECT(groups[r]->close().ok());
  });
}

}  // namespace

MOEPP_TEST(parallel_program_equals_one_process) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  for (const cpu::Isa& isa : cpu::available_isas()) {
    for (const Format& format : kFormats) {
      const ProgramSpec spec = in_format(model.spec, format);
      for (const int ranks : {1, 2, 3, 5}) {
        // The last has more ranks than experts: some hold copies.
        const Spread spread = ranks == 2 ? Spread::kRoundRobin : Spread::kContiguous;
        std::vector<std::vector<int64_t>> steps = {
            {7, 1, 12, 3, 2}, {0, 5, 0, 1, 0}, {1, 1, 1, 1, 1}, {70, 0, 3, 0, 9}};
        for (auto& step : steps) step.resize(static_cast<size_t>(ranks));
        expect_same_bits(spec, isa.name, Placement(ranks, kFfnExperts, spread), steps,
                         std::string(isa.name) + " " + dtype_name(format.dtype) + " on " +
                             std::to_string(ranks) + " ranks");
      }
    }
  }
}

MOEPP_TEST(parallel_program_takes_copies) {
  const TemporaryFile file(SmallModel::floats());
  const ProgramSpec spec = SmallModel(file.path()).spec;
  for (const Spread spread : kSpreads)
    expect_same_bits(spec, "", Placement(3, kFfnExperts, spread), {{4, 9, 0}, {0, 0, 1}},
                     "spread " + std::to_string(static_cast<int>(spread)));
}

// Rows travel as bf16, half the bytes, if products round them anyway.
MOEPP_TEST(parallel_program_sends_bf16_where_products_round) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  for (const cpu::Isa& isa : cpu::available_isas()) {
    std::set<int64_t> bytes;
    for (const Compute compute : {Compute::kExact, Compute::kBf16}) {
      const ProgramSpec spec = in_format(model.spec, {DType::kBf16, compute});
      const Placement placement(2, kFfnExperts, Spread::kContiguous);
      const Groups groups = make_groups(2);
      on_ranks(2, [&](int rank) {
        const auto r = static_cast<size_t>(rank);
        std::unique_ptr<Program> program;
        EXPECT(Program::compile(device_of(isa.name), on_rank(spec, placement, r), {}, &program,
                                groups[r])
                   .ok());
        SmallStep small = step_of(*program, rank, 20, 40);
        EXPECT(program->run(small.step).ok());
      });
      bytes.insert(groups[0]->counters().bytes_sent);
    }
    EXPECT((bytes.size() == 2) == isa.multiplies_pairs);
  }
}

MOEPP_TEST(parallel_program_ends_the_group_when_it_fails) {
  const TemporaryFile file(SmallModel::floats());
  const ProgramSpec spec = SmallModel(file.path()).spec;
  const Placement placement(3, kFfnExperts, Spread::kContiguous);
  const auto run = [&](const std::function<void(int, SmallStep*)>& change) {
    const Groups groups = make_groups(3);
    std::vector<Status> statuses(3);
    on_ranks(3, [&](int rank) {
      const auto r = static_cast<size_t>(rank);
      std::unique_ptr<Program> program;
      EXPECT(Program::compile(device_of(""), on_rank(spec, placement, r), {}, &program, groups[r])
                 .ok());
      SmallStep small = step_of(*program, rank, 3, 9);
      change(rank, &small);
      statuses[r] = program->run(small.step);
      EXPECT(statuses[r].ok() || !program->run(small.step).ok());
    });
    return statuses;
  };
  for (const Status& status : run([](int, SmallStep*) {})) EXPECT(status.ok());
  std::atomic<int64_t> cancelled{1};
  for (const Status& status : run([&](int rank, SmallStep* small) {
         if (rank == 1) small->step.control.cancelled = &cancelled;
       }))
    EXPECT(status.ok());  // nothing cancels a step that others wait for
  std::vector<Status> statuses =
      run([](int rank, SmallStep* small) { small->tokens[1] = rank == 2 ? -1 : 1; });
  EXPECT(statuses[2].code == Code::kBadProgram);
  for (const size_t rank : {0, 1})
    EXPECT_MESSAGE(statuses[rank].code == Code::kParallel &&
                       statuses[rank].message.find("rank 2 failed: embedding: tokens[1] is -1") !=
                           std::string::npos,
                   statuses[rank].message);
  EXPECT(statuses[0].op == "dispatch0");
  // Rank 1 has fewer places than the others send rows.
  statuses =
      run([](int rank, SmallStep* small) { small->step.sizes.received = rank == 1 ? 3 : 9; });
  for (const Status& status : statuses)
    EXPECT_MESSAGE(status.code == Code::kParallel &&
                       status.message.find("rows, expected at most") != std::string::npos,
                   status.message);
}

MOEPP_TEST(parallel_program_needs_a_group) {
  const TemporaryFile file(SmallModel::floats());
  const ProgramSpec spec =
      on_rank(SmallModel(file.path()).spec, Placement(2, kFfnExperts, Spread::kContiguous), 0);
  std::unique_ptr<Program> program;
  const Status status = Program::compile(device_of(""), spec, {}, &program);
  EXPECT_MESSAGE(status.code == Code::kBadProgram &&
                     status.message == "dispatch0: dispatch_tokens needs a group of ranks",
                 status.message);
  // Of another size than it was recorded for.
  const Status larger = Program::compile(device_of(""), spec, {}, &program, make_groups(3)[0]);
  EXPECT_MESSAGE(larger.message == "dispatch0: sent_offsets must be [4]", larger.message);
}

}  // namespace moepp::test
