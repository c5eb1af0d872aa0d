// From the sums of a GEMM to its output: scale, bias, activation.

// tanh(x) = e / (e + 2), e = exp(2x) - 1 = 2^n (exp(r) - 1) + (2^n - 1), to 2 ulp; NaN stays NaN.
inline Vf tanh(Vf x) {
  const Vf one = set1(1.0f);
  const Vf y = min(max(x + x, set1(-20.0f)), set1(20.0f));
  Vf n;
  const Vf p = exp_minus_1_of_rest(y, &n);
  const Vf power = scale_by_power_of_2(one, n);
  const Vf e = fma(power, p, power - one);
  // with x as the second operand, a NaN of x stays
  const Vf bounded = min(one, max(set1(-1.0f), x));
  return e / (e + set1(2.0f)) + (bounded - bounded);
}

inline Vf activate(Activation activation, Vf x) {
  return activation == Activation::kTanh ? tanh(x) : x;
}

inline Vf swiglu(Vf gate, Vf up) {
  return gate / (set1(1.0f) + exp(set1(0.0f) - gate)) * up;
}

inline void store_columns(float* out, Vf value, int64_t columns) {
  if (columns >= kLanes) {
    store(out, value);
  } else if (columns > 0) {
    store_n(out, value, static_cast<int>(columns));
  }
}

// Neighbouring columns of the bias; those past the last one are 0.
inline Vf load_columns(const float* bias, int64_t columns) {
  return columns >= kLanes ? load(bias) : load_n(bias, columns < 0 ? 0 : static_cast<int>(columns));
}

// Writes the sums of one row and one panel, 32 of them, to the row's columns of the output.
inline void finish_row(const Gemm& gemm, const float* sums, int64_t r, int64_t panel) {
  const Vf scale = set1(gemm.scale);
  const bool pairs = gemm.activation == Activation::kSwiglu;
  const int64_t width = pairs ? kGateUpColumns : kPanelRows;
  const int64_t first = panel * width;
  float* out = gemm.out_row(r) + first;
  for (int64_t j = 0; j < width && first + j < gemm.columns; j += kLanes) {
    Vf value = load(sums + j) * scale;
    if (gemm.bias != nullptr)
      value = value + load_columns(gemm.bias + first + j, gemm.columns - first - j);
    const Vf result = pairs ? swiglu(value, load(sums + kGateUpColumns + j) * scale)
                            : activate(gemm.activation, value);
    store_columns(out + j, result, gemm.columns - first - j);
  }
}
