// Rows of a tensor, shared out among the threads. (Included inside the namespace of an instruction
// set, like all kernels.)
#pragma once

constexpr int64_t kTaskBytes = 32 * 1024;  // below this, waking a thread costs more than it saves

// Calls body(first, last) for blocks of rows that cover [0, rows); row_bytes is what one row reads
// and writes, about.
template <class Body>
void for_row_blocks(Queue& queue, int64_t rows, int64_t row_bytes, const Body& body) {
  const int64_t block = row_bytes >= kTaskBytes ? 1 : kTaskBytes / (row_bytes > 0 ? row_bytes : 1);
  static_cast<ThreadPool&>(queue).parallel_for((rows + block - 1) / block, [&](int64_t task, int) {
    const int64_t first = task * block;
    body(first, first + block < rows ? first + block : rows);
  });
}

// The sequence of token t, at or after `from`.
inline int64_t sequence_of(const int32_t* sequence_starts, int64_t t, int64_t from = 0) {
  while (sequence_starts[from + 1] <= t) from++;
  return from;
}
