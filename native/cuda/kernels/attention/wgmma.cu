// Attention over whole contexts on Hopper's tensor cores (wgmma), a bf16 cache. A block has 128
// rows. One warp brings tiles of 128 keys and of their values by TMA, two stages of each. Two
// warpgroups of 64 rows each multiply:
//
//   scores = q keys^T     both in shared memory; 64 registers a thread
//   sums += weights values    weights as the operand in registers, values by columns
//
// They take turns, so that one uses the tensor cores while the other computes exponentials. In its
// turn a warpgroup starts the scores of a tile and the sums of the tile before. The sums are in the
// scale of the highest score so far, and are corrected when a higher one comes. Source: Shah et
// al., FlashAttention-3 (sections 3.1 and 3.2).
//
// A tile of values may reach beyond what the block's rows see, into memory that was never written.
// There the warp waits for the copies and writes zeros over these rows. Else a weight of 0 times
// NaN would be NaN. Infinite values that some rows of a block see are as in mma.cu.
// SASS sm_90a attend_wgmma: HGMMA UTMALDG MUFU !HMMA !LDL !STL registers=168 no-spills
#include <climits>

#include "cuda/kernels/attention/attention.h"
#include "cuda/mma.cuh"

namespace moepp::cuda {

// Not an anonymous namespace: what other chips do not use would be warned about.
namespace attention_sm90 {

inline constexpr int kThreads = 384, kRows = 128, kKeys = 128, kStages = 2, kWarps = kThreads / 32;
// As in grouped_gemm/sm90.cu.
inline constexpr int kLaunchRegisters = 168, kProducerRegisters = 40, kConsumerRegisters = 232;
static_assert(128 * kProducerRegisters + (kThreads - 128) * kConsumerRegisters ==
                  kThreads * kLaunchRegisters,
              "all are dealt");

// An array of rows of kD elements is kD / kWidth arrays of rows of kWidth, swizzled.
template <int HeadDim>
struct Config {
  static constexpr int kD = HeadDim, kWidth = HeadDim % 64 == 0 ? 64 : 32, kUnits = kWidth / 8;
  static constexpr simt::Swizzle kSwizzle = kWidth == 64 ? simt::Swizzle::k128 : simt::Swizzle::k64;

  // The first element of unit number `unit` (16 bytes) of a row.
  SIMT_DEVICE static int place(int rows, int row, int unit) {
    const int flip = kWidth == 64 ? row % 8 : row / 2 % 4;
    return (unit / kUnits * rows + row) * kWidth + (unit % kUnits ^ flip) * 8;
  }
};

template <class C>
struct Smem {
  alignas(1024) simt::bf16 q[2][64 * C::kD];
  alignas(1024) simt::bf16 keys[kStages][kKeys * C::kD];
  alignas(1024) simt::bf16 values[kStages][kKeys * C::kD];
  simt::Mbarrier keys_full[kStages], values_full[kStages];    // the lanes that bring a tile
  simt::Mbarrier keys_empty[kStages], values_empty[kStages];  // the warps that read it
  simt::Mbarrier landed;                                      // values to be cut
  KeyRange ranges[kWarps];
};

// The tile number i that a block takes has stage i % kStages, whose phase has this parity.
SIMT_DEVICE int parity_of(int i) {
  return i / kStages % 2;
}

// Tiles of the keys in `range`, one after another.
struct Tiles {
  int first, count;

  SIMT_DEVICE explicit Tiles(const KeyRange& range)
      : first(range.first / kKeys), count((range.limit + kKeys - 1) / kKeys - first) {}
  SIMT_DEVICE int key(int i) const { return (first + i) * kKeys; }
};

// The warp that brings keys and values. A lane has a box of up to `box` consecutive keys, which lie
// in one page.
template <class C>
struct Producer {
  const Attention& a;
  const simt::TensorMap* cache;  // rows of kD elements; the whole layer
  Smem<C>& s;
  const int sequence, box;
  const KeyRange range;

