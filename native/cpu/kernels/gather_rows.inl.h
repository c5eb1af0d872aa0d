#include "rows.inl.h"

inline void gather_rows(const GatherRowsArgs& args, Queue& queue) {
  const int64_t h = args.x->shape[1];
  for_row_blocks(queue, args.rows->shape[0], 8 * h, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) {
      __builtin_memcpy(args.out->f32() + r * h, args.x->f32() + args.rows->i32()[r] * h,
                       static_cast<size_t>(h) * 4);
    }
  });
}
