// Tables that stay in files: the rows that a step reads, and what is refused.
#include "lookup_model.h"

#include "compare.h"
#include "test.h"

namespace moepp::test {

namespace {

constexpr int64_t kWidth = LookupModel::kWidth, kRowsPerToken = LookupModel::kRowsPerToken;

float element(const std::string& path, int64_t index) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  float value = 0.0f;
  if (file == nullptr || std::fseek(file, static_cast<long>(4 * index), SEEK_SET) != 0 ||
      std::fread(&value, 4, 1, file) != 1)
    std::abort();
  std::fclose(file);
  return value;
}

Status compile(const ProgramSpec& spec, std::unique_ptr<Program>* program) {
  std::shared_ptr<Device> device;
  EXPECT(open_cpu_device(1, "", &device).ok());
  return Program::compile(device, spec, {}, program);
}

void expect_words(const Status& status, const std::string& words) {
  EXPECT_MESSAGE(!status.ok() && status.message.find(words) != std::string::npos,
                 "expected '" + words + "', got '" + status.message + "'");
}

}  // namespace

MOEPP_TEST(lookup_reads_rows_of_parts) {
  const TemporaryFile file(400);
  std::unique_ptr<Program> program;
  EXPECT(compile(LookupModel(file.path()).spec, &program).ok());
  EXPECT(program->weight_bytes() < 4 * 32 * kRowsPerToken * kWidth + 64);  // w alone
  std::vector<std::vector<int32_t>> steps = {{0, 4, 5}, {11, 11, 0, 3, 6, 10}, {4, 5, 6}};
  for (const std::vector<int32_t>& rows : steps) {
    std::vector<float> y;
    EXPECT(LookupModel::run(*program, rows, &y).ok());
    for (size_t t = 0; t < y.size(); t++) {
      double sum = 0.0, magnitude = 0.0;
      for (int64_t i = 0; i < kRowsPerToken * kWidth; i++) {
        const int64_t row = rows[t * kRowsPerToken + static_cast<size_t>(i / kWidth)];
        const int64_t first = row < 5 ? 100 + row * kWidth : 3 + (row - 5) * kWidth;
        const double product = static_cast<double>(element(file.path(), first + i % kWidth)) *
                               static_cast<double>(element(file.path(), i));
        sum += product, magnitude += std::abs(product);
      }
      const std::string text =
          difference(y[t], Bounded{sum, sum_error(kRowsPerToken * kWidth, magnitude)});
      EXPECT_MESSAGE(text.empty(), text);
    }
  }
}

MOEPP_TEST(lookup_reads_any_type_at_any_byte) {
  const TemporaryFile file(400);
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
    LookupSpec spec;
    spec.table = {
        "table", DType::kF32, {6, kWidth}, {LookupModel::part(file.path(), {6, kWidth}, 3, dtype)}};
    Lookup lookup;
    EXPECT(Lookup::open(spec, &lookup).ok());
    const int32_t rows[] = {5, 0, 2};
    float got[3 * kWidth], want[kWidth];
    EXPECT(lookup.read(rows, 3, got).ok());
    StackedRows stored;
    EXPECT(StackedRows::open(spec.table, &stored).ok());
    for (int64_t i = 0; i < 3; i++) {
      convert_row(stored.row(rows[i]), 0, kWidth, DType::kF32, reinterpret_cast<std::byte*>(want));
      EXPECT(same_bits(got + i * kWidth, want, sizeof want));
    }
  }
}

MOEPP_TEST(lookup_checks_the_step) {
  const TemporaryFile file(400);
  std::unique_ptr<Program> program;
  EXPECT(compile(LookupModel(file.path()).spec, &program).ok());
  std::vector<float> y;
  expect_words(LookupModel::run(*program, {0, 12, 1}, &y),
               "table: rows[1] is 12, expected 0 to 11");
  expect_words(LookupModel::run(*program, {0, 1, -1}, &y),
               "table: rows[2] is -1, expected 0 to 11");
  Step step;
  step.sizes = {1, 0, 1, 0};
  expect_words(program->run(step), "input rows is missing");
  int32_t two[2] = {0, 0};
  step.inputs["rows"] = {two, sizeof two};
  expect_words(program->run(step), "input rows has 8 bytes, expected 12");
  EXPECT(LookupModel::run(*program, {0, 1, 2}, &y).ok());
}

MOEPP_TEST(lookup_refuses_what_is_inconsistent) {
  const TemporaryFile file(400);
  const auto refused = [&](auto change, const std::string& words) {
    ProgramSpec spec = LookupModel(file.path()).spec;
    change(spec);
    std::unique_ptr<Program> program;
    expect_words(compile(spec, &program), words);
  };
  refused([](ProgramSpec& s) { s.lookups[0].rows = "none"; }, "there is no buffer named none");
  refused([](ProgramSpec& s) { s.lookups[0].out = "y"; }, "table: an op writes y");
  refused([](ProgramSpec& s) { s.lookups[0].rows = "x"; }, "expected [T, N] i32");
  refused([](ProgramSpec& s) { s.lookups[0].out = "rows"; }, "expected [T, 30] f32");
  refused([](ProgramSpec& s) { s.lookups[0].table.shape.pop_back(); }, "table must be a matrix");
  refused([](ProgramSpec& s) { s.lookups[0].table.shape[0] = 13; }, "its parts have 12 rows");
  refused([](ProgramSpec& s) { s.lookups[0].table.parts[1].byte_offset = 1u << 30; },
          "lie past the end");
}

}  // namespace moepp::test
