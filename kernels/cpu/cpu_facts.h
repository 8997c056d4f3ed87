// What this process may use of the machine: instruction sets, processors, memory.
#ifndef BARAM_KERNELS_CPU_CPU_FACTS_H_
#define BARAM_KERNELS_CPU_CPU_FACTS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace baram::cpu {

enum class Isa : uint8_t { kNone, kAvx2, kAvx512, kAvx512Bf16, kAmx };

// "avx2", "avx512", "avx512_bf16", "amx".
const char* IsaName(Isa isa);

struct CpuFacts {
  // Each includes those before it. But with AMX, MayUseDots says whether AVX512_BF16 is of use too.
  Isa best_isa = Isa::kNone;
  std::string warning;              // for the operator, of what the processor has amiss; or empty
  std::string model;                // as the processor names itself
  std::vector<int32_t> processors;  // that this process may run on
  int32_t default_threads = 1;      // from the processors and the cgroup's quota
  // The least of what the allowed NUMA nodes have, the cgroup's limit and ulimit -v.
  int64_t memory_bytes = 0;
};

// Reads all of it. Asks the kernel for permission to use AMX tiles, which is given per process:
// call before starting threads that will use them. Without it best_isa is at most kAvx512Bf16.
CpuFacts ReadCpuFacts();

// The smallest CPU quota of a cgroup and its ancestors, in processors; 0: unlimited. `root` is the
// mount point ("/sys/fs/cgroup"), `membership` the text of /proc/self/cgroup. v1 and v2.
double CgroupCpuQuota(const std::string& root, const std::string& membership);
// The smallest memory limit in bytes; 0: unlimited.
int64_t CgroupMemoryLimit(const std::string& root, const std::string& membership);

// Memory of the NUMA nodes whose bits are set in every one of `masks` (bit 64 * i + b of word i: a
// node's number; an empty mask allows all), in bytes; 0: it is not known. `folder` has what
// /sys/devices/system/node has.
int64_t NodesMemory(const std::string& folder, const std::vector<std::vector<uint64_t>>& masks);

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_CPU_FACTS_H_
