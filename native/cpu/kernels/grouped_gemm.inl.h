// GroupedGemmArgs: the rows of each expert are one group; the gather of x happens where a
// tile reads or packs its rows.
inline void grouped_gemm(const GroupedGemmArgs& args, Queue& queue) {
  const Tensor& weight = *args.weight;
  const bool swiglu = args.activation == Activation::kSwiglu;
  GemmArgs gemm = {};
  gemm.x = args.x->f32();
  gemm.order = args.token_order != nullptr ? args.token_order->i32() : nullptr;
  gemm.picks_per_row = args.token_order != nullptr ? args.token_order->shape[1] : 1;
  gemm.offsets = args.expert_offsets->i32();
  gemm.groups = weight.shape[0];
  gemm.weight = weight.as<char>();
  gemm.dtype = weight.dtype;
  gemm.k = weight.shape[2];
  gemm.panels = panel_count(weight.layout, weight.shape[1]);
  gemm.out = args.out->f32();
  gemm.columns = swiglu ? weight.shape[1] / 2 : weight.shape[1];
  gemm.scale = args.input_scale;
  gemm.activation = args.activation;
  run_any_gemm(gemm, args.may_round_x, static_cast<ThreadPool&>(queue));
}
