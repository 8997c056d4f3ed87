// Advice to the operator of a CPU device about its host: sentences, none if all is well.
#ifndef BARAM_KERNELS_CPU_HOST_ADVICE_H_
#define BARAM_KERNELS_CPU_HOST_ADVICE_H_

#include <string>
#include <vector>

#include "kernels/host_facts.h"

namespace baram::cpu {

// What slows down all computation: weights that get no huge pages, memory on other NUMA nodes.
// `huge_pages` is a folder with the contents of /sys/kernel/mm/transparent_hugepage; a missing file
// counts as no problem. `huge_pages_disabled`: for this process, as reported by prctl.
std::vector<std::string> HostAdvice(const HostFacts& host, const std::string& huge_pages,
                                    bool huge_pages_disabled);
// Likewise for this machine.
std::vector<std::string> HostAdvice(const HostFacts& host);

// Why workers must not be pinned to the host's processors; empty if they may.
std::string PinningProblem(const HostFacts& host);

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_HOST_ADVICE_H_
