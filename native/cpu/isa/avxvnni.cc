#define MOEPP_ISA avxvnni
#define MOEPP_BASE avx2
#include "int8.inl.h"
