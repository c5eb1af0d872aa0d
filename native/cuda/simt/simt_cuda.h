// nvcc's side of simt.h: PTX instructions as functions, one topic per file. The emulation has the
// same names in native/test/emulator/. "PTX" in these files is the PTX ISA manual, version 9.0,
// followed by the section's title.
#pragma once

#include "cuda/simt/base.h"
#include "cuda/simt/warp.h"
#include "cuda/simt/memory.h"
#include "cuda/simt/copy.h"
#include "cuda/simt/mma.h"
#include "cuda/simt/mbarrier.h"
#include "cuda/simt/tma.h"
#include "cuda/simt/cluster.h"
#include "cuda/simt/wgmma.h"
#include "cuda/simt/runtime.h"
#include "cuda/simt/launch.h"
