// The CPU device as a device: opening, limits read from cgroups, memory, embedding, floating-point
// mode.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_facts.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/device.h"
#include "kernels/float_types.h"
#include "tests/scarce_threads.h"

namespace {
bool large_machine = false;  // 4096 processors, of which 3, 1500 and 4095 are ours
}

// Takes the place of the C library's.
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

std::unique_ptr<Device> Open(const DeviceOptions& options, std::string* error) {
  return OpenDevice("cpu", options, error);
}

bool CpuIsUsable() { return cpu::ReadCpuFacts().best_isa != cpu::Isa::kNone; }

#ifndef __SANITIZE_ADDRESS__  // which aborts instead
TEST(CpuDevice, HasNoSlotsWithoutMemoryForThem) {
  std::vector<std::string> names = {"ref"};
  if (CpuIsUsable()) names.push_back("cpu");
  for (const std::string& name : names) {
    std::string error;
    const auto device = OpenDevice(name, {.threads = 1}, &error);
    ASSERT_NE(device, nullptr) << error;
    SlotShape shape{.slots = 40'000,  // 4 GiB of address space each
                    .groups = 1,
                    .max_pages_per_slot = 1,
                    .vocab_size = std::numeric_limits<int32_t>::max(),
                    .max_step_tokens = 1,
                    .max_step_outputs = 1};
    EXPECT_FALSE(device->ReserveSlots(shape)) << name;
    shape.vocab_size = 100;
    EXPECT_TRUE(device->ReserveSlots(shape)) << name << " still works";
  }
}
#endif

// Tests on every instruction set are for those that are found: none may be overlooked.
TEST(CpuDevice, FindsWhatTheKernelSaysTheProcessorHas) {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line) && !line.starts_with("flags")) {
  }
  const auto has = [&](std::initializer_list<const char*> flags) {
    return std::ranges::all_of(flags, [&](const char* flag) {
      return (line + " ").find(std::string(" ") + flag + " ") != std::string::npos;
    });
  };
  std::string best = "none";
  if (has({"avx2", "fma", "f16c"})) best = "avx2";
  if (has({"avx512f", "avx512dq", "avx512bw", "avx512vl"})) {
    best = "avx512";
    if (has({"avx512_bf16"}) && cpu::DotsFollowTheOrder()) best = "avx512_bf16";
    // Where the kernel gives permission, as it does for all that it lists.
    if (has({"avx512_bf16", "amx_tile", "amx_bf16"})) best = "amx";
  }
  EXPECT_EQ(best, cpu::IsaName(cpu::ReadCpuFacts().best_isa));
}

TEST(CpuDevice, SaysWhatItIs) {
  if (!CpuIsUsable()) GTEST_SKIP() << "no AVX2 here";
  std::string error;
  const auto device = Open({.threads = 3, .isa = "avx2"}, &error);
  ASSERT_NE(device, nullptr) << error;
  EXPECT_EQ(device->Info().name, "cpu");
  EXPECT_EQ(device->Info().isa, "avx2");
  EXPECT_EQ(device->Info().workers, 3);
  EXPECT_THAT(device->Info().processor, ::testing::HasSubstr("avx2, 3 threads"));
  EXPECT_EQ(device->Info().planning_depth, 1);
  EXPECT_TRUE(device->Info().exact);
  EXPECT_GT(device->Info().memory_bytes, 0);
}

TEST(CpuDevice, RefusesWhatItCannotBe) {
  std::string error;
  EXPECT_EQ(Open({.isa = "sse9"}, &error), nullptr);
  if (!CpuIsUsable()) return;
  EXPECT_EQ(error, "there is no instruction set \"sse9\"; choose avx2, avx512, avx512_bf16 or amx");
  EXPECT_EQ(Open({.threads = -1, .isa = ""}, &error), nullptr);
  EXPECT_EQ(error, "the cpu device takes 1 to 512 threads, or 0 for its own choice");
}

