// Every instruction set that this machine runs, with one thread and with two.
#pragma once

#include <string>

#include "compare.h"
#include "cpu/isa/isa.h"
#include "host/thread_pool.h"
#include "test.h"

namespace moepp::test {

struct Backend {
  const cpu::Isa& isa;
  ThreadPool& pool;
  std::string name;  // "avx2, 2 threads"
};

template <class Body>  // body(const Backend&)
void for_each_backend(const Body& body) {
  for (int threads : {1, 2}) {
    ThreadPool pool(threads);
    for (const cpu::Isa& isa : cpu::available_isas()) {
      body(Backend{isa, pool, std::string(isa.name) + ", " + std::to_string(threads) + " threads"});
    }
  }
}

// Fails with the label and the text unless the text is empty.
inline void expect_no_difference(const std::string& label, const std::string& text) {
  EXPECT_MESSAGE(text.empty(), label + ": " + text);
}

template <class T>
void expect_intact(const std::string& label, const Guarded<T>& values) {
  EXPECT_MESSAGE(values.margins_intact(), label + ": wrote outside");
}

// A tensor over a guarded array, and over the rows of it from `row` on.
template <class T>
Tensor whole(Guarded<T>& values, std::initializer_list<int64_t> shape) {
  return tensor(values.data(),
                std::is_same<T, int32_t>::value    ? DType::kI32
                : std::is_same<T, uint16_t>::value ? DType::kBf16
                                                   : DType::kF32,
                shape);
}

inline Guarded<float> filled(int64_t n, uint32_t seed, float scale = 1.0f) {
  Guarded<float> values(n);
  fill(values.data(), n, seed, scale);
  return values;
}

}  // namespace moepp::test
