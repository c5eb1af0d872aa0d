// The kernels that were launched, for scripts/kernel-coverage.mjs: MOEPP_LAUNCHED_KERNELS names the
// file to write when the program ends. Its lines are addresses: that of launched(), by which the
// script knows where the program was loaded, then those of the kernels.
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>

#include "test/emulator/launches.h"

namespace simt::emu {

namespace {

struct Launches {
  const char* path = std::getenv("MOEPP_LAUNCHED_KERNELS");
  std::mutex mutex;
  std::set<uintptr_t> kernels;

  ~Launches() {
    if (path == nullptr) return;
    std::FILE* file = std::fopen(path, "w");
    if (file == nullptr) {
      std::perror(path);
      std::_Exit(1);
    }
    std::fprintf(file, "%" PRIxPTR "\n", reinterpret_cast<uintptr_t>(&launched));
    for (const uintptr_t kernel : kernels) std::fprintf(file, "%" PRIxPTR "\n", kernel);
    std::fclose(file);
  }
};

}  // namespace

void launched(Kernel kernel) {
  static Launches launches;
  if (launches.path == nullptr) return;
  const std::lock_guard<std::mutex> lock(launches.mutex);
  launches.kernels.insert(reinterpret_cast<uintptr_t>(kernel));
}

}  // namespace simt::emu
