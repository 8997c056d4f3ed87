// I6: a step in the steady state allocates nothing.
#include <atomic>
#include <cstdlib>
#include <new>

#include "gtest/gtest.h"
#include "tests/engine/rig.h"

namespace {
std::atomic<int64_t> allocations{0};
}

// Not inlined: gcc accepts new and delete as a matching pair only if it sees neither body.
[[gnu::noinline]] void* operator new(size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(bytes > 0 ? bytes : 1);
  if (memory == nullptr) std::abort();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace baram::testing {
namespace {

void ExpectSteadyStepsAllocateNothing(const FakeOptions& fake) {
  EngineConfig config;
  config.max_num_seqs = 16;
  config.max_num_batched_tokens = 64;
  config.max_model_len = 512;
  config.stream_tokens = 512;
  EngineRig rig(fake, config, {0, 20});
  for (int i = 0; i < 16; ++i) {
    Request request = MakeRequest(RandomPrompt(i, 40), 300);
    request.sampling.logprobs = 3;
    rig.Submit(std::move(request));
  }
  for (int turn = 0; turn < 60; ++turn) rig.Turn();
  // Reading is the test's own job; it takes the touched list as delivery would.
  std::vector<std::shared_ptr<Outbox>> taken;
  taken.reserve(64);
  int64_t before = 0;
  for (int turn = 0; turn < 100; ++turn) {
    if (turn == 20) before = allocations.load();
    rig.TurnUnchecked();
    rig.core().touched().Take(&taken, SteadyTime::min());
  }
  EXPECT_EQ(allocations.load() - before, 0);
  // Check that the counter counts.
  auto* one = new int(1);
  EXPECT_EQ(allocations.load() - before, 1);
  delete one;
}

// A sequence preempted after every token returns with all of its pages cached: the device is sent
// every one of them again.
TEST(AllocationTest, ComingBackToALongCachedPrefixAllocatesNothing) {
  EngineConfig config;
  config.max_num_seqs = 1;
  config.max_num_batched_tokens = 64;
  config.max_model_len = 8192;
  config.preempt_every_draw = true;
  EngineRig rig({}, config, {0, 20});
  Client* client = rig.Submit(MakeRequest(RandomPrompt(1, 8000), 100));
  do {
    rig.TurnUnchecked();
  } while (rig.sequence(*client).output_tokens() == 0);
  const int64_t before = allocations.load();
  for (int turn = 0; turn < 20; ++turn) rig.TurnUnchecked();
  EXPECT_EQ(allocations.load() - before, 0);
  EXPECT_GE(rig.sequence(*client).preemptions, 19);
  EXPECT_GE(rig.sequence(*client).blocks(), 2000);
}

TEST(AllocationTest, ASteadyStepAllocatesNothing) { ExpectSteadyStepsAllocateNothing({}); }

TEST(AllocationTest, AStepWithGraphsAllocatesNothing) {
  ExpectSteadyStepsAllocateNothing({.graphs = true});
}

}  // namespace
}  // namespace baram::testing