TEST(CpuDevice, SaysHowManyThreadsTheSystemGives) {
  if (!CpuIsUsable()) GTEST_SKIP() << "no AVX2 here";
  const int before = testing::ThreadCount();
  std::string error;
  {
    const testing::ScarceThreads scarce(5);
    EXPECT_EQ(Open({.threads = 9, .isa = ""}, &error), nullptr);
    EXPECT_EQ(error,
              "the cpu device may start 6 threads of 9: lower --threads below that, or raise the "
              "limit on threads (ulimit -u, a pod's pids) or on memory (ulimit -v)");
  }
  EXPECT_TRUE(testing::ThreadsBecome(before)) << "those that were started have ended";
  EXPECT_NE(Open({.threads = 9, .isa = ""}, &error), nullptr) << error;
}

TEST(CpuDevice, MemoryIsZeroedAlignedAndFinite) {
  if (!CpuIsUsable()) GTEST_SKIP() << "no AVX2 here";
  std::string error;
  const auto device = Open({.threads = 1, .isa = ""}, &error);
  for (const int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{100}, int64_t{5} << 20}) {
    const Buffer buffer = device->Alloc(bytes);
    ASSERT_NE(buffer.data(), nullptr);
    EXPECT_EQ(buffer.bytes(), bytes);
    const int64_t alignment = bytes < (2 << 20) ? 64 : 2 << 20;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % alignment, 0u);
    const auto* data = static_cast<const char*>(buffer.data());
    for (int64_t i = 0; i < bytes; i += 63) ASSERT_EQ(data[i], 0);
  }
  EXPECT_EQ(device->Alloc(int64_t{1} << 60).data(), nullptr);
}

TEST(CpuDevice, RestoresTheCallersFloatingPointMode) {
  if (!CpuIsUsable()) GTEST_SKIP() << "no AVX2 here";
  std::string error;
  const auto device = Open({.threads = 1, .isa = ""}, &error);
  float x[16] = {1}, out[16] = {};
  const int32_t index = 0;
  device->GatherRows(
      {DenseTensor(x, DType::kF32, 1, 16), &index, DenseTensor(out, DType::kF32, 1, 16)});
  EXPECT_EQ(out[0], 1.0f);
  volatile float tiny = 1e-38f;
  EXPECT_GT(tiny / 8, 0.0f);  // a denormal
}

TEST(CpuFacts, SeesTheProcessorsOfLargeMachines) {
  const std::vector<int32_t> own = cpu::ReadCpuFacts().processors;
  EXPECT_FALSE(own.empty());
  large_machine = true;
  const std::vector<int32_t> processors = cpu::ReadCpuFacts().processors;
  large_machine = false;
  EXPECT_THAT(processors, ::testing::ElementsAre(3, 1500, 4095));
  EXPECT_EQ(cpu::ReadCpuFacts().processors, own);
}

// A directory that looks like one of the kernel's: the mount point of cgroups, or what it says of
// NUMA nodes.
class FakeFolder {
 public:
  FakeFolder() {
    std::string pattern = ::testing::TempDir() + "kernel.XXXXXX";
    root_ = mkdtemp(pattern.data());
  }
  ~FakeFolder() { std::filesystem::remove_all(root_); }
  const std::string& root() const { return root_; }
  void Write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = root_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

 private:
  std::string root_;
};

TEST(CpuFacts, ReadsCgroupV2AndItsAncestors) {
  const FakeFolder cgroups;
  const std::string membership = "0::/pod/app\n";
  EXPECT_EQ(cpu::CgroupCpuQuota(cgroups.root(), membership), 0);
  EXPECT_EQ(cpu::CgroupMemoryLimit(cgroups.root(), membership), 0);
  cgroups.Write("/pod/app/cpu.max", "max 100000\n");
  cgroups.Write("/pod/app/memory.max", "max\n");
  EXPECT_EQ(cpu::CgroupCpuQuota(cgroups.root(), membership), 0);
  EXPECT_EQ(cpu::CgroupMemoryLimit(cgroups.root(), membership), 0);
  cgroups.Write("/pod/cpu.max", "250000 100000\n");
  cgroups.Write("/pod/memory.max", "1000000\n");
  cgroups.Write("/pod/app/memory.max", "2000000\n");
  EXPECT_EQ(cpu::CgroupCpuQuota(cgroups.root(), membership), 2.5);
  EXPECT_EQ(cpu::CgroupMemoryLimit(cgroups.root(), membership), 1000000);
}

