// I10 on the real devices: a row's bits depend only on its own prefix. Ids and log-probabilities
// are the same for every chunking, cache hit, number of workers, instruction set, preemption,
// output count and set of other requests.
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/schedules.h"

namespace baram::testing {
namespace {

struct Place {
  std::string device = "ref";
  DeviceOptions options;
  std::unique_ptr<Device> Open() const {
    std::string error;
    return OpenDevice(device, options, &error);
  }
};

// Sampled, penalized and with alternatives: exercises everything that could differ.
Request Wanted() {
  Request request = MakeRequest(RealPrompt(1, kRealPrompt), kRealOutput);
  request.sampling.temperature = 0.8f;
  request.sampling.top_p = 0.95f;
  request.sampling.repetition_penalty = 1.1f;
  request.sampling.seed = 5;
  request.sampling.logprobs = 5;
  return request;
}

class ExactnessTest : public ::testing::TestWithParam<std::vector<int32_t>> {
 protected:
  std::string Run(const Place& place, const Schedule& schedule = PlainSchedule()) {
    return Bits(RunUnder(schedule, GetParam(), place.Open(), Wanted()));
  }

  // Every way of running one request on one device.
  void ExpectAllWaysEqual(const Place& place, const std::string& expected) {
    for (const Schedule& schedule : OtherSchedules(31)) {
      EXPECT_EQ(Run(place, schedule), expected) << schedule.name;
    }
    ExpectCachedAndMultipleEqual(place, expected);
  }

  void ExpectCachedAndMultipleEqual(const Place& place, const std::string& expected) {
    EngineRig rig(RealSpec(GetParam()), place.Open(), PlainConfig());
    Client* cold = rig.Submit(Wanted());
    ASSERT_TRUE(rig.Finish());
    Client* warm = rig.Submit(Wanted());
    ASSERT_TRUE(rig.Finish());
    EXPECT_GT(warm->outbox->cached_tokens(), 0);
    EXPECT_EQ(Bits(cold->outputs[0]), expected);
    EXPECT_EQ(Bits(warm->outputs[0]), expected) << "from the prefix cache";
    Request request = Wanted();
    request.n = 4;
    request.cache_salt = "apart";
    Client* four = rig.Submit(std::move(request));
    ASSERT_TRUE(rig.Finish());
    EXPECT_EQ(Bits(four->outputs[0]), expected) << "the first of four";
    EXPECT_NE(Bits(four->outputs[1]), expected) << "the second draws for itself";
  }
};

TEST_P(ExactnessTest, RefIsExact) {
  const Place place{"ref", {}};
  ExpectAllWaysEqual(place, Run(place));
}

TEST_P(ExactnessTest, EveryInstructionSetAndWorkerCountIsExactAndEqual) {
  std::string expected;
  for (const char* isa : {"avx2", "avx512", "avx512_bf16", "amx"}) {
    for (const int32_t threads : {1, 2}) {
      const Place place{"cpu", {.threads = threads, .isa = isa}};
      if (place.Open() == nullptr) continue;  // not available on this machine
      SCOPED_TRACE(std::string(isa) + ", workers " + std::to_string(threads));
      const std::string bits = Run(place);
      if (expected.empty()) expected = bits;
      EXPECT_EQ(bits, expected);
      if (threads == 2) ExpectAllWaysEqual(place, expected);
    }
  }
  EXPECT_FALSE(expected.empty());
}

TEST_P(ExactnessTest, PromptScoresDoNotDependOnTheirChunks) {
  for (const char* device : {"ref", "cpu"}) {
    std::vector<float> expected;
    for (const auto& [rows, at_once] : {std::pair(256, 256), {256, 5}, {11, 128}}) {
      EngineConfig config = PlainConfig();
      config.max_num_seqs = 1;
      config.max_logit_rows = rows;
      config.logit_rows_at_once = at_once;
      EngineRig rig(RealSpec(GetParam()), Place{device, {}}.Open(), config);
      Request request = Wanted();
      request.prompt_logprobs = 0;
      Client* client = rig.Submit(std::move(request));
      ASSERT_TRUE(rig.Finish());
      std::vector<float> scores;
      for (const TokenResult& score : client->scores) scores.push_back(score.logprob);
      EXPECT_EQ(scores.size(), static_cast<size_t>(kRealPrompt - 1));
      if (expected.empty()) expected = scores;
      EXPECT_EQ(scores, expected) << device;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Full, ExactnessTest, ::testing::Values(std::vector<int32_t>{0, 0}));
INSTANTIATE_TEST_SUITE_P(Windowed, ExactnessTest,
                         ::testing::Values(std::vector<int32_t>{24, 0, 24}));

}  // namespace
}  // namespace baram::testing
