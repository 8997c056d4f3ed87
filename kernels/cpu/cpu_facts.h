// What the processor is and which instruction sets it has.
#ifndef BARAM_KERNELS_CPU_CPU_FACTS_H_
#define BARAM_KERNELS_CPU_CPU_FACTS_H_

#include <cstdint>
#include <string>

namespace baram::cpu {

enum class Isa : uint8_t { kNone, kAvx2, kAvx512, kAvx512Bf16, kAmx };

// "avx2", "avx512", "avx512_bf16", "amx".
const char* IsaName(Isa isa);

struct CpuFacts {
  // Each includes those before it. But with AMX, MayUseDots says whether AVX512_BF16 is of use too.
  Isa best_isa = Isa::kNone;
  // What to use: best_isa, but AVX-512 where AVX512_BF16 is the slower one, see DotsPay.
  Isa fastest_isa = Isa::kNone;
  std::string warning;  // for the operator, of what the processor has amiss; or empty
  std::string model;    // as the processor names itself
};

// Reads all of it. Asks the kernel for permission to use AMX tiles, which is given per process:
// call before starting threads that will use them. Without it best_isa is at most kAvx512Bf16.
CpuFacts ReadCpuFacts();

// Of a processor with AVX512_BF16: whether its VDPBF16PS takes no more time than the two FMAs that
// it stands for and their unpacking, measured in some 100 us. A Xeon issues four FMAs in its time.
bool DotsPay();
// CpuFacts::fastest_isa. `dots_pay` is called only where there is AVX512_BF16 without AMX.
Isa FastestIsa(Isa best, bool (*dots_pay)());

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_CPU_FACTS_H_
