// Queries the processor's features and which registers the operating system saves.
#ifndef BARAM_KERNELS_CPU_CPUID_H_
#define BARAM_KERNELS_CPU_CPUID_H_

#include <cpuid.h>

#include <cstdint>

namespace baram::cpu {

struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All zero where the leaf does not exist.
inline Registers Cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

// The register state that the operating system saves, one bit per component. Requires OSXSAVE.
inline uint64_t EnabledState() {
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

constexpr bool Has(uint32_t bits, int bit) { return (bits >> bit & 1) != 0; }

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_CPUID_H_
