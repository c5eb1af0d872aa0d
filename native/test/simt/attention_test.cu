#include "cuda/kernels/attention/attention.h"
#include "kernel_test.h"
#include "shared_cache.h"

namespace moepp::simt_test {

struct AttentionCase {
  int64_t hq, hkv, d, page_size;
  std::vector<SequenceSpec> sequences;
  float magnitude = 1.0f;  // of q: large ones make the softmax sharp
  int32_t window = 0;
  int64_t value_d = 0;  // 0: d

  int64_t values() const { return value_d > 0 ? value_d : d; }
  // The first position that a token of the step sees.
  int64_t first_seen(const SequenceSpec& s) const {
    return window > 0 && s.before + 1 > window ? s.before + 1 - window : 0;
  }
};

// Chunks that no token may see have pages that lie nowhere: an access to one is a fault.
constexpr int32_t kNoPage = 1 << 24;

// The kernels that run: bf16 before sm_80 is computed in f32.
enum class Path { kF32, kBf16, kBf16InF32 };
constexpr Path kPaths[] = {Path::kF32, Path::kBf16, Path::kBf16InF32};
// Turing has no tensor cores for bf16.
static bool has(Path path) {
  return path != Path::kBf16 || newest_capability() >= 80;
}
constexpr const char* kPathNames[] = {"f32", "bf16", "bf16 in f32"};

struct AttentionData {
  AttentionCase c;
  Path path;
  SharedStep step;
  SharedCache cache;
  Shared<float> q;
  Shared<unsigned char> workspace;

  // Keys and values of positions that no token may see stay poison, which is NaN, and pages of such
  // alone lie nowhere.
  AttentionData(const AttentionCase& c, Path path)
      : c(c),
        path(path),
        step(c.sequences, c.page_size),
        cache({nullptr, path == Path::kF32 ? DType::kF32 : DType::kBf16, 2, step.pages, c.page_size,
               c.hkv, c.d, c.values()}),
        q(filled(step.tokens * c.hq * c.d, 1, c.magnitude)),
        workspace(0) {
    if (rounds()) {
      // rounded as the kernel rounds them
      for (size_t i = 0; i < q.size(); i++) q[i] = bf16_to_f32(f32_to_bf16(q[i]));
    }
    std::vector<float> values(static_cast<size_t>(c.d + c.values()));
    uint32_t seed = 2;
    for (int64_t b = 0; b < step.sequences; b++) {
      const SequenceSpec& sequence = c.sequences[static_cast<size_t>(b)];
      const int64_t first = c.first_seen(sequence);
      for (int64_t i = 0; i < first / c.page_size; i++)
        step.page_table[static_cast<size_t>(b * step.columns + i)] = kNoPage;
      for (int64_t p = first; p < sequence.before + sequence.tokens; p++) {
        for (int64_t head = 0; head < c.hkv; head++) {
          fill(values.data(), static_cast<int64_t>(values.size()), seed++);
          for (int64_t i = 0; i < c.d; i++)
            set(b, p, head, false, i, values[static_cast<size_t>(i)]);
          for (int64_t i = 0; i < c.values(); i++)
            set(b, p, head, true, i, values[static_cast<size_t>(c.d + i)]);
        }
      }
    }
  }

  bool rounds() const {
    return path == Path::kBf16 && c.d % 16 == 0 && c.d >= 64 && c.d <= 128 && c.values() == c.d;
  }
  void set(int64_t b, int64_t position, int64_t head, bool value, int64_t i, float x) {
    const int64_t page =
        step.page_table[static_cast<size_t>(b * step.columns + position / c.page_size)];
    cache.set(1, page, head, value, position % c.page_size, i, x);
  }
  // Room to split `units` tokens over their contexts, or over what a window may touch of them.
  void give_workspace(int64_t units) {
    int64_t chunks = (step.columns * c.page_size + cuda::kChunk - 1) / cuda::kChunk;
    if (c.window > 0)
      chunks = std::min(chunks, (int64_t{c.window} + cuda::kChunk - 2) / cuda::kChunk + 1);
    workspace = Shared<unsigned char>(
        static_cast<size_t>(units * c.hq * chunks * (c.values() + 2) * 4), 0xff);
  }

