// MemoryTrim: what calls have freed goes back to the system.
#include "server/memory_trim.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <vector>

#include "server/process_metrics.h"

namespace baram::server {
namespace {

TEST(MemoryTrimTest, ReturnsWhatIsFreeBetweenBlocksInUse) {
  MemoryTrim trim;
  SteadyTime now = std::chrono::steady_clock::now();
  trim.Look(now);  // of the beginning
  constexpr int kBlocks = 160'000, kBlockBytes = 1000, kKept = 100;
  std::vector<std::unique_ptr<char[]>> blocks;
  for (int i = 0; i < kBlocks; ++i) blocks.push_back(std::make_unique<char[]>(kBlockBytes));
  trim.Look(now += 2 * MemoryTrim::kInterval);  // while all are in use
  for (int i = 0; i < kBlocks; ++i) {
    if (i % kKept != 0) blocks[i].reset();
  }
  const int64_t before = ResidentBytes();
  trim.Look(now += MemoryTrim::kInterval / 2);
  EXPECT_GT(ResidentBytes(), before - MemoryTrim::kWorthwhileBytes) << "not yet";
  trim.Look(now += MemoryTrim::kInterval);
  EXPECT_LT(ResidentBytes(), before - MemoryTrim::kWorthwhileBytes);
}

}  // namespace
}  // namespace baram::server
