// Reading affinity, cgroups, NUMA nodes and limits on Linux.
#include "kernels/host_facts.h"

#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <system_error>
#include <unordered_set>
#include <utility>

namespace baram {
namespace {

constexpr size_t kMaxNodes = 4096;             // NUMA nodes; Linux has at most 1024
constexpr size_t kMaxWords = size_t{1} << 14;  // of a set of processors
constexpr size_t kMaxProcessors = 64 * kMaxWords;

// The kernel rejects a set smaller than its own, whose size it does not report: try larger ones.
std::vector<int32_t> AllowedProcessors() {
  for (size_t words = 16; words <= kMaxWords; words *= 2) {
    std::vector<uint64_t> set(words);
    const size_t bytes = words * sizeof(uint64_t);
    if (sched_getaffinity(0, bytes, reinterpret_cast<cpu_set_t*>(set.data())) != 0) {
      if (errno == EINVAL) continue;
      break;
    }
    std::vector<int32_t> processors;
    for (size_t i = 0; i < 64 * words; ++i) {
      if ((set[i / 64] >> (i % 64) & 1) != 0) processors.push_back(static_cast<int32_t>(i));
    }
    return processors;
  }
  return {0};
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// The number at the start of a file; -1: no such file, or a word such as "max".
int64_t ReadNumber(const std::string& path) {
  std::istringstream text(ReadFile(path));
  int64_t number;
  return text >> number ? number : -1;
}

// The numbers of a list such as "0-1,8", below `limit`, as bits. Stops where the text is
// not such a list.
std::vector<uint64_t> BitsOf(const std::string& list, size_t limit) {
  std::vector<uint64_t> mask;
  std::istringstream ranges(list);
  for (size_t first; ranges >> first && first < limit; ranges.ignore(1, ',')) {
    size_t last = first;
    if (ranges.peek() == '-' && !(ranges.ignore() >> last)) break;
    last = std::min(last, limit - 1);
    mask.resize(std::max(mask.size(), last / 64 + 1));
    for (size_t i = first; i <= last; ++i) mask[i / 64] |= uint64_t{1} << i % 64;
  }
  return mask;
}

bool HasBit(const std::vector<uint64_t>& mask, size_t i) {
  return i / 64 < mask.size() && (mask[i / 64] >> (i % 64) & 1) != 0;
}

// The nodes of this process's cpuset; empty if the kernel does not list them.
std::vector<uint64_t> CpusetNodes() {
  constexpr char kName[] = "Mems_allowed_list:";
  std::istringstream lines(ReadFile("/proc/self/status"));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(kName)) return BitsOf(line.substr(std::strlen(kName)), kMaxNodes);
  }
  return {};
}

// The first of the processors that share this one's core, "0,64" or "0-1"; the processor itself if
// the kernel does not say. Offline ones are not listed.
int32_t FirstOfCore(const std::string& folder, int32_t processor) {
  const std::string topology = folder + "/cpu" + std::to_string(processor) + "/topology/";
  for (const char* const name : {"thread_siblings_list", "core_cpus_list"}) {
    // Lists are ascending.
    if (const int64_t first = ReadNumber(topology + name); first >= 0 && first <= processor) {
      return static_cast<int32_t>(first);
    }
  }
  return processor;
}

// The nodes this process is bound to, as by numactl --membind; empty if it is not bound, or where a
// container forbids the call. Other policies only prefer nodes and fall back on the rest.
std::vector<uint64_t> BoundNodes() {
  std::vector<uint64_t> mask(kMaxNodes / 64);
  int mode = 0;
  if (syscall(SYS_get_mempolicy, &mode, mask.data(), kMaxNodes, nullptr, 0) != 0) return {};
  if ((mode & ~MPOL_MODE_FLAGS) != MPOL_BIND) return {};
  return mask;
}

// "Node 1 MemTotal:       131916288 kB", in bytes; 0: no such line.
// Lines of a node's meminfo begin with "Node 0 ".
int64_t TotalOfNode(const std::string& path) { return MeminfoBytes(ReadFile(path), "MemTotal:"); }

// A directory "node<number>".
struct Node {
  size_t number;
  std::filesystem::path path;
};

std::vector<Node> NodesIn(const std::string& folder) {
  constexpr char kNode[] = "node";
  std::vector<Node> nodes;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename();
    size_t number = 0;
    if (!name.starts_with(kNode)) continue;
    const char* const digits = name.c_str() + std::strlen(kNode);
    const auto [end, failed] = std::from_chars(digits, name.c_str() + name.size(), number);
    if (failed == std::errc() && *end == '\0') nodes.push_back({number, entry.path()});
  }
  return nodes;
}

// The directories whose limits apply to a member of a cgroup hierarchy: its own, then its
// ancestors'. In a container the path may name directories outside the mount; the mount point is
// then the member's own.
std::vector<std::string> CgroupDirectories(const std::string& mount, std::string path) {
  std::vector<std::string> directories;
  while (!path.empty() && path != "/") {
    directories.push_back(mount + path);
    path.resize(path.rfind('/'));
  }
  directories.push_back(mount);
  return directories;
}

// Where a controller keeps its files for this process. A line of the membership is
// "id:controllers:path"; v2 has id 0 and no controllers.
struct Hierarchy {
  bool v2 = false;
  std::vector<std::string> directories;
};

