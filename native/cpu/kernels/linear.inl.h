// LinearArgs: one group of rows, all of them.
inline void linear(const LinearArgs& args, Queue& queue) {
  const int32_t offsets[2] = {0, static_cast<int32_t>(args.x->shape[0])};
  GemmArgs gemm = {};
  gemm.x = args.x->f32();
  gemm.offsets = offsets;
  gemm.groups = 1;
  gemm.weight = args.weight->as<char>();
  gemm.dtype = args.weight->dtype;
  gemm.k = args.weight->shape[1];
  gemm.panels = panel_count(args.weight->layout, args.weight->shape[0]);
  gemm.out = args.out->f32();
  gemm.columns = args.out->shape[1];
  gemm.scale = 1.0f;
  gemm.bias = args.bias != nullptr ? args.bias->f32() : nullptr;
  gemm.activation = args.activation;
  run_any_gemm(gemm, args.may_round_x, static_cast<ThreadPool&>(queue));
}
