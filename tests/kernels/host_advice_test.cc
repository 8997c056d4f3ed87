// What the operator of a CPU device is warned of.
#include "kernels/cpu/host_advice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace baram::cpu {
namespace {

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
