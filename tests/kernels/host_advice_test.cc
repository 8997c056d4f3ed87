// What the operator of a CPU device is warned of.
#include "kernels/cpu/host_advice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>

#include <string>
#include <vector>

#include "kernels/cpu/cpu_facts.h"
#include "kernels/device.h"
#include "tests/kernels/fake_folder.h"

namespace baram::cpu {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(HostAdvice, SaysNothingWhereAllIsWell) {
  const testing::FakeFolder folder;
  EXPECT_THAT(HostAdvice({.nodes = 1}, folder.root(), false), IsEmpty()) << "nothing is known";
  for (const char* const enabled : {"[always] madvise never\n", "always [madvise] never\n"}) {
    folder.Write("/enabled", enabled);
    EXPECT_THAT(HostAdvice({.nodes = 1}, folder.root(), false), IsEmpty()) << enabled;
    EXPECT_THAT(HostAdvice({.nodes = 0}, folder.root(), false), IsEmpty());
  }
  folder.Write("/enabled", "always madvise [never]\n");
  folder.Write("/hugepages-2048kB/enabled", "always inherit [madvise] never\n");
  EXPECT_THAT(HostAdvice({.nodes = 1}, folder.root(), false), IsEmpty());
}

TEST(HostAdvice, MissesHugePages) {
  const testing::FakeFolder folder;
  const auto advice = [&](bool disabled) {
    return HostAdvice({.nodes = 1}, folder.root(), disabled);
  };
  const std::string machine =
      "transparent huge pages are off on this machine, and weights are then read through pages of "
      "4 KiB, which is slower: write madvise to " +
      folder.root() + "/enabled";
  folder.Write("/enabled", "always madvise [never]\n");
  EXPECT_THAT(advice(false), ElementsAre(machine));
  EXPECT_THAT(advice(true), ElementsAre(machine)) << "once";
  folder.Write("/hugepages-2048kB/enabled", "always [inherit] madvise never\n");
  EXPECT_THAT(advice(false), ElementsAre(machine));
  folder.Write("/enabled", "[always] madvise never\n");
  EXPECT_THAT(advice(false), IsEmpty());
  EXPECT_THAT(advice(true), ElementsAre(HasSubstr("off for this process (PR_SET_THP_DISABLE)")));
  folder.Write("/hugepages-2048kB/enabled", "always inherit madvise [never]\n");
  EXPECT_THAT(advice(false), ElementsAre(EndsWith("hugepages-2048kB/enabled")));
}

TEST(HostAdvice, SeesSeveralNodes) {
  const testing::FakeFolder folder;
  EXPECT_THAT(HostAdvice({.nodes = 2}, folder.root(), false),
              ElementsAre("the CPUs of this process belong to 2 NUMA nodes, and reading another "
                          "node's memory is slower: run one process per node, each under numactl "
                          "--cpunodebind=N --membind=N or in a cpuset of that node's CPUs and "
                          "memory"));
}

TEST(HostAdvice, IsGivenOnceWhenTheDeviceIsOpened) {
  const CpuFacts facts = ReadCpuFacts();
  if (facts.best_isa == Isa::kNone) GTEST_SKIP() << "no AVX2 here";
  std::vector<std::string> expected = HostAdvice(ReadHostFacts());
  if (facts.best_isa < Isa::kAmx && !facts.bf16_problem.empty()) {
    expected.insert(expected.begin(), facts.bf16_problem);
  }
  const auto warnings = [](DeviceOptions options) {
    std::vector<std::string> all;
    options.warn = [&all](const std::string& sentence) { all.push_back(sentence); };
    std::string error;
    EXPECT_NE(OpenDevice("cpu", options, &error), nullptr) << error;
    return all;
  };
  EXPECT_EQ(warnings({.threads = 1}), expected);
  // As a container's runtime may have it for its processes.
  ASSERT_EQ(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
  const std::vector<std::string> disabled = warnings({.threads = 1});
  ASSERT_EQ(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), 0);
  EXPECT_THAT(disabled, ::testing::Contains(HasSubstr("transparent huge pages are off")).Times(1));
}

TEST(HostAdvice, PinsWhereTheProcessorsAreItsOwn) {
  HostFacts host{.processors = {0, 1, 2, 3}, .processors_at_once = 4};
  EXPECT_EQ(PinningProblem(host), "") << "no quota";
  host.cpu_quota = 4;
  EXPECT_EQ(PinningProblem(host), "") << "a pod with whole CPUs has a cpuset of as many";
  host.cpu_quota = 2.5;
  host.processors_at_once = 2;
  EXPECT_EQ(PinningProblem(host),
            "threads are not pinned: the CPU quota pays for 2 of the 4 CPUs that this process may "
            "run on, and every process with such a quota would pin its threads to the same ones; "
            "give it a cpuset of its own, or leave --pin-threads out");
}

}  // namespace
}  // namespace baram::cpu
