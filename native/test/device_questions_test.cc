// A device answers three questions, each on its own. Do kernels use mapped weights? Do they use the
// caller's memory? Have they ended when they return?
#include <cstdio>
#include <cstring>

#include "compare.h"
#include "packed_model.h"
#include "small_model.h"
#include "test.h"
#include "wrapped_cpu.h"

namespace moepp::test {

struct Answers {
  bool mapped_weights, callers_memory, at_once;
};

// The CPU with other answers, which counts what a program asks of it.
class AnsweringDevice final : public WrappedCpu {
 public:
  explicit AnsweringDevice(Answers answers) : answers_(answers) {}

  Status load_packed(const WeightSpec& spec, Layout layout, const std::byte* packed, void* data,
                     const Control&) override {
    packed_loaded++;
    std::memcpy(data, packed, static_cast<size_t>(weight_bytes(spec, layout)));
    return {};
  }
  bool uses_mapped_weights() const override { return answers_.mapped_weights; }
  bool uses_callers_memory() const override { return answers_.callers_memory; }
  bool runs_at_once() const override { return answers_.at_once; }

  Status begin_step() override {
    open_steps++;
    return {};
  }
  Status upload(const std::vector<Transfer>& pieces) override {
    uploads++;
    for (const Transfer& piece : pieces)
      std::memcpy(piece.device, piece.host, static_cast<size_t>(piece.bytes));
    return {};
  }
  Status download(const std::vector<Transfer>& pieces) override {
    downloads++;
    for (const Transfer& piece : pieces)
      std::memcpy(piece.host, piece.device, static_cast<size_t>(piece.bytes));
    return {};
  }
  Status end_step() override {
    open_steps--;
    return {};
  }
  Status record(const std::function<Status()>& enqueue, std::unique_ptr<Recording>*) override {
    records++;
    return enqueue();
  }

  int packed_loaded = 0, uploads = 0, downloads = 0, records = 0, open_steps = 0;

 private:
  Answers answers_;
};

MOEPP_TEST(each_question_of_a_device_is_asked_where_it_matters) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  const std::string path = file.path() + ".packed";
  ProgramSpec loaded, packed;
  EXPECT(pack_model(model, DType::kI8, path, &loaded, &packed).ok());
  std::vector<float> expected;
  for (int i = 7; i >= 0; i--) {  // the CPU's answers first
    const Answers answers = {(i & 1) != 0, (i & 2) != 0, (i & 4) != 0};
    const auto device = std::make_shared<AnsweringDevice>(answers);
    std::unique_ptr<Program> program;
    EXPECT(Program::compile(device, packed, {}, &program).ok());
    EXPECT((device->packed_loaded == 0) == answers.mapped_weights);
    SmallStep small(*program, 5);  // a recording is of one place in memory
    for (int step = 0; step < 3; step++) {
      EXPECT(program->run(small.step).ok());
      const std::vector<float>& logits = small.results["logits"];
      if (expected.empty()) expected = logits;
      EXPECT(same_bits(logits.data(), expected.data(), expected.size() * 4));
    }
    const int copies = answers.callers_memory ? 0 : 3;
    EXPECT(device->uploads == copies && device->downloads == copies);
    EXPECT((device->records == 0) == answers.at_once);
    EXPECT(device->open_steps == 0);
  }
  std::remove(path.c_str());
}

}  // namespace moepp::test
