#define MOEPP_ISA neoni8mm
#define MOEPP_BASE neondot
#include "int8.inl.h"
