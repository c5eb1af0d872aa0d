// A thread copies 16 bytes of a page. Bound by memory. No copy of the runtime's does this: a 2D
// copy takes no pitch above 2^31 - 1 bytes, and a large cache's layers lie further apart.
// SASS * copy_layers: LDG STG !LDL !STL registers<=32 no-spills
#include "cuda/kernels/copy_page.h"

#include "cuda/cuda_queue.h"
#include "cuda/kv_layout.cuh"

namespace moepp::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int64_t kLayersAtOnce = 64;  // a block copies every 64th

// A page has `units` of 16 bytes in each layer, a layer has `pitch`.
__global__ void __launch_bounds__(kThreads)
    copy_layers(const uint4* from, uint4* to, int64_t units, int64_t pitch, int64_t layers) {
  await_inputs();
  const int64_t unit = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (unit >= units) return;
  for (int64_t layer = blockIdx.y; layer < layers; layer += gridDim.y)
    to[layer * pitch + unit] = from[layer * pitch + unit];
}

}  // namespace

void copy_page(const KvView& cache, int64_t from, int64_t to, Queue& queue) {
  // Whole units: a page has 16 tokens or a multiple of them (KvCache::create).
  const int64_t units = cache.page_elements() * dtype_size(cache.dtype) / 16,
                pitch = cache.pages * units;
  auto* pages = static_cast<uint4*>(cache.data);
  const simt::Launch how = {
      dim3(static_cast<unsigned>((units + kThreads - 1) / kThreads),
           static_cast<unsigned>(cache.layers < kLayersAtOnce ? cache.layers : kLayersAtOnce)),
      dim3(kThreads)};
  CudaQueue::from(queue).launch(copy_layers, how, pages + from * units, pages + to * units, units,
                                pitch, cache.layers);
}

}  // namespace moepp::cuda
