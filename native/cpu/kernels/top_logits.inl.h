#include "rows.inl.h"

constexpr int64_t kMostTop = 256;
constexpr int64_t kLaneMaxima = 1024;  // of one row

// True if a is larger than b, where a NaN is larger than every number.
inline bool is_larger(float a, float b) {
  return a > b || (a != a && b == b);
}

// The k largest logits so far, a heap when there are k: its root would go first, the smallest, of
// equal ones the last. Logits are offered in ascending order of index.
struct Largest {
  float values[kMostTop];
  int32_t indices[kMostTop];
  int64_t k, count = 0;

  explicit Largest(int64_t wanted) : k(wanted) {}

  bool goes_before(int64_t a, int64_t b) const {
    return is_larger(values[b], values[a]) ||
           (!is_larger(values[a], values[b]) && indices[a] > indices[b]);
  }

  void swap(int64_t a, int64_t b) {
    const float value = values[a];
    const int32_t index = indices[a];
    values[a] = values[b], indices[a] = indices[b];
    values[b] = value, indices[b] = index;
  }

  void sink(int64_t at, int64_t end) {
    for (int64_t child = 2 * at + 1; child < end; child = 2 * at + 1) {
      if (child + 1 < end && goes_before(child + 1, child)) child++;
      if (goes_before(at, child)) return;
      swap(at, child);
      at = child;
    }
  }

  void offer(float value, int64_t index) {
    if (count == k && !is_larger(value, values[0])) return;
    const int64_t at = count < k ? count++ : 0;
    values[at] = value;
    indices[at] = static_cast<int32_t>(index);
    if (at == 0 && k == count) sink(0, k);
    if (at > 0 && count == k) {
      for (int64_t i = k / 2; i-- > 0;) sink(i, k);
    }
  }

  // The largest first. No heap afterwards.
  void sort() {
    for (int64_t end = k - 1; end > 0; end--) {
      swap(0, end);
      sink(0, end);
    }
  }
};

// The largest logit, and a number that at least k logits reach. Every lane of every group of
// vectors has a maximum of its own, and that number is the k-th largest of these. It is -infinity
// if there are too few, or if a logit is not finite.
inline float bound_from_below(const float* logits, int64_t v, int64_t k, float* largest) {
  const int64_t vectors = v / kLanes,
                groups = vectors < kLaneMaxima / kLanes ? vectors : kLaneMaxima / kLanes;
  const Vf lowest = set1(-__builtin_inff());
  float maxima[kLaneMaxima];
  Vf total = lowest, probe = set1(0.0f);
  for (int64_t g = 0; g < groups; g++) {
    Vf highest_of_group = lowest;
    for (int64_t i = vectors * g / groups; i < vectors * (g + 1) / groups; i++) {
      const Vf x = load(logits + i * kLanes);
      highest_of_group = max(highest_of_group, x);
      probe = probe + (x - x);  // NaN once x is not finite
    }
    store(maxima + g * kLanes, highest_of_group);
    total = max(total, highest_of_group);
  }
  float most = vectors > 0 ? highest(total) : -__builtin_inff(), rest = sum(probe);
  for (int64_t i = vectors * kLanes; i < v; i++) {
    if (is_larger(logits[i], most)) most = logits[i];
    rest += logits[i] - logits[i];
  }
  if (rest != rest) {
    for (int64_t i = 0; i < v; i++) {
      if (is_larger(logits[i], most)) most = logits[i];
    }
  }
  *largest = most;
  if (rest != rest || k > groups * kLanes || k == 0) return -__builtin_inff();
  Largest of_lanes(k);
  for (int64_t i = 0; i < groups * kLanes; i++) of_lanes.offer(maxima[i], i);
  return of_lanes.values[0];
}

// sum_v exp(logits[v] - largest). Sums are compensated: as exact as one f32 addition, however many
// there are.
inline float exp_sum(const float* logits, int64_t v, float largest) {
  Vf total = set1(0.0f), lost = total;
  for (int64_t i = 0; i < v; i += kLanes) {
    const int n = v - i < kLanes ? static_cast<int>(v - i) : kLanes;
    const Vf x = n == kLanes ? load(logits + i) : load_n(logits + i, n);
    const Vf term = first_n(exp(x - set1(largest)), n) - lost, next = total + term;
    lost = (next - total) - term;
    total = next;
  }
  float totals[kLanes], losses[kLanes];
  store(totals, total);
  store(losses, lost);
  double whole = 0.0;
  for (int i = 0; i < kLanes; i++)
    whole += static_cast<double>(totals[i]) - static_cast<double>(losses[i]);
  return static_cast<float>(whole);
}

// Two passes: where at least k logits are, then those; a third one for the sum.
inline void top_logits(const TopLogitsArgs& args, Queue& queue) {
  const int64_t v = args.logits->shape[1];
  const Tensor* top = args.top_logits != nullptr ? args.top_logits : args.top_indices;
  const int64_t k = top != nullptr ? top->shape[1] : 0;
  // the work on a logit takes the time of about that many bytes
  constexpr int64_t kBytesPerLogit = 16;
  for_row_blocks(queue, args.logits->shape[0], kBytesPerLogit * v,
                 [&](int64_t first, int64_t last) {
                   for (int64_t r = first; r < last; r++) {
                     const float* logits = args.logits->f32() + r * v;
                     float largest;
                     const float bound = bound_from_below(logits, v, k, &largest);
                     if (args.exp_sum != nullptr)
                       args.exp_sum->f32()[r] = exp_sum(logits, v, largest);
                     if (k == 0) continue;
                     Largest found(k);
                     int64_t i = 0;
                     if (bound > -__builtin_inff()) {
                       for (; i + kLanes <= v; i += kLanes) {
                         for (unsigned lanes = at_least(load(logits + i), set1(bound)); lanes != 0;
                              lanes &= lanes - 1) {
                           const int64_t at = i + __builtin_ctz(lanes);
                           found.offer(logits[at], at);
                         }
                       }
                     }
                     for (; i < v; i++) found.offer(logits[i], i);
                     found.sort();
                     if (args.top_logits != nullptr)
                       __builtin_memcpy(args.top_logits->f32() + r * k, found.values,
                                        static_cast<size_t>(k) * 4);
                     if (args.top_indices != nullptr)
                       __builtin_memcpy(args.top_indices->i32() + r * k, found.indices,
                                        static_cast<size_t>(k) * 4);
                   }
                 });
}