  // Tokens [first, first + count) of sequence b alone, or of all with b < 0; what the reference
  // says is wrong.
  std::string run(Shared<float>& out, int64_t b, int64_t first, int64_t count) {
    Shared<int32_t> alone(2);
    alone[0] = 0, alone[1] = static_cast<int32_t>(count);
    const Tensor qt = rows_of(whole(q, {step.tokens, c.hq, c.d}), first, count),
                 pt = rows_of(step.positions_tensor(), first, count);
    const Tensor st = b < 0 ? step.starts_tensor() : whole(alone, {2});
    const Tensor mt = b < 0 ? step.page_table_tensor() : rows_of(step.page_table_tensor(), b, 1);
    Tensor ot = whole(out, {count, c.hq * c.values()});
    const float scale = 1.0f / std::sqrt(static_cast<float>(c.d));
    cuda::CudaQueue queue(nullptr, kMultiprocessors,
                          path == Path::kBf16InF32 ? 75 : newest_capability());
    queue.set_workspace(workspace.device(), static_cast<int64_t>(workspace.size()));
    const AttentionArgs args = {&qt, &pt, &st, &mt, &cache.device, &ot, 1, scale, c.window};
    const auto run_again = [&](const AttentionArgs& again) {
      run_op(cuda::attention, again, queue, "attention");
    };
    run_again(args);
    if (b < 0) expect_rounded_output(args, "attention", run_again);
    const AttentionErrors errors = {cuda::kChunk, rounds() ? kBf16Roundoff : 0.0};
    return check_attention({&qt, &pt, &st, &mt, &cache.reference, &ot, 1, scale, c.window},
                           all(count), errors);
  }
};

static void expect_attention(const AttentionCase& c, Path path) {
  if (!has(path)) return;
  AttentionData data(c, path);
  const int64_t row = c.hq * c.values();
  const std::string label = "D " + std::to_string(c.d) + ", " + std::to_string(c.values()) + " S " +
                            std::to_string(c.page_size) + " window " + std::to_string(c.window) +
                            " " + kPathNames[static_cast<int>(path)];
  Shared<float> out = unwritten(data.step.tokens * row), split = unwritten(data.step.tokens * row);
  expect_no_difference(label, data.run(out, -1, 0, data.step.tokens));  // no workspace: whole
  data.give_workspace(3);                                               // several launches
  expect_no_difference(label + " split", data.run(split, -1, 0, data.step.tokens));
  EXPECT_MESSAGE(same_rows(out, split), label + ": splitting changes the result");
  for (int64_t b = 0; b < data.step.sequences; b++) {  // alone, a token gets the same bits
    const int32_t first = data.step.starts[static_cast<size_t>(b)],
                  end = data.step.starts[static_cast<size_t>(b) + 1];
    for (int64_t t = first; t < end; t += std::max(1, end - first - 1)) {
      Shared<float> one = unwritten(row);
      data.run(one, b, t, 1);
      EXPECT_MESSAGE(same_bits(one.data(), out.data() + t * row, static_cast<size_t>(row) * 4),
                     label + ": a token alone differs");
    }
  }
}

// Steps of few tokens, which are split; of many; and of both.
MOEPP_TEST(simt_attention) {
  for (const AttentionCase& c : {AttentionCase{1, 1, 2, 16, {{0, 1}}},
                                 {3, 3, 20, 16, {{0, 5}, {15, 3}, {0, 0}, {31, 1}}},
                                 {4, 2, 64, 32, {{30, 40}, {0, 17}, {130, 2}, {64, 4}}},
                                 {2, 2, 96, 64, {{100, 1}, {63, 1}, {64, 1}, {0, 1}}},
                                 {1, 1, 96, 64, {{0, 150}}},
                                 {2, 2, 96, 48, {{0, 20}, {200, 7}}, 40.0f},
                                 {18, 1, 64, 16, {{40, 2}, {70, 1}}},
                                 {2, 1, 256, 16, {{7, 33}}},
                                 {1, 1, 80, 128, {{200, 9}}},
                                 {1, 1, 112, 128, {{100, 29}}},
                                 {1, 1, 128, 16, {{100, 29}, {300, 1}}},
                                 {16, 2, 128, 32, {{90, 1}, {20, 5}}}}) {
    for (Path path : kPaths) expect_attention(c, path);
  }
}

// Windows of one key; smaller and larger than a chunk, and of its size; larger than the context, up
// to the largest number. Rows of one block whose windows begin in different chunks.
MOEPP_TEST(simt_attention_with_windows) {
  for (const AttentionCase& c : {AttentionCase{1, 1, 2, 16, {{0, 3}}, 1.0f, 1},
                                 {3, 3, 20, 16, {{0, 5}, {15, 3}, {0, 0}, {31, 1}}, 1.0f, 2},
                                 {4, 2, 64, 32, {{30, 40}, {0, 17}, {130, 2}, {64, 4}}, 1.0f, 33},
                                 {2, 2, 96, 64, {{200, 1}, {63, 1}, {64, 1}, {0, 1}}, 1.0f, 64},
                                 {1, 1, 96, 16, {{100, 70}}, 40.0f, 17},
                                 {8, 1, 128, 16, {{250, 20}, {300, 1}}, 1.0f, 65},
                                 {1, 1, 80, 128, {{390, 9}}, 1.0f, 66},
                                 {2, 1, 64, 16, {{70, 9}, {300, 2}}, 1.0f, 1000},
                                 {2, 1, 64, 16, {{70, 9}, {300, 2}}, 1.0f, INT32_MAX}}) {
    for (Path path : kPaths) expect_attention(c, path);
  }
}

MOEPP_TEST(simt_attention_with_values_of_another_size) {
  for (const AttentionCase& c : {AttentionCase{1, 1, 2, 16, {{0, 3}}, 1.0f, 0, 4},
                                 {4, 2, 96, 32, {{30, 20}, {0, 7}, {90, 1}}, 1.0f, 0, 64},
                                 {2, 1, 48, 16, {{90, 11}}, 1.0f, 21, 130},
                                 {8, 1, 192, 64, {{150, 1}}, 1.0f, 0, 128},
                                 {2, 2, 32, 16, {{20, 5}}, 1.0f, 0, 256}}) {
    for (Path path : kPaths) expect_attention(c, path);
  }
}

MOEPP_TEST(simt_attention_schedules) {
  for_each_schedule([] {
    for (Path path : {Path::kF32, Path::kBf16})
      for (int32_t window : {0, 40})
        expect_attention({2, 1, 64, 16, {{70, 35}, {130, 1}}, 1.0f, window}, path);
  });
}

// q is rounded where keys and values are, and nowhere else.
MOEPP_TEST(simt_attention_rounds_queries) {
  if (!has(Path::kBf16)) return;
  AttentionData data({1, 1, 64, 16, {{20, 3}}}, Path::kBf16);
  Shared<float> out = unwritten(3 * 64), again = unwritten(3 * 64);
  expect_no_difference("rounded", data.run(out, -1, 0, 3));
  for (size_t i = 0; i < data.q.size(); i++) data.q[i] *= 1.0f + 0x1p-11f;
  data.run(again, -1, 0, 3);
  EXPECT(same_rows(out, again));
}

// A NaN in a key that a token sees makes that token NaN, and no other.
MOEPP_TEST(simt_attention_of_nan) {
  for (Path path : kPaths) {
    if (!has(path)) continue;
    AttentionData data({1, 1, 64, 16, {{0, 24}, {0, 1}}}, path);
    data.set(0, 20, 0, false, 4, NAN);
    Shared<float> out = unwritten(25 * 64);
    expect_no_difference("NaN", data.run(out, -1, 0, 25));
    EXPECT(!std::isnan(out[19 * 64]) && std::isnan(out[20 * 64]) && !std::isnan(out[24 * 64]));
  }
}

}  // namespace moepp::simt_test
