// What the operator of a CPU device should know of its host: sentences, empty where all is well.
#ifndef BARAM_KERNELS_CPU_HOST_ADVICE_H_
#define BARAM_KERNELS_CPU_HOST_ADVICE_H_

#include <string>

#include "kernels/host_facts.h"

namespace baram::cpu {

// Why workers must not be pinned to the host's processors.
std::string PinningProblem(const HostFacts& host);

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_HOST_ADVICE_H_
