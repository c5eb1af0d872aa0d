#include "op_test.h"

#include <algorithm>

namespace moepp::test {

void OpTest::report(const std::string& text) const {
  if (!text.empty()) fail(__FILE__, __LINE__, label_ + ": " + text);
}

void OpTest::expect_same(const std::vector<Output>& expected, const std::vector<Output>& actual,
                         const std::string& otherwise) const {
  for (size_t i = 0; i < expected.size(); i++) {
    const std::vector<unsigned char>&a = expected[i].bytes, &b = actual[i].bytes;
    if (a == b) continue;
    const auto at = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
    report(otherwise + ": " + expected[i].name + " at byte " + std::to_string(at));
  }
}

std::vector<unsigned char> OpTest::bytes_of(const Tensor& tensor) const {
  const int64_t bytes = tensor.elements() * dtype_size(tensor.dtype);
  const Block* block = block_of(tensor.data);
  if (block == nullptr) return {};
  const std::vector<unsigned char> all = block->content();
  const auto from = all.begin() + (static_cast<const std::byte*>(tensor.data) - block->device());
  return {from, from + bytes};
}

void OpTest::write_as_bf16(const Tensor& tensor, Block* to) const {
  const Block* block = block_of(tensor.data);
  if (block == nullptr) return;
  const auto* wide = reinterpret_cast<const float*>(
      block->host() + (static_cast<const std::byte*>(tensor.data) - block->device()));
  std::vector<uint16_t> narrow(static_cast<size_t>(tensor.elements()));
  for (size_t i = 0; i < narrow.size(); i++) narrow[i] = f32_to_bf16(wide[i]);
  to->write(reinterpret_cast<const std::byte*>(narrow.data()), 0, to->bytes());
}

std::vector<OpTest::Output> OpTest::rounded(std::vector<Output> outputs,
                                            const std::set<std::string>& fields) {
  for (Output& output : outputs) {
    if (fields.count(output.name) == 0) continue;
    std::vector<unsigned char> narrow(output.bytes.size() / 2);
    for (size_t i = 0; i < narrow.size() / 2; i++) {
      float wide;
      std::memcpy(&wide, output.bytes.data() + 4 * i, 4);
      const uint16_t half = f32_to_bf16(wide);
      std::memcpy(narrow.data() + 2 * i, &half, 2);
    }
    output.bytes = std::move(narrow);
  }
  return outputs;
}

std::vector<OpTest::Output> OpTest::with_one_nan(std::vector<Output> outputs,
                                                 const std::set<std::string>& fields) {
  for (Output& output : outputs) {
    if (fields.count(output.name) == 0) continue;
    for (size_t at = 0; at < output.bytes.size(); at += 2) {
      uint16_t half;
      std::memcpy(&half, output.bytes.data() + at, 2);
      if ((half & 0x7fff) > 0x7f80) half = 0x7fc0;
      std::memcpy(output.bytes.data() + at, &half, 2);
    }
  }
  return outputs;
}

const std::vector<ThreadPool*>& OpTest::other_pools() {
  static ThreadPool one(1), five(5), sixteen(16);
  static const std::vector<ThreadPool*> pools = {&one, &five, &sixteen};
  return pools;
}

void run_on_cpus(void (*test)(OpTest&)) {
  for (const cpu::Isa& isa : cpu::available_isas()) {
    Target target = {isa.name, nullptr, &isa};
    must(open_cpu_device(2, isa.name, &target.device));
    OpTest on(target);
    test(on);
  }
}

void run_on_gpus(std::initializer_list<int> capabilities, void (*test)(OpTest&)) {
  for (const Target& target : gpu::targets(capabilities)) {
    OpTest on(target);
    test(on);
  }
}

}  // namespace moepp::test
