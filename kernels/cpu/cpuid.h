// Asking the processor what it has, and the system which registers it saves.
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

// Register state that the operating system saves, one bit a component. Needs OSXSAVE.
inline uint64_t EnabledState() {
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

constexpr bool Has(uint32_t bits, int bit) { return (bits >> bit & 1) != 0; }

// Only where AVX-512 is there:

// Whether the processor has AVX512_BF16 and adds in the order that all others follow. If it has it
// but adds otherwise, `problem` says so.
bool MayUseDots(std::string* problem);
// Whether it has AMX-BF16, and this process may use it; asks the kernel for permission.
bool MayUseAmx();

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_CPUID_H_
