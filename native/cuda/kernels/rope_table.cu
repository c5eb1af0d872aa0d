// One thread per angle, once per step. Sine and cosine are computed in f64 and rounded once. CUDA's
// sinf and cosf are off by up to two units, and take a table in local memory to reduce large
// angles.
// SASS * rope_angles: !LDL !STL registers<=40 no-spills
#include "cuda/cuda_queue.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kv_layout.cuh"

namespace moepp::cuda {

namespace {

constexpr int kThreads = 128;

// |r| <= pi/4. Taylor: the first term left out is below 2^-36 of the result.
SIMT_DEVICE double sine_near_zero(double r) {
  const double s = r * r;
  double p = fma(s, -1.0 / 39916800.0, 1.0 / 362880.0);
  p = fma(s, p, -1.0 / 5040.0);
  p = fma(s, p, 1.0 / 120.0);
  p = fma(s, p, -1.0 / 6.0);
  return fma(r * s, p, r);
}
SIMT_DEVICE double cosine_near_zero(double r) {
  const double s = r * r;
  double p = fma(s, 1.0 / 479001600.0, -1.0 / 3628800.0);
  p = fma(s, p, 1.0 / 40320.0);
  p = fma(s, p, -1.0 / 720.0);
  p = fma(s, p, 1.0 / 24.0);
  p = fma(s, p, -0.5);
  return fma(s, p, 1.0);
}

// angle = quarter pi/2 + r. Two parts of pi/2 (Cody and Waite): exact to 2^-100 for every angle
// that an i32 position gives.
SIMT_DEVICE void sine_cosine(float angle, float magnitude, float* sine, float* cosine) {
  const double quarter = rint(static_cast<double>(angle) * 0.63661977236758134);
  double r = fma(-quarter, 1.5707963267948966, static_cast<double>(angle));
  r = fma(-quarter, 6.123233995736766e-17, r);
  const double s = sine_near_zero(r) * static_cast<double>(magnitude),
               c = cosine_near_zero(r) * static_cast<double>(magnitude);
  const int turn = static_cast<int>(quarter - 4.0 * floor(0.25 * quarter));
  const double sines[2] = {turn % 2 == 0 ? s : c, turn % 2 == 0 ? c : s};
  *sine = static_cast<float>(turn >= 2 ? -sines[0] : sines[0]);
  *cosine = static_cast<float>(turn == 1 || turn == 2 ? -sines[1] : sines[1]);
}

struct Angles {
  KvStep step;  // sequences and positions alone
  const float* frequencies;
  float *cosine, *sine;
  int tokens, count;
  float divisor, magnitude;
};

__global__ void __launch_bounds__(kThreads) rope_angles(Angles a) {
  await_inputs();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int t = static_cast<int>(i / a.count), j = static_cast<int>(i % a.count);
  if (t >= a.tokens) return;
  const float frequency = a.frequencies[static_cast<int64_t>(a.step.sequence_of(t)) * a.count + j];
  sine_cosine(static_cast<float>(a.step.positions[t]) / a.divisor * frequency, a.magnitude,
              a.sine + i, a.cosine + i);
}

}  // namespace

void rope_table(const RopeTableArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  Angles angles = {};
  angles.step.positions = args.positions->i32();
  angles.step.sequence_starts = args.sequence_starts->i32();
  angles.step.sequences = static_cast<int>(args.sequence_starts->shape[0]) - 1;
  angles.frequencies = args.frequencies->f32();
  angles.cosine = args.cosine->f32();
  angles.sine = args.sine->f32();
  angles.tokens = static_cast<int>(args.positions->shape[0]);
  angles.count = static_cast<int>(args.frequencies->shape[1]);
  angles.divisor = args.position_divisor;
  angles.magnitude = args.magnitude;
  const int64_t blocks = (args.positions->shape[0] * angles.count + kThreads - 1) / kThreads;
  const simt::Launch how = {dim3(static_cast<unsigned>(blocks)), dim3(kThreads)};
  stream.launch(rope_angles, how, angles);
}

}  // namespace moepp::cuda
