#define MOEPP_ISA neon
#include "isa.inl.h"
