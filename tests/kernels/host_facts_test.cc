// What the process may use of its host: processors, quotas, memory.
#include "kernels/host_facts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_facts.h"
#include "kernels/device.h"
#include "tests/kernels/fake_folder.h"

namespace {
bool large_machine = false;  // 4096 processors, of which 3, 1500 and 4095 are ours
}

// Replaces the C library's.
extern "C" int sched_getaffinity(pid_t pid, size_t bytes, cpu_set_t* set) noexcept {
  if (!large_machine) {
    const long written = syscall(SYS_sched_getaffinity, pid, bytes, set);
    if (written < 0) return -1;
    std::memset(reinterpret_cast<char*>(set) + written, 0, bytes - written);
    return 0;
  }
  if (bytes < 4096 / 8) {
    errno = EINVAL;
    return -1;
  }
  CPU_ZERO_S(bytes, set);
  for (const int processor : {3, 1500, 4095}) CPU_SET_S(processor, bytes, set);
  return 0;
}

namespace baram {
namespace {

using testing::FakeFolder;

TEST(HostFacts, SeesTheProcessorsOfLargeMachines) {
  const std::vector<int32_t> own = ReadHostFacts().processors;
  EXPECT_FALSE(own.empty());
  large_machine = true;
  const std::vector<int32_t> processors = ReadHostFacts().processors;
  large_machine = false;
  EXPECT_THAT(processors, ::testing::ElementsAre(3, 1500, 4095));
  EXPECT_EQ(ReadHostFacts().processors, own);
}

TEST(HostFacts, CountsCoresAndListsOneProcessorOfEachFirst) {
  using ::testing::ElementsAre;
  const FakeFolder folder;
  EXPECT_THAT(OrderByCore(folder.root(), {0, 1, 5}).processors, ElementsAre(0, 1, 5));
  EXPECT_EQ(OrderByCore(folder.root(), {0, 1, 5}).cores, 3) << "nothing is known";

  const auto siblings = [&](int processor, const std::string& list, const std::string& name) {
    folder.Write("/cpu" + std::to_string(processor) + "/topology/" + name, list + "\n");
  };
  for (const int processor : {0, 1, 2}) {
    const std::string list = std::to_string(processor) + "," + std::to_string(processor + 64);
    siblings(processor, list, "thread_siblings_list");
    siblings(processor + 64, list, "thread_siblings_list");
  }
  ProcessorOrder order = OrderByCore(folder.root(), {0, 1, 2, 64, 65, 66});
  EXPECT_THAT(order.processors, ElementsAre(0, 1, 2, 64, 65, 66));
  EXPECT_EQ(order.cores, 3);
  order = OrderByCore(folder.root(), {1, 2, 64, 65});
  EXPECT_THAT(order.processors, ElementsAre(1, 2, 64, 65)) << "the first of a core is not ours";
  EXPECT_EQ(order.cores, 3);

  // Neighbours, by the newer name; of the second core one is offline, and of the last one the
  // kernel says nothing that could be read.
  for (const int processor : {10, 11}) siblings(processor, "10-11", "core_cpus_list");
  siblings(13, "13", "core_cpus_list");
  for (const int processor : {14, 15}) siblings(processor, "14-15", "core_cpus_list");
  for (const int processor : {16, 17}) siblings(processor, "", "core_cpus_list");
  order = OrderByCore(folder.root(), {10, 11, 13, 14, 15, 16, 17});
  EXPECT_THAT(order.processors, ElementsAre(10, 13, 14, 16, 17, 11, 15));
  EXPECT_EQ(order.cores, 5);
}

TEST(HostFacts, TakesAThreadForEachCore) {
  const HostFacts facts = ReadHostFacts();
  const ProcessorOrder order = OrderByCore("/sys/devices/system/cpu", facts.processors);
  EXPECT_GE(facts.default_threads, 1);
  EXPECT_LE(facts.default_threads, order.cores);
  EXPECT_LE(facts.default_threads, facts.processors_at_once);
  if (facts.cpu_quota > 0) return;
  EXPECT_EQ(facts.default_threads, order.cores);
  EXPECT_EQ(facts.processors_at_once, static_cast<int32_t>(facts.processors.size()));
}

TEST(HostFacts, TakesNoMoreThreadsThanTheQuotaPaysFor) {
  EXPECT_EQ(WithinQuota(8, 0), 8) << "no quota";
  EXPECT_EQ(WithinQuota(8, 8.5), 8);
  EXPECT_EQ(WithinQuota(8, 3.9), 3);
  EXPECT_EQ(WithinQuota(8, 0.5), 1);
}

TEST(HostFacts, ReadsCgroupV2AndItsAncestors) {
  const FakeFolder cgroups;
  const std::string membership = "0::/pod/app\n";
  EXPECT_EQ(CgroupCpuQuota(cgroups.root(), membership), 0);
  EXPECT_EQ(CgroupMemoryLimit(cgroups.root(), membership), 0);
  cgroups.Write("/pod/app/cpu.max", "max 100000\n");
  cgroups.Write("/pod/app/memory.max", "max\n");
  EXPECT_EQ(CgroupCpuQuota(cgroups.root(), membership), 0);
  EXPECT_EQ(CgroupMemoryLimit(cgroups.root(), membership), 0);
  cgroups.Write("/pod/cpu.max", "250000 100000\n");
  cgroups.Write("/pod/memory.max", "1000000\n");
  cgroups.Write("/pod/app/memory.max", "2000000\n");
  EXPECT_EQ(CgroupCpuQuota(cgroups.root(), membership), 2.5);
  EXPECT_EQ(CgroupMemoryLimit(cgroups.root(), membership), 1000000);
}

TEST(HostFacts, ReadsCgroupV1) {
  const FakeFolder cgroups;
  const std::string membership = "4:memory:/box\n1:cpu,cpuacct:/box\n0::/\n";
  cgroups.Write("/cpu/box/cpu.cfs_quota_us", "-1\n");
  cgroups.Write("/cpu/box/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(CgroupCpuQuota(cgroups.root(), membership), 0);
  cgroups.Write("/cpu/box/cpu.cfs_quota_us", "150000\n");
  cgroups.Write("/memory/box/memory.limit_in_bytes", "3000000\n");
  EXPECT_EQ(CgroupCpuQuota(cgroups.root(), membership), 1.5);
  EXPECT_EQ(CgroupMemoryLimit(cgroups.root(), membership), 3000000);
}

// Under numactl --membind the other sockets' memory is not available to this process.
TEST(HostFacts, CountsTheMemoryOfAllowedNodesAlone) {
  const FakeFolder nodes;
  const std::vector<std::vector<uint64_t>> any = {{}, {}};
  EXPECT_EQ(NodesMemory(nodes.root() + "/none", any), 0);
  EXPECT_EQ(NodesMemory(nodes.root(), any), 0);
  for (const auto& [node, kilobytes] : {std::pair("0", "1000"), {"1", "20000"}, {"70", "300"}}) {
    nodes.Write(std::string("/node") + node + "/meminfo",
                std::string("Node ") + node + " MemFree:  7 kB\nNode " + node +
                    " MemTotal:  " + kilobytes + " kB\nNode " + node + " MemUsed:  9 kB\n");
  }
  nodes.Write("/node2/cpulist", "\n");  // without memory
  nodes.Write("/power/meminfo", "Node 9 MemTotal: 5 kB\n");
  nodes.Write("/node1x/meminfo", "Node 9 MemTotal: 5 kB\n");
  nodes.Write("/online", "0-2,70\n");
  EXPECT_EQ(NodesMemory(nodes.root(), any), 21300 * 1024);
  EXPECT_EQ(NodesMemory(nodes.root(), {{3}, {}}), 21000 * 1024);
  EXPECT_EQ(NodesMemory(nodes.root(), {{7, 64}, {2}}), 20000 * 1024);
  EXPECT_EQ(NodesMemory(nodes.root(), {{7, 64}, {5, 64}}), 1300 * 1024);
}

TEST(HostFacts, CountsTheNodesOfItsProcessors) {
  const FakeFolder nodes;
  EXPECT_EQ(NodesOf(nodes.root() + "/none", {0}), 0);
  const auto node = [&](const std::string& name, const std::string& processors, int kilobytes) {
    nodes.Write(name + "/cpulist", processors + "\n");
    nodes.Write(name + "/meminfo",
                "Node 0 MemTotal:  " + std::to_string(kilobytes) + " kB\nNode 0 MemFree: 1 kB\n");
  };
  node("/node0", "0-31,64-95", 1000);
  node("/node1", "32-63,96-127", 1000);
  node("/node2", "128", 0);  // processors alone
  node("/node3", "", 1000);  // memory alone
  EXPECT_EQ(NodesOf(nodes.root(), {0, 31, 95}), 1);
  EXPECT_EQ(NodesOf(nodes.root(), {0, 32}), 2);
  EXPECT_EQ(NodesOf(nodes.root(), {0, 128}), 1);
  EXPECT_EQ(NodesOf(nodes.root(), {127}), 1);
  EXPECT_EQ(NodesOf(nodes.root(), {129}), 0);
}

TEST(HostFacts, ReadsWhatIsFree) {
  const std::string text = "MemTotal:       16000 kB\nMemFree:  10 kB\nMemAvailable:   7000 kB\n";
  EXPECT_EQ(MeminfoBytes(text, "MemAvailable:"), 7000 * 1024);
  EXPECT_EQ(MeminfoBytes("Node 0 MemTotal:  5 kB\n", "MemTotal:"), 5 * 1024);
  EXPECT_EQ(MeminfoBytes(text, "Absent:"), 0);
  const HostFacts facts = ReadHostFacts();
  EXPECT_GT(facts.free_bytes, 0);
  EXPECT_LE(facts.free_bytes, facts.memory_bytes);
}

TEST(HostFacts, SeesABoundNode) {
  // Of node 0 alone: on a single-node machine this only shows that it is no error.
  const int64_t before = ReadHostFacts().memory_bytes;
  const uint64_t first = 1;
  if (syscall(SYS_set_mempolicy, MPOL_BIND, &first, 64) != 0) GTEST_SKIP() << "it is not allowed";
  const int64_t bound = ReadHostFacts().memory_bytes;
  EXPECT_EQ(syscall(SYS_set_mempolicy, MPOL_DEFAULT, nullptr, 0), 0);
  EXPECT_GT(bound, 0);
  EXPECT_LE(bound, before);
  const int64_t node = NodesMemory("/sys/devices/system/node", {{first}});
  if (node > 0) {
    EXPECT_LE(bound, node);
  }
}

#ifndef __SANITIZE_ADDRESS__  // which takes more address space than is left
TEST(HostFacts, EveryHostDeviceKeepsToTheLimitOfItsProcess) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  const rlimit low = {.rlim_cur = int64_t{4} << 30, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_AS, &low), 0);
  std::vector<std::string> names = {"ref"};
  if (cpu::ReadCpuFacts().best_isa != cpu::Isa::kNone) names.push_back("cpu");
  for (const std::string& name : names) {
    std::string error;
    const auto device = OpenDevice(name, {.threads = 1}, &error);
    ASSERT_NE(device, nullptr) << error;
    EXPECT_LE(device->Info().memory_bytes, int64_t{4} << 30) << name;
  }
  EXPECT_EQ(setrlimit(RLIMIT_AS, &before), 0);
}
#endif

}  // namespace
}  // namespace baram