  SIMT_DEVICE static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  SIMT_DEVICE static int head() { return static_cast<int>(blockIdx.y); }
  // A box that begins with this key; the others are not loaded.
  SIMT_DEVICE bool wants(int key) const { return key < range.limit && key + box > range.first; }
  // The lane's box of a tile, and its arrival at `full`. `element`: where it begins in the layer.
  SIMT_DEVICE void load(simt::bf16* tile, bool wanted, int64_t element,
                        simt::Mbarrier* full) const {
    simt::mbar_arrive_expect_tx(full, wanted ? static_cast<uint32_t>(box * C::kD * 2) : 0);
    if (!wanted) return;
    const int row = static_cast<int>(element / C::kD);
#pragma unroll
    for (int column = 0; column < C::kD; column += C::kWidth)
      simt::tma_load(tile + column * kKeys + lane() * box * C::kWidth, cache, column, row, full);
  }
  // Zeros in the rows of a tile that are not seen.
  SIMT_DEVICE void cut(simt::bf16* tile, int first_key) const {
    constexpr int kRowUnits = C::kD / 8;
    for (int at = lane(); at < kKeys * kRowUnits; at += 32) {
      const int row = at / kRowUnits;
      if (range.has_key(first_key + row)) continue;
      *reinterpret_cast<uint4*>(tile + C::place(kKeys, row, at % kRowUnits)) =
          make_uint4(0, 0, 0, 0);
    }
    simt::fence_proxy_async();  // wgmma reads what was stored here
  }
  SIMT_DEVICE void run() const {
    const Tiles tiles(range);
    for (int i = 0, cuts = 0; i < tiles.count; i++) {
      const int stage = i % kStages, first_key = tiles.key(i), key = first_key + lane() * box;
      const bool wanted = lane() * box < kKeys && wants(key);
      const int64_t keys = wanted ? a.step.key_row(sequence, key, head()) : 0,
                    values = keys + a.step.page_size * C::kD;
      simt::mbar_wait(&s.keys_empty[stage], parity_of(i) ^ 1);
      load(s.keys[stage], wanted, keys, &s.keys_full[stage]);
      simt::mbar_wait(&s.values_empty[stage], parity_of(i) ^ 1);
      if (first_key >= range.first && first_key + kKeys <= range.limit) {
        load(s.values[stage], wanted, values, &s.values_full[stage]);
        continue;
      }
      load(s.values[stage], wanted, values, &s.landed);
      simt::mbar_wait(&s.landed, cuts++ % 2);
      cut(s.values[stage], first_key);
      simt::mbar_arrive(&s.values_full[stage]);
    }
  }
};

// The 64 rows of a warpgroup. A thread has parts of rows g = lane / 4 and g + 8 of its warp's 16.
// Element 4 j + 2 i + e of an accumulator is of row i of these. Its column is 8 j + 2 (lane % 4) +
// e.
struct Rows {
  int limit[2] = {};
  KeyRange range = {INT_MAX, 0};  // of the warp's rows
  KeyRange common = {0, 0};       // what all of them see
  RowState state[2];

