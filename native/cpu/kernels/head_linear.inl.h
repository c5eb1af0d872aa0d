// HeadLinearArgs: the rows of each head are one group.
inline void head_linear(const HeadLinearArgs& args, Queue& queue) {
  const Tensor& weight = *args.weight;
  const auto tokens = static_cast<int32_t>(args.x->shape[0]);
  int32_t offsets[kMostHeads + 1];
  for (int32_t h = 0; h <= weight.shape[0]; h++) offsets[h] = h * tokens;
  GemmArgs gemm = {};
  gemm.x = args.x->f32();
  gemm.offsets = offsets;
  gemm.groups = gemm.heads = weight.shape[0];
  gemm.x_stride = args.x->shape[1] / gemm.heads;
  gemm.weight = weight.as<char>();
  gemm.dtype = weight.dtype;
  gemm.k = weight.shape[2];
  gemm.panels = panel_count(weight.layout, weight.shape[1]);
  gemm.out = args.out->f32();
  gemm.columns = weight.shape[1];
  gemm.scale = 1.0f;
  gemm.activation = Activation::kNone;
  run_any_gemm(gemm, args.may_round_x, static_cast<ThreadPool&>(queue));
}
