// The processor: its model and its instruction sets.
#ifndef BARAM_KERNELS_CPU_CPU_FACTS_H_
#define BARAM_KERNELS_CPU_CPU_FACTS_H_

#include <cstdint>
#include <string>

namespace baram::cpu {

enum class Isa : uint8_t { kNone, kAvx2, kAvx512, kAvx512Bf16, kAmx };

// "avx2", "avx512", "avx512_bf16", "amx".
const char* IsaName(Isa isa);

struct CpuFacts {
  // The best that may be used; each includes those before it, except that with AMX, AVX512_BF16 is
  // usable only if MayUseDots says so.
  Isa best_isa = Isa::kNone;
  // The default: best_isa, or AVX-512 where AVX512_BF16 is slower, see DotsPay.
  Isa fastest_isa = Isa::kNone;
  std::string warning;  // for the operator, about a defect of the processor; or empty
  std::string model;    // as the processor names itself
};

// Detects everything. Requests permission to use AMX tiles from the kernel, which grants it per
// process: call before starting threads that will use them. Without permission best_isa is at most
// kAvx512Bf16.
CpuFacts ReadCpuFacts();

// On a processor with AVX512_BF16: whether VDPBF16PS takes less time than the two FMAs that it
// replaces and their unpacking, measured in about 100 us. A Xeon issues four FMAs in the time of
// one VDPBF16PS.
bool DotsPay();
// CpuFacts::fastest_isa. `dots_pay` is called only where there is AVX512_BF16 without AMX.
Isa FastestIsa(Isa best, bool (*dots_pay)());

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_CPU_FACTS_H_
