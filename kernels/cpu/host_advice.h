// What the operator of a CPU device should know of its host: sentences, none where all is well.
#ifndef BARAM_KERNELS_CPU_HOST_ADVICE_H_
#define BARAM_KERNELS_CPU_HOST_ADVICE_H_

#include <string>
#include <vector>

#include "kernels/host_facts.h"

namespace baram::cpu {

// What makes all of it slower: huge pages that weights do not get, memory of other NUMA nodes.
// `huge_pages` has what /sys/kernel/mm/transparent_hugepage has; what is not there is not known to
// be amiss. `huge_pages_disabled`: for this process, as prctl says.
std::vector<std::string> HostAdvice(const HostFacts& host, const std::string& huge_pages,
                                    bool huge_pages_disabled);
// The same of this machine.
std::vector<std::string> HostAdvice(const HostFacts& host);

// Why workers must not be pinned to the host's processors; empty: they may.
std::string PinningProblem(const HostFacts& host);

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_HOST_ADVICE_H_
