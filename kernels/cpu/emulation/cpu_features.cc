// Both instruction sets are emulated, and AVX-512, which the emulation needs, is there.
#include "kernels/cpu/cpu_features.h"

namespace baram::cpu {

bool HasAvx512Bf16(std::string*) { return true; }

bool HasAmx() { return true; }

}  // namespace baram::cpu
