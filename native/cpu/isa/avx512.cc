#define MOEPP_ISA avx512
#include "isa.inl.h"
