#include "grouped_gemm.inl.h"
#include "combine.inl.h"

// A call costs nothing here, and neither op could keep the other's rows in a cache.
inline void grouped_gemm_combine(const GroupedGemmCombineArgs& args, Queue& queue) {
  grouped_gemm(args.gemm, queue);
  combine(args.combine, queue);
}
