// The host compiler's side of simt.h: the names of simt_cuda.h in plain C++, each CUDA thread a
// fiber. For tests alone.
#pragma once

#include "cuda/simt/emu/base.h"
#include "cuda/simt/emu/scheduler.h"
#include "cuda/simt/emu/compiled.h"
#include "cuda/simt/emu/warp.h"
#include "cuda/simt/emu/memory.h"
#include "cuda/simt/emu/copy.h"
#include "cuda/simt/emu/mma.h"
#include "cuda/simt/emu/mbarrier.h"
#include "cuda/simt/emu/tma.h"
#include "cuda/simt/emu/wgmma.h"
#include "cuda/simt/emu/runtime.h"
#include "cuda/simt/emu/launch.h"