std::vector<Hierarchy> HierarchiesOf(const std::string& root, const std::string& membership,
                                     const std::string& controller) {
  std::vector<Hierarchy> found;
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      found.push_back({true, CgroupDirectories(root, path)});
    } else if (("," + controllers + ",").find("," + controller + ",") != std::string::npos) {
      found.push_back({false, CgroupDirectories(root + "/" + controller, path)});
    }
  }
  return found;
}

int64_t MachineMemory() { return int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE); }

}  // namespace

int64_t MeminfoBytes(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t at = line.find(name);
    int64_t kilobytes = 0;
    if (at == std::string::npos) continue;
    if (std::istringstream(line.substr(at + name.size())) >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

ProcessorOrder OrderByCore(const std::string& folder, const std::vector<int32_t>& processors) {
  ProcessorOrder order;
  std::vector<int32_t> siblings;
  std::unordered_set<int32_t> cores;
  for (const int32_t processor : processors) {
    const bool first = cores.insert(FirstOfCore(folder, processor)).second;
    (first ? order.processors : siblings).push_back(processor);
  }
  order.cores = static_cast<int32_t>(cores.size());
  order.processors.insert(order.processors.end(), siblings.begin(), siblings.end());
  return order;
}

int32_t WithinQuota(int32_t threads, double quota) {
  if (quota <= 0) return threads;
  return static_cast<int32_t>(std::clamp(std::floor(quota), 1.0, static_cast<double>(threads)));
}

double CgroupCpuQuota(const std::string& root, const std::string& membership) {
  double smallest = 0;
  for (const Hierarchy& hierarchy : HierarchiesOf(root, membership, "cpu")) {
    for (const std::string& directory : hierarchy.directories) {
      double quota = -1, period = 0;  // microseconds
      if (hierarchy.v2) {
        std::istringstream text(ReadFile(directory + "/cpu.max"));
        if (!(text >> quota >> period)) continue;  // "max 100000": no limit
      } else {
        quota = static_cast<double>(ReadNumber(directory + "/cpu.cfs_quota_us"));
        period = static_cast<double>(ReadNumber(directory + "/cpu.cfs_period_us"));
      }
      if (quota <= 0 || period <= 0) continue;
      smallest = smallest == 0 ? quota / period : std::min(smallest, quota / period);
    }
  }
  return smallest;
}

int64_t CgroupMemoryLimit(const std::string& root, const std::string& membership) {
  int64_t smallest = 0;
  for (const Hierarchy& hierarchy : HierarchiesOf(root, membership, "memory")) {
    for (const std::string& directory : hierarchy.directories) {
      const int64_t limit =
          ReadNumber(directory + (hierarchy.v2 ? "/memory.max" : "/memory.limit_in_bytes"));
      if (limit > 0) smallest = smallest == 0 ? limit : std::min(smallest, limit);
    }
  }
  return smallest;
}

int64_t NodesMemory(const std::string& folder, const std::vector<std::vector<uint64_t>>& masks) {
  int64_t bytes = 0;
  for (const Node& node : NodesIn(folder)) {
    const bool allowed = std::ranges::all_of(masks, [&](const std::vector<uint64_t>& mask) {
      return mask.empty() || HasBit(mask, node.number);
    });
    if (allowed) bytes += TotalOfNode(node.path / "meminfo");
  }
  return bytes;
}

int32_t NodesOf(const std::string& folder, const std::vector<int32_t>& processors) {
  int32_t nodes = 0;
  for (const Node& node : NodesIn(folder)) {
    if (TotalOfNode(node.path / "meminfo") == 0) continue;
    const std::vector<uint64_t> own = BitsOf(ReadFile(node.path / "cpulist"), kMaxProcessors);
    const auto is_own = [&own](int32_t processor) { return HasBit(own, processor); };
    if (std::ranges::any_of(processors, is_own)) ++nodes;
  }
  return nodes;
}

HostFacts ReadHostFacts() {
  HostFacts facts;
  ProcessorOrder order = OrderByCore("/sys/devices/system/cpu", AllowedProcessors());
  facts.processors = std::move(order.processors);
  const std::string root = "/sys/fs/cgroup";
  const std::string membership = ReadFile("/proc/self/cgroup");
  facts.cpu_quota = CgroupCpuQuota(root, membership);
  facts.processors_at_once =
      WithinQuota(static_cast<int32_t>(facts.processors.size()), facts.cpu_quota);
  facts.default_threads = WithinQuota(order.cores, facts.cpu_quota);
  const std::string nodes_folder = "/sys/devices/system/node";
  facts.nodes = NodesOf(nodes_folder, facts.processors);
  facts.memory_bytes = MachineMemory();
  if (const int64_t nodes = NodesMemory(nodes_folder, {CpusetNodes(), BoundNodes()}); nodes > 0) {
    facts.memory_bytes = std::min(facts.memory_bytes, nodes);
  }
  if (const int64_t limit = CgroupMemoryLimit(root, membership); limit > 0) {
    facts.memory_bytes = std::min(facts.memory_bytes, limit);
  }
  rlimit limit{};  // ulimit -v
  if (getrlimit(RLIMIT_AS, &limit) == 0) {
    facts.memory_bytes = static_cast<int64_t>(
        std::min<uint64_t>(limit.rlim_cur, static_cast<uint64_t>(facts.memory_bytes)));
  }
  if (const int64_t available = MeminfoBytes(ReadFile("/proc/meminfo"), "MemAvailable:");
      available > 0) {
    const int64_t own = MeminfoBytes(ReadFile("/proc/self/status"), "VmRSS:");
    facts.free_bytes = std::min(facts.memory_bytes, available + own);
  }
  return facts;
}

}  // namespace baram
