// nvcc's side of simt.h: PTX instructions as functions, one topic per file. The emulation has the
// same names in emu/. "PTX" in these files is the PTX ISA manual, version 9.0, followed by the
// section's title.
#pragma once

#include "cuda/simt/cuda/base.h"
#include "cuda/simt/cuda/warp.h"
#include "cuda/simt/cuda/memory.h"
#include "cuda/simt/cuda/copy.h"
#include "cuda/simt/cuda/mma.h"
#include "cuda/simt/cuda/mbarrier.h"
#include "cuda/simt/cuda/tma.h"
#include "cuda/simt/cuda/wgmma.h"
#include "cuda/simt/cuda/runtime.h"
#include "cuda/simt/cuda/launch.h"