  SIMT_DEVICE static int warpgroup() { return static_cast<int>(threadIdx.x) / 128 - 1; }
  SIMT_DEVICE static int row(int i) {
    return static_cast<int>(threadIdx.x) / 32 * 16 - 64 + static_cast<int>(threadIdx.x) % 32 / 4 +
           8 * i;
  }
  SIMT_DEVICE void find(const Attention& a, const RowBlock& block) {
    int first = INT_MAX, last_first = 0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      limit[i] = block.limit(a, row(i));
      last_first = max(last_first, a.first_key(limit[i]));
      if (row(i) < block.count) first = min(first, a.first_key(limit[i]));
    }
    range = {-simt::reduce_max(simt::kFullMask, -first),
             simt::reduce_max(simt::kFullMask, max(limit[0], limit[1]))};
    common = {simt::reduce_max(simt::kFullMask, last_first),
              -simt::reduce_max(simt::kFullMask, max(-limit[0], -limit[1]))};
  }
};

// The warpgroup's queries, rounded, for wgmma; zeros past the last row.
template <class C>
SIMT_DEVICE void load_queries(const Attention& a, const RowBlock& block, simt::bf16* q) {
  constexpr int kRowUnits = C::kD / 8;
  const int first = Rows::warpgroup() * 64;
#pragma unroll 2
  for (int at = static_cast<int>(threadIdx.x) % 128; at < 64 * kRowUnits; at += 128) {
    const int row = at / kRowUnits, unit = at % kRowUnits;
    uint4 rounded = make_uint4(0, 0, 0, 0);
    if (first + row < block.count) {
      const auto* from =
          reinterpret_cast<const float4*>(a.q + block.query(a, first + row) * C::kD + unit * 8);
      const float4 low = from[0], high = from[1];
      rounded = make_uint4(simt::pack_bf16(low.x, low.y), simt::pack_bf16(low.z, low.w),
                           simt::pack_bf16(high.x, high.y), simt::pack_bf16(high.z, high.w));
    }
    *reinterpret_cast<uint4*>(q + C::place(64, row, unit)) = rounded;
  }
  simt::fence_proxy_async();
  simt::barrier_sync(3 + Rows::warpgroup(), 128);
}

// Scores become weights, not yet rounded; the rows' highest scores go on. Sums and totals are to be
// multiplied by `keep`.
SIMT_DEVICE void soften(const Attention& a, Rows& rows, float (&scores)[kKeys / 2], int first_key,
                        float (&keep)[2]) {
  if (first_key < rows.common.first || first_key + kKeys > rows.common.limit) {
    const int column = first_key + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int n = 0; n < kKeys / 2; n++) {
      if (!a.sees(rows.limit[n / 2 % 2], column + n / 4 * 8 + n % 2)) scores[n] = -INFINITY;
    }
  }
#pragma unroll
  for (int i = 0; i < 2; i++) {
    float highest = -INFINITY;
#pragma unroll
    for (int j = 0; j < kKeys / 8; j++)
      highest = fmaxf(highest, fmaxf(scores[4 * j + 2 * i], scores[4 * j + 2 * i + 1]));
    highest = fmaxf(highest, __shfl_xor_sync(simt::kFullMask, highest, 1));
    highest = fmaxf(highest, __shfl_xor_sync(simt::kFullMask, highest, 2));
    float& before = rows.state[i].highest;
    const float m = fmaxf(before, highest * a.scale),
                shift = m == -INFINITY ? 0.0f : m;  // nothing seen: weights of 0
    keep[i] = before == m ? 1.0f : exp2f(before - m);
    before = m;
#pragma unroll
    for (int j = 0; j < kKeys / 8; j++) {
#pragma unroll
      for (int e = 0; e < 2; e++) {
        float& score = scores[4 * j + 2 * i + e];
        score = simt::exp2_approx(fmaf(score, a.scale, -shift));
      }
    }
  }
}

// The weights, rounded, in pairs as the operand that multiplies the values. The totals are each
// thread's own. ptxas makes products wait for each other if the operand is written while any run.
SIMT_DEVICE void round_weights(Rows& rows, const float (&scores)[kKeys / 2], const float (&keep)[2],
                               uint32_t (&weights)[kKeys / 16][4]) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    float l = 0.0f;
#pragma unroll
    for (int j = 0; j < kKeys / 8; j++) {
      const uint32_t pair = simt::pack_bf16(scores[4 * j + 2 * i], scores[4 * j + 2 * i + 1]);
      const float2 rounded = simt::unpack_bf16(pair);
      l += rounded.x + rounded.y;
      weights[j / 2][j % 2 * 2 + i] = pair;
    }
    rows.state[i].total = fmaf(rows.state[i].total, keep[i], l);
  }
}

