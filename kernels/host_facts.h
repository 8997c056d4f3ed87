// What this process may use of the host: processors and memory, by affinity, cgroups, NUMA policies
// and limits.
#ifndef BARAM_KERNELS_HOST_FACTS_H_
#define BARAM_KERNELS_HOST_FACTS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace baram {

struct HostFacts {
  std::vector<int32_t> processors;  // that this process may run on
  int32_t default_threads = 1;      // from the processors and the cgroup's quota
  double cpu_quota = 0;             // of the cgroup, in processors; 0: unlimited
  // The minimum of the machine's memory, the allowed NUMA nodes', the cgroup's limit and ulimit -v.
  int64_t memory_bytes = 0;
};

HostFacts ReadHostFacts();

// The smallest CPU quota of a cgroup and its ancestors, in processors; 0: unlimited. `root` is the
// mount point ("/sys/fs/cgroup"), `membership` the text of /proc/self/cgroup. Handles v1 and v2.
double CgroupCpuQuota(const std::string& root, const std::string& membership);
// The smallest memory limit in bytes; 0: unlimited.
int64_t CgroupMemoryLimit(const std::string& root, const std::string& membership);

// Memory of the NUMA nodes whose bits are set in every one of `masks` (bit b of word i stands for
// node 64 * i + b; an empty mask allows all), in bytes; 0: unknown. `folder` is
// /sys/devices/system/node, or a copy for tests.
int64_t NodesMemory(const std::string& folder, const std::vector<std::vector<uint64_t>>& masks);

}  // namespace baram

#endif  // BARAM_KERNELS_HOST_FACTS_H_
