#pragma once

#include <tuple>

#include "cuda/simt/emu/scheduler.h"

namespace simt {

struct Launch {
  dim3 grid, block;
  size_t smem_bytes = 0;
  Stream stream = nullptr;
  bool programmatic = false;
};

// Runs the kernel before it returns.
template <class... Parameters, class... Arguments>
Error launch(void (*kernel)(Parameters...), const Launch& how, Arguments&&... arguments) {
  if (how.grid.x == 0 || how.grid.y == 0 || how.grid.z == 0) return kSuccess;
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  } call = {kernel, std::tuple<Parameters...>(static_cast<Parameters>(arguments)...)};
  const auto entry = [](void* p) {
    auto* c = static_cast<Call*>(p);
    std::apply(c->kernel, c->arguments);
  };
  return static_cast<Error>(emu::run(how.grid, how.block, how.smem_bytes, entry, &call));
}

inline const char* error_text(Error error) {
  return error == kSuccess ? "no error" : emu::last_failure().c_str();
}

}  // namespace simt