template <class C>
SIMT_DEVICE void start_scores(const simt::bf16* q, const simt::bf16* keys,
                              float (&scores)[kKeys / 2]) {
#pragma unroll
  for (int k = 0; k < C::kD; k += 16) {
    const int column = k / C::kWidth * C::kWidth, within = k % C::kWidth;
    simt::wgmma_bf16<kKeys>(scores, simt::wgmma_descriptor(q + column * 64 + within, C::kSwizzle),
                            simt::wgmma_descriptor(keys + column * kKeys + within, C::kSwizzle),
                            k > 0);
  }
  simt::wgmma_commit();
}

template <class C>
SIMT_DEVICE void start_sums(const uint32_t (&weights)[kKeys / 16][4], const simt::bf16* values,
                            float (&sums)[C::kD / 2]) {
#pragma unroll
  for (int k = 0; k < kKeys; k += 16) {
    simt::wgmma_bf16_columns<C::kD>(
        sums, weights[k / 16],
        simt::wgmma_descriptor(values + k * C::kWidth, C::kSwizzle, kKeys * C::kWidth * 2), true);
  }
  simt::wgmma_commit();
}

template <class C>
SIMT_DEVICE void write_rows(const Attention& a, const RowBlock& block, const Rows& rows,
                            const float (&sums)[C::kD / 2]) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int row = rows.row(i);
    float total = rows.state[i].total;
    total += __shfl_xor_sync(simt::kFullMask, total, 1);
    total += __shfl_xor_sync(simt::kFullMask, total, 2);
    const float inverse = 1.0f / total;
    if (row >= block.count) continue;
    const int64_t to = block.query(a, row) * C::kD + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int j = 0; j < C::kD / 8; j++) {
      const float* two = sums + 4 * j + 2 * i;
      a.out.store(to + 8 * j, {two[0] * inverse, two[1] * inverse});
    }
  }
}

// Barriers 1 and 2 give the first and the second warpgroup its turn. The other one arrives there
// before its own first turn, and after each but its last: the first starts.
SIMT_DEVICE void begin_turn(int self) {
  simt::barrier_sync(1 + self, 256);
  simt::wgmma_fence();
}
SIMT_DEVICE void end_turn(int self, bool last) {
  if (self == 0 || !last) simt::barrier_arrive(2 - self, 256);
}

