// The host compiler's side of simt.h: the names of simt_cuda.h in plain C++, each CUDA thread a
// fiber. For tests alone.
#pragma once

#include "test/emulator/base.h"
#include "test/emulator/scheduler.h"
#include "test/emulator/compiled.h"
#include "test/emulator/warp.h"
#include "test/emulator/memory.h"
#include "test/emulator/copy.h"
#include "test/emulator/mma.h"
#include "test/emulator/mbarrier.h"
#include "test/emulator/tma.h"
#include "test/emulator/cluster.h"
#include "test/emulator/wgmma.h"
#include "test/emulator/runtime.h"
#include "test/emulator/launch.h"
