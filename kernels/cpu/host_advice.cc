// The checks of the host, and the sentences about them.
#include "kernels/cpu/host_advice.h"

#include <sys/prctl.h>

#include <fstream>

namespace baram::cpu {
namespace {

// The selected word in a file such as "always [madvise] never"; empty if there is no such file.
std::string ChosenIn(const std::string& path) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    if (word.starts_with('[') && word.ends_with(']')) return word.substr(1, word.size() - 2);
  }
  return "";
}

// The file that keeps memory which requests huge pages of 2 MiB from getting any; empty if there is
// none. Newer kernels have a setting per page size, which may inherit the global one.
std::string ForbidsHugePages(const std::string& folder) {
  std::string file = folder + "/hugepages-2048kB/enabled";
  const std::string chosen = ChosenIn(file);
  if (chosen.empty() || chosen == "inherit") file = folder + "/enabled";
  return ChosenIn(file) == "never" ? file : "";
}

// Weights are streamed, and every 4 KiB page takes its own TLB entry.
constexpr char kSlowReading[] = "weights are then read through pages of 4 KiB, which is slower";

}  // namespace

std::vector<std::string> HostAdvice(const HostFacts& host, const std::string& huge_pages,
                                    bool huge_pages_disabled) {
  std::vector<std::string> advice;
  if (const std::string file = ForbidsHugePages(huge_pages); !file.empty()) {
    advice.push_back("transparent huge pages are off on this machine, and " +
                     std::string(kSlowReading) + ": write madvise to " + file);
  } else if (huge_pages_disabled) {
    advice.push_back("transparent huge pages are off for this process (PR_SET_THP_DISABLE), and " +
                     std::string(kSlowReading) + ": start it without");
  }
  if (host.nodes > 1) {
    advice.push_back(
        "the CPUs of this process belong to " + std::to_string(host.nodes) +
        " NUMA nodes, and reading another node's memory is slower: run one "
        "process per node, each under numactl --cpunodebind=N --membind=N or in a cpuset of that "
        "node's CPUs and memory");
  }
  return advice;
}

std::vector<std::string> HostAdvice(const HostFacts& host) {
  // 3 means disabled except for memory that requests them, as ours does.
  const bool disabled = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1;
  return HostAdvice(host, "/sys/kernel/mm/transparent_hugepage", disabled);
}

std::string PinningProblem(const HostFacts& host) {
  const auto processors = static_cast<int32_t>(host.processors.size());
  if (host.cpu_quota <= 0 || host.cpu_quota >= processors) return "";
  return "threads are not pinned: the CPU quota pays for " +
         std::to_string(host.processors_at_once) + " of the " + std::to_string(processors) +
         " CPUs that this process may run on, and every process with such a quota would pin its "
         "threads to the same ones; give it a cpuset of its own, or leave --pin-threads out";
}

}  // namespace baram::cpu
