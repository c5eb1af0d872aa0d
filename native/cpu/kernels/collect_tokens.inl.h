inline void collect_tokens(const CollectTokensArgs& args, Queue&) {
  parallel::collect_tokens(args);
}
