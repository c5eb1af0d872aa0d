#define MOEPP_ISA neonbf16
#define MOEPP_BASE neoni8mm
#include "bf16.inl.h"
