// What this process may use of the host: processors and memory, by affinity, cgroups, NUMA policies
// and limits.
#ifndef BARAM_KERNELS_HOST_FACTS_H_
#define BARAM_KERNELS_HOST_FACTS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace baram {

struct HostFacts {
  // That this process may run on: one of each core first, then the cores' other hyper-threads.
  std::vector<int32_t> processors = {};
  double cpu_quota = 0;  // of the cgroup, in processors; 0: unlimited
  // How many of the processors may compute at once, by the quota.
  int32_t processors_at_once = 1;
  // One per core, as far as the quota allows: matrix units and the memory bandwidth belong to a
  // core, and a second thread on it would only wait.
  int32_t default_threads = 1;
  int32_t nodes = 0;  // NUMA nodes with memory that the processors belong to; 0: unknown
  // The minimum of the machine's memory, the allowed NUMA nodes', the cgroup's limit and ulimit -v.
  int64_t memory_bytes = 0;
  // Of that, what the machine has free now and what this process holds already; 0: unknown.
  int64_t free_bytes = 0;
};

HostFacts ReadHostFacts();

struct ProcessorOrder {
  // One of each core first, then the cores' other hyper-threads, each part ascending.
  std::vector<int32_t> processors;
  int32_t cores = 0;
};
// `processors` must be ascending. `folder` stands for /sys/devices/system/cpu; a processor that it
// does not describe counts as a core of its own.
ProcessorOrder OrderByCore(const std::string& folder, const std::vector<int32_t>& processors);

// As many of `threads` as a CPU quota pays for, at least 1; `quota` 0: all. One more would be
// stopped in the middle of an op, and all would wait.
int32_t WithinQuota(int32_t threads, double quota);

// The smallest CPU quota of a cgroup and its ancestors, in processors; 0: unlimited. `root` is the
// mount point ("/sys/fs/cgroup"), `membership` the text of /proc/self/cgroup. Handles v1 and v2.
double CgroupCpuQuota(const std::string& root, const std::string& membership);
// The smallest memory limit in bytes; 0: unlimited.
int64_t CgroupMemoryLimit(const std::string& root, const std::string& membership);

// The value of a line such as "MemAvailable:  1024 kB" of `text`, as /proc/meminfo has them, in
// bytes; 0: there is none.
int64_t MeminfoBytes(const std::string& text, const std::string& name);

// Memory of the NUMA nodes whose bits are set in every one of `masks` (bit b of word i stands for
// node 64 * i + b; an empty mask allows all), in bytes; 0: unknown. `folder` is
// /sys/devices/system/node, or a copy for tests.
int64_t NodesMemory(const std::string& folder, const std::vector<std::vector<uint64_t>>& masks);

// How many NUMA nodes with memory `processors` belong to, by the same folder; 0: it is not known.
int32_t NodesOf(const std::string& folder, const std::vector<int32_t>& processors);

}  // namespace baram

#endif  // BARAM_KERNELS_HOST_FACTS_H_