TEST(CpuFacts, ReadsCgroupV1) {
  const FakeFolder cgroups;
  const std::string membership = "4:memory:/box\n1:cpu,cpuacct:/box\n0::/\n";
  cgroups.Write("/cpu/box/cpu.cfs_quota_us", "-1\n");
  cgroups.Write("/cpu/box/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cpu::CgroupCpuQuota(cgroups.root(), membership), 0);
  cgroups.Write("/cpu/box/cpu.cfs_quota_us", "150000\n");
  cgroups.Write("/memory/box/memory.limit_in_bytes", "3000000\n");
  EXPECT_EQ(cpu::CgroupCpuQuota(cgroups.root(), membership), 1.5);
  EXPECT_EQ(cpu::CgroupMemoryLimit(cgroups.root(), membership), 3000000);
}

// Under numactl --membind the other sockets' memory is not this process's.
TEST(CpuFacts, CountsTheMemoryOfAllowedNodesAlone) {
  const FakeFolder nodes;
  const std::vector<std::vector<uint64_t>> any = {{}, {}};
  EXPECT_EQ(cpu::NodesMemory(nodes.root() + "/none", any), 0);
  EXPECT_EQ(cpu::NodesMemory(nodes.root(), any), 0);
  for (const auto& [node, kilobytes] : {std::pair("0", "1000"), {"1", "20000"}, {"70", "300"}}) {
    nodes.Write(std::string("/node") + node + "/meminfo",
                std::string("Node ") + node + " MemFree:  7 kB\nNode " + node +
                    " MemTotal:  " + kilobytes + " kB\nNode " + node + " MemUsed:  9 kB\n");
  }
  nodes.Write("/node2/cpulist", "\n");  // without memory
  nodes.Write("/power/meminfo", "Node 9 MemTotal: 5 kB\n");
  nodes.Write("/node1x/meminfo", "Node 9 MemTotal: 5 kB\n");
  nodes.Write("/online", "0-2,70\n");
  EXPECT_EQ(cpu::NodesMemory(nodes.root(), any), 21300 * 1024);
  EXPECT_EQ(cpu::NodesMemory(nodes.root(), {{3}, {}}), 21000 * 1024);
  EXPECT_EQ(cpu::NodesMemory(nodes.root(), {{7, 64}, {2}}), 20000 * 1024);
  EXPECT_EQ(cpu::NodesMemory(nodes.root(), {{7, 64}, {5, 64}}), 1300 * 1024);
}

TEST(CpuFacts, SeesABoundNode) {
  // Of node 0 alone: on a machine with one there is nothing to see but that it is no error.
  const int64_t before = cpu::ReadCpuFacts().memory_bytes;
  const uint64_t first = 1;
  if (syscall(SYS_set_mempolicy, MPOL_BIND, &first, 64) != 0) GTEST_SKIP() << "it is not allowed";
  const int64_t bound = cpu::ReadCpuFacts().memory_bytes;
  EXPECT_EQ(syscall(SYS_set_mempolicy, MPOL_DEFAULT, nullptr, 0), 0);
  EXPECT_GT(bound, 0);
  EXPECT_LE(bound, before);
  const int64_t node = cpu::NodesMemory("/sys/devices/system/node", {{first}});
  if (node > 0) {
    EXPECT_LE(bound, node);
  }
}

}  // namespace
}  // namespace baram
