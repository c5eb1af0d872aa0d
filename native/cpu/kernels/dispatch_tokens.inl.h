// Messages and copies, the same on every instruction set.
inline void dispatch_tokens(const DispatchTokensArgs& args, Queue&) {
  parallel::dispatch_tokens(args);
}
