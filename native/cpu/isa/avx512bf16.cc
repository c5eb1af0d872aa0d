#define MOEPP_ISA avx512bf16
#define MOEPP_BASE avx512vnni
#include "bf16.inl.h"
