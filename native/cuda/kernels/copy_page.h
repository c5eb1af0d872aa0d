// One page of the KV cache, in every layer, to another. Not an op: sequences that part need it,
// before a step's ops run.
#pragma once

#include "ops.h"
#include "queue.h"

namespace moepp::cuda {

void copy_page(const KvView& cache, int64_t from, int64_t to, Queue& queue);

}  // namespace moepp::cuda
