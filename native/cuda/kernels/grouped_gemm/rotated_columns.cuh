// The columns of a token's queries, keys and values, rotated in registers: a warp's four rows are
// two pairs of the rotation. An epilogue of stream.cuh.
#pragma once

#include "cuda/kernels/grouped_gemm/stream.cuh"
#include "cuda/kv_layout.cuh"

namespace moepp::cuda::stream {

struct RotatedColumns : stream::Columns {
  static constexpr int kBlocks = 2;
  KvStep step;
  Output cache;  // the layer's
  const float *cosine, *sine;
  float* q;
  int hq, pairs;  // pairs that are rotated: J
  bool interleaved;

  // Of one column of one token: where it goes, and the factors of it and of its partner.
  struct Place {
    Output to;
    int64_t at;
    int t, column;
    float cosine, sine;
    bool there, rotated;
  };

  // Of halves, dimensions 2u and 2u + 1 and their partners J further on.
  SIMT_DEVICE int stored_row(const Gemm&, int warp, int j) const {
    const int d = step.key_dim, head = warp * 4 / d, first = warp * 4 % d;
    if (interleaved || head >= hq + step.kv_heads || first >= 2 * pairs) return warp * 4 + j;
    return head * d + first / 2 + j % 2 + j / 2 * pairs;
  }

  SIMT_DEVICE Place place(const Gemm& g, int warp, int row, int end) const {
    const int lane = static_cast<int>(threadIdx.x) % 32, t = row + lane / 4,
              column = stored_row(g, warp, lane % 4), d = step.key_dim, heads = hq + step.kv_heads,
              head = column / d;
    Place place = {};
    place.there = lane < 4 && t < end && column < g.columns;
    if (!place.there) return place;
    place.to = cache;
    place.t = t, place.column = column;
    if (head >= heads) {
      const int i = column - heads * d;
      place.at = step.value_row(step.sequence_of(t), step.positions[t], i / step.value_dim) +
                 i % step.value_dim;
      return place;
    }
    const int i = rotate(t, column % d, &place);
    if (head >= hq) {
      place.at = step.key_row(step.sequence_of(t), step.positions[t], head - hq) + i;
      return place;
    }
    place.to = {q, false};
    place.at = (static_cast<int64_t>(t) * hq + head) * d + i;
    return place;
  }

  // The dimension that dimension i of a head comes out as, and its factors: ops/rope_store.h.
  SIMT_DEVICE int rotate(int t, int i, Place* place) const {
    if (i >= 2 * pairs) return i;
    const bool second = interleaved ? i % 2 != 0 : i >= pairs;
    const int j = interleaved ? i / 2 : second ? i - pairs : i;
    const int64_t at = static_cast<int64_t>(t) * pairs + j;
    place->rotated = true;
    place->cosine = cosine[at];
    place->sine = second ? sine[at] : -sine[at];
    return second ? j + pairs : j;
  }

  SIMT_DEVICE void write(const Gemm& g, const Place& place, int, float total) const {
    const float value = biased(g, place.column, total),
                partner = __shfl_xor_sync(simt::kFullMask, value, interleaved ? 1 : 2);
    if (!place.there) return;
    g.out.store(static_cast<int64_t>(place.t) * g.columns + place.column, {value});
    place.to.store(place.at, {place.rotated ? value * place.cosine + partner * place.sine : value});
  }
};

}  // namespace moepp::cuda::stream
