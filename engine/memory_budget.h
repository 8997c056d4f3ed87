// MemoryBudget: what an engine takes of a device's memory, added up before anything is loaded, and
// the operator's errors if it does not fit.
#ifndef BARAM_ENGINE_MEMORY_BUDGET_H_
#define BARAM_ENGINE_MEMORY_BUDGET_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace baram {

// The memory of a device and what an engine takes of it, known before anything is loaded.
struct MemoryBudget {
  struct Part {
    std::string name;
    int64_t bytes = 0;
  };
  std::string device;
  bool own_memory = false;   // the device's own, not the host's
  int64_t total_bytes = 0;   // of the device; of the host, what this process may use
  int64_t free_bytes = 0;    // of that, what other processes leave; 0: unknown
  int64_t usable_bytes = 0;  // what the parts may take in total
  double share = 0;          // usable / total, if gpu_memory_utilization sets it; else 0
  std::vector<Part> parts;   // the KV cache is last
};

// What all parts take in total.
int64_t PartsBytes(const MemoryBudget& budget);

// FailedPrecondition: less of a device's own memory is free than the share asks for.
absl::Status CheckFreeMemory(const MemoryBudget& budget);

// A warning if the parts may need memory of the host that other processes hold now; else empty.
std::string DescribeShortage(const MemoryBudget& budget);

// FailedPrecondition, listing every part: their total exceeds what may be used.
absl::Status CheckFits(const MemoryBudget& budget);

// "cuda:0 has 143.77 GB, of which 143.10 GB are free; up to 129.39 GB will be used: weights 16.06
// GB, ...".
std::string Describe(const MemoryBudget& budget);

// "16.06 GB", "1.5 MB".
std::string ShowBytes(int64_t bytes);

}  // namespace baram

#endif  // BARAM_ENGINE_MEMORY_BUDGET_H_
