// Which instruction sets beyond AVX-512 this process may use. Call only on a processor with
// AVX-512.
#ifndef BARAM_KERNELS_CPU_CPU_FEATURES_H_
#define BARAM_KERNELS_CPU_CPU_FEATURES_H_

#include <string>

namespace baram::cpu {

// Whether the processor has AVX512_BF16 and follows the summation order, see Bf16DotFollowsOrder.
// If it has it but does not follow the order, `problem` says so.
bool HasAvx512Bf16(std::string* problem);
// Whether it has AMX-BF16 and AVX512_BF16, and this process may use AMX; requests permission from
// the kernel.
bool HasAmx();

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_CPU_FEATURES_H_
