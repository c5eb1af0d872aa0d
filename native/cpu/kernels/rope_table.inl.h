#include "rows.inl.h"

inline void rope_table(const RopeTableArgs& args, Queue& queue) {
  const int64_t j_count = args.frequencies->shape[1];
  const int32_t* starts = args.sequence_starts->i32();
  // a sine and a cosine take the time of about that many bytes
  constexpr int64_t kBytesPerAngle = 200;
  for_row_blocks(queue, args.positions->shape[0], kBytesPerAngle * j_count,
                 [&](int64_t first, int64_t last) {
                   int64_t sequence = 0;
                   for (int64_t t = first; t < last; t++) {
                     sequence = sequence_of(starts, t, sequence);
                     const float* frequencies = args.frequencies->f32() + sequence * j_count;
                     const float position =
                         static_cast<float>(args.positions->i32()[t]) / args.position_divisor;
                     for (int64_t j = 0; j < j_count; j++) {
                       const float angle = position * frequencies[j];
                       args.cosine->f32()[t * j_count + j] = ::cosf(angle) * args.magnitude;
                       args.sine->f32()[t * j_count + j] = ::sinf(angle) * args.magnitude;
                     }
                   }
                 });
}
