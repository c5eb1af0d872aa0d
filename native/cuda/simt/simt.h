// The one header that kernel sources include. A kernel is compiled twice from the same text. nvcc
// compiles it for GPUs. The host's compiler does too, for tests, where its threads run as fibers.
// native/test/emulator/README.md lists the rules; the headers here hold each function's contract.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define SIMT_EMULATED 0
#include "cuda/simt/simt_cuda.h"
#else
#define SIMT_EMULATED 1
#include "test/emulator/emulator.h"
#endif
