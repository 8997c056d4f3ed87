// MayUseDots and MayUseAmx if both are emulated. They are called only on processors with AVX-512,
// which is all that the emulation needs.
#include "kernels/cpu/cpuid.h"

namespace baram::cpu {

bool MayUseDots(std::string*) { return true; }

bool MayUseAmx() { return true; }

}  // namespace baram::cpu
