// Queries the processor's features and which registers the operating system saves.
#ifndef BARAM_KERNELS_CPU_CPUID_H_
#define BARAM_KERNELS_CPU_CPUID_H_

#include <cpuid.h>

#include <cstdint>
#include <string>

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

// Call the following only if the processor has AVX-512.

// Whether the processor has AVX512_BF16 and adds in the common order, see DotsFollowTheOrder. If it
// has it but adds differently, `problem` says so.
bool MayUseDots(std::string* problem);
// Whether it has AMX-BF16 and AVX512_BF16, and this process may use AMX; requests permission from
// the kernel.
bool MayUseAmx();

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_CPUID_H_
