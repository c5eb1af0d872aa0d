#define MOEPP_ISA neondot
#define MOEPP_BASE neon
#include "int8.inl.h"
