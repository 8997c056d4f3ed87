// The advice and its sentences.
#include "kernels/cpu/host_advice.h"

namespace baram::cpu {

std::string PinningProblem(const HostFacts& host) {
  const auto processors = static_cast<int32_t>(host.processors.size());
  if (host.cpu_quota <= 0 || host.cpu_quota >= processors) return "";
  return "threads are not pinned: the CPU quota pays for " +
         std::to_string(host.processors_at_once) + " of the " + std::to_string(processors) +
         " CPUs that this process may run on, and every process with such a quota would pin its "
         "threads to the same ones; give it a cpuset of its own, or leave --pin-threads out";
}

}  // namespace baram::cpu
