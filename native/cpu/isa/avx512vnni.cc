#define MOEPP_ISA avx512vnni
#define MOEPP_BASE avx512
#include "int8.inl.h"
