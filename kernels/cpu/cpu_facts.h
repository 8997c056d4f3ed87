// The processor: its model and its instruction sets.
#ifndef BARAM_KERNELS_CPU_CPU_FACTS_H_
#define BARAM_KERNELS_CPU_CPU_FACTS_H_

#include <cstdint>
#include <optional>
#include <string>

namespace baram::cpu {

enum class Isa : uint8_t { kNone, kAvx2, kAvx512, kAvx512Bf16, kAmx };

// "avx2", "avx512", "avx512_bf16", "amx".
const char* IsaName(Isa isa);

struct CpuFacts {
  // The best that may be used; each includes those before it, except AVX512_BF16 with a
  // bf16_problem.
  Isa best_isa = Isa::kNone;
  // The default: best_isa, or AVX-512 where AVX512_BF16 is slower, see Bf16DotIsFaster.
  Isa fastest_isa = Isa::kNone;
  // Why AVX512_BF16 may not be used though the processor has it, for the operator; or empty.
  std::string bf16_problem = {};
  std::string model = {};  // as the processor names itself
};

// Detects everything. Requests permission to use AMX tiles from the kernel, which grants it per
// process: call before starting threads that will use them. Without permission best_isa is at most
// kAvx512Bf16.
CpuFacts ReadCpuFacts();

// On a processor with AVX512_BF16: whether VDPBF16PS takes less time than the two FMAs that it
// replaces and their unpacking, measured in about 100 us. A Xeon whose AMX a virtual machine hides
// issues four FMAs in the time of one VDPBF16PS.
bool Bf16DotIsFaster();
// CpuFacts::fastest_isa. `bf16_dot_is_faster` is called only where there is AVX512_BF16 without
// AMX.
Isa FastestIsa(Isa best, bool (*bf16_dot_is_faster)());

// The instruction set `wanted`, or the default if it is empty. If there is none, sets `error` to a
// sentence for the operator.
std::optional<Isa> ChooseIsa(const CpuFacts& facts, const std::string& wanted, std::string* error);

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_CPU_FACTS_H_