template <class C>
SIMT_DEVICE void consume(const Attention& a, const RowBlock& block, Rows& rows, Smem<C>& s,
                         const KeyRange& range) {
  const int self = rows.warpgroup();
  const bool signals = threadIdx.x % 32 == 0;
  const Tiles tiles(range);
  load_queries<C>(a, block, s.q[self]);
  if (self == 1) end_turn(self, false);
  float scores[kKeys / 2], sums[C::kD / 2], keep[2];
  uint32_t weights[kKeys / 16][4];
#pragma unroll
  for (int n = 0; n < C::kD / 2; n++) sums[n] = 0.0f;
  simt::mbar_wait(&s.keys_full[0], 0);
  begin_turn(self);
  start_scores<C>(s.q[self], s.keys[0], scores);
  end_turn(self, tiles.count == 1);
  simt::wgmma_wait<0>();
  after_wgmma(scores);
  if (signals) simt::mbar_arrive(&s.keys_empty[0]);
  soften(a, rows, scores, tiles.key(0), keep);
  round_weights(rows, scores, keep, weights);
  for (int i = 1; i < tiles.count; i++) {
    const int stage = i % kStages, before = (i - 1) % kStages;
    simt::mbar_wait(&s.keys_full[stage], parity_of(i));
    simt::mbar_wait(&s.values_full[before], parity_of(i - 1));
    begin_turn(self);
    start_scores<C>(s.q[self], s.keys[stage], scores);
    start_sums<C>(weights, s.values[before], sums);
    end_turn(self, i + 1 == tiles.count);
    simt::wgmma_wait<1>();
    after_wgmma(scores);
    if (signals) simt::mbar_arrive(&s.keys_empty[stage]);
    soften(a, rows, scores, tiles.key(i), keep);
    simt::wgmma_wait<0>();
    after_wgmma(sums);
    if (signals) simt::mbar_arrive(&s.values_empty[before]);
#pragma unroll
    for (int n = 0; n < C::kD / 2; n++) sums[n] *= keep[n / 2 % 2];
    round_weights(rows, scores, keep, weights);
  }
  const int last = tiles.count - 1;
  simt::mbar_wait(&s.values_full[last % kStages], parity_of(last));
  simt::wgmma_fence();
  start_sums<C>(weights, s.values[last % kStages], sums);
  simt::wgmma_wait<0>();
  after_wgmma(sums);
  write_rows<C>(a, block, rows, sums);
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1)
    attend_wgmma(const Attention a, const __grid_constant__ simt::TensorMap cache, int box) {
  SIMT_REQUIRES(SIMT_HAS_SM90A) {
    auto& s = *simt::smem<Smem<C>>();
    if (threadIdx.x == 0) {
      simt::tma_prefetch_map(&cache);
      for (int i = 0; i < kStages; i++) {
        simt::mbar_init(&s.keys_full[i], 32), simt::mbar_init(&s.values_full[i], 32);
        simt::mbar_init(&s.keys_empty[i], 8), simt::mbar_init(&s.values_empty[i], 8);
      }
      simt::mbar_init(&s.landed, 32);
      simt::fence_mbarrier_init();
    }
    await_inputs();
    RowBlock block;
    if (!find_whole<kRows>(a, &block)) return;
    Rows rows;
    if (threadIdx.x >= 128) rows.find(a, block);
    const KeyRange range = block_range(rows.range, s.ranges);
    if (threadIdx.x < 128) {
      simt::setmaxnreg_dec<kProducerRegisters>();
      if (threadIdx.x < 32) Producer<C>{a, &cache, s, block.sequence, box, range}.run();
    } else {
      simt::setmaxnreg_inc<kConsumerRegisters>();
      consume<C>(a, block, rows, s, range);
    }
  }
}

// Keys of a box: as many as divide a page and a tile.
inline int box_keys(int page_size) {
  int box = kKeys;
  while (page_size % box != 0) box /= 2;
  return box;
}

template <int kD>
void launch(const Attention& a, CudaQueue& queue) {
  using C = Config<kD>;
  const KvStep& kv = a.step;
  const int box = box_keys(kv.page_size);
  simt::TensorMap cache;
  queue.check(simt::make_tensor_map(
      &cache, {kv.layer, simt::Element::kBf16, kD,
               static_cast<uint64_t>(kv.pages) * kv.kv_heads * 2 * kv.page_size, kD * 2, C::kWidth,
               static_cast<uint32_t>(box), C::kSwizzle}));
  queue.launch(attend_wgmma<C>,
               {attention_grid(a, false, 1, kRows), dim3(kThreads), sizeof(Smem<C>)}, a, cache,
               box);
}

}  // namespace attention_sm90

bool has_wgmma(const Attention& a, DType cache) {
  const int d = a.step.key_dim;
  return cache == DType::kBf16 && a.step.value_dim == d && (d == 64 || d == 96 || d == 128) &&
         a.step.page_size % 8 == 0;
}

void attend_sm90(const Attention& a, CudaQueue& queue) {
  switch (a.step.key_dim) {
    case 64:
      return attention_sm90::launch<64>(a, queue);
    case 96:
      return attention_sm90::launch<96>(a, queue);
    default:
      return attention_sm90::launch<128>(a, queue);
  }
}

}  // namespace moepp::cuda
