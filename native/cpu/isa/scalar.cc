#define MOEPP_ISA scalar
#include "isa.inl.h"
