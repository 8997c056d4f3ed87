// What any device promises for a whole engine, exact or not: one schedule gives the same bits every
// time; other schedules give the same greedy ids, except where two tokens are too close to
// distinguish, and the same log-probabilities within the device's own error.
#include <algorithm>
#include <cmath>

#include "tests/engine/schedules.h"
#include "tests/environment.h"

namespace baram::testing {
namespace {

// Few enough for the emulated GPU, and more than one bucket of graphs.
constexpr int32_t kCompany = 11;
// The whole prompt fits; start-up runs steps of all sizes up to this one, which is most of the
// emulated GPU's work here.
constexpr int32_t kStepTokens = 96;

// Past the next page boundary, at position 96, and several replays of a graph.
constexpr int32_t kOutput = 9;

EngineConfig OwnConfig(EngineConfig config = PlainConfig()) {
  config.max_num_batched_tokens = kStepTokens;
  return config;
}

std::unique_ptr<Device> Open(const std::string& name) {
  std::string error;
  std::unique_ptr<Device> device = OpenDevice(name, {.overlap_kernels = KernelsOverlap()}, &error);
  EXPECT_NE(device, nullptr) << error;
  return device;
}

std::unique_ptr<Device> OpenTested() {
  const std::string requested = RequestedDevice();
  return Open(requested.empty() ? "cpu" : requested);
}

Request Greedy() {
  Request request = MakeRequest(RealPrompt(1, kRealPrompt), kOutput);
  request.sampling.temperature = 0;
  request.sampling.logprobs = 2;
  return request;
}

class IdentitiesTest : public ::testing::TestWithParam<std::vector<int32_t>> {
 protected:
  Received Run(Schedule schedule) {
    schedule.config = OwnConfig(schedule.config);
    return RunUnder(schedule, GetParam(), OpenTested(), Greedy());
  }

  std::vector<float> Scores(std::unique_ptr<Device> device) {
    EngineRig rig(RealSpec(GetParam()), std::move(device), OwnConfig());
    Request request = Greedy();
    request.prompt_logprobs = 0;
    Client* client = rig.Submit(std::move(request));
    EXPECT_TRUE(rig.Finish());
    std::vector<float> scores;
    for (const TokenResult& score : client->scores) scores.push_back(score.logprob);
    return scores;
  }

  // The largest error of the prompt's log-probabilities against the fp32 definition.
  double OwnError() {
    const std::vector<float> own = Scores(OpenTested());
    const std::vector<float> defined = Scores(Open("ref"));
    EXPECT_EQ(own.size(), static_cast<size_t>(kRealPrompt - 1));
    EXPECT_EQ(defined.size(), own.size());
    double error = 0;
    for (size_t i = 0; i < own.size(); ++i) {
      error = std::max(error, std::fabs(double{own[i]} - defined[i]));
    }
    return error;
  }

  // Two log-probabilities of one token differ by at most two errors; two tokens that swap ranks
  // were at most four apart. What follows a swap belongs to a different text.
  static void ExpectSame(const Received& got, const Received& plain, double error) {
    ASSERT_EQ(got.tokens.size(), plain.tokens.size());
    for (size_t i = 0; i < plain.tokens.size(); ++i) {
      const TokenResult& a = got.tokens[i];
      const TokenResult& b = plain.tokens[i];
      ASSERT_EQ(b.top_count, 2);
      if (a.token != b.token) {
        EXPECT_LE(b.top_logprobs[0] - b.top_logprobs[1], 4 * error) << "token " << i;
        return;
      }
      EXPECT_LE(std::fabs(a.logprob - b.logprob), 2 * error) << "token " << i;
    }
  }
};

TEST_P(IdentitiesTest, EveryScheduleGivesTheSameTextButForNearTies) {
  const double error = OwnError();
  const Received plain = Run(PlainSchedule());
  for (const Schedule& schedule : OtherSchedules(kCompany)) {
    SCOPED_TRACE(schedule.name);
    ExpectSame(Run(schedule), plain, error);
  }
  EngineRig rig(RealSpec(GetParam()), OpenTested(), OwnConfig());
  rig.Submit(Greedy());
  ASSERT_TRUE(rig.Finish());
  Client* warm = rig.Submit(Greedy());
  ASSERT_TRUE(rig.Finish());
  EXPECT_GT(warm->outbox->cached_tokens(), 0);
  SCOPED_TRACE("from the prefix cache");
  ExpectSame(warm->outputs[0], plain, error);
}

TEST_P(IdentitiesTest, OneScheduleGivesTheSameBitsEveryTime) {
  Schedule busy = PlainSchedule();
  busy.company = kCompany;
  EXPECT_EQ(Bits(Run(busy)), Bits(Run(busy)));
  EXPECT_EQ(Bits(Run(PlainSchedule())), Bits(Run(PlainSchedule())));
}

INSTANTIATE_TEST_SUITE_P(Full, IdentitiesTest, ::testing::Values(std::vector<int32_t>{0, 0}));
INSTANTIATE_TEST_SUITE_P(Windowed, IdentitiesTest,
                         ::testing::Values(std::vector<int32_t>{24, 0, 24}));

}  // namespace
}  // namespace baram::testing
