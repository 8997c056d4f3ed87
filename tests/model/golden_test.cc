// Every tiny model from tests/golden on every device, against the reference library's results.
#include <gtest/gtest.h>

#include <map>
#include <tuple>

#include "tests/model/golden_case.h"
#include "tests/model/model_runner.h"

namespace baram::testing {
namespace {

// For devices that compute in fp32, in log-probability.
constexpr double kF32Tolerance = 1e-2;
// For devices in bf16, relative to the reference library's own errors in bf16.
constexpr double kBf16Rms = 1.5, kBf16Max = 3.0;

using Param = std::tuple<std::string, TestDevice>;

class GoldenTest : public ::testing::TestWithParam<Param> {
 protected:
  GoldenTest() : golden_(ReadGoldenCase(std::get<0>(GetParam()))) {}

  void SetUp() override {
    int32_t most = 0;
    for (const GoldenPrompt& prompt : golden_.prompts) {
      most = std::max<int32_t>(most, prompt.ids.size() + prompt.greedy_ids.size());
    }
    auto runner = ModelRunner::Open(std::get<1>(GetParam()).Open(), golden_.folder, most);
    ASSERT_TRUE(runner.ok()) << runner.status();
    runner_ = *std::move(runner);
  }

  void ExpectAgreement(const std::vector<Reply>& replies);

  std::vector<Reply> RunPrompts(int32_t chunk) {
    std::vector<Reply> replies;
    for (const GoldenPrompt& prompt : golden_.prompts) {
      const auto greedy = static_cast<int32_t>(prompt.greedy_ids.size());
      replies.push_back(runner_->Run(prompt.ids, chunk, greedy));
    }
    return replies;
  }

  GoldenCase golden_;
  std::unique_ptr<ModelRunner> runner_;
};

constexpr int32_t kWhole = 1 << 20;

// Equal up to a step whose margin over the second best is below `near_tie`.
void ExpectGreedyIds(const GoldenPrompt& prompt, const std::vector<int32_t>& ids, double near_tie) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] == prompt.greedy_ids[i]) continue;
    EXPECT_LT(prompt.greedy_margins[i], near_tie)
        << "token " << i << " is " << ids[i] << ", the reference's " << prompt.greedy_ids[i];
    return;  // what follows belongs to a different text
  }
}

void GoldenTest::ExpectAgreement(const std::vector<Reply>& replies) {
  std::vector<std::vector<float>> log_probs;
  for (const Reply& reply : replies) log_probs.push_back(reply.log_probs);
  const bool fp32 = runner_->device().Info().activation == DType::kF32;
  if (fp32) {
    EXPECT_LT(ErrorOf(golden_, log_probs, 0).max, kF32Tolerance);
  } else {
    const GoldenError error = ErrorOf(golden_, log_probs, golden_.top);
    EXPECT_LE(error.rms, kBf16Rms * golden_.bf16_rms);
    EXPECT_LE(error.max, kBf16Max * golden_.bf16_max);
    RecordProperty("rms_share", std::to_string(error.rms / golden_.bf16_rms));
    RecordProperty("max_share", std::to_string(error.max / golden_.bf16_max));
  }
  for (size_t p = 0; p < replies.size(); ++p) {
    ExpectGreedyIds(golden_.prompts[p], replies[p].greedy_ids, fp32 ? 0.0 : golden_.bf16_max);
  }
}

TEST_P(GoldenTest, AgreesWithTheReference) { ExpectAgreement(RunPrompts(kWhole)); }

// Chunks that start and end inside pages. On an exact device they must give the same bits.
TEST_P(GoldenTest, ChunksAgreeWithTheReference) {
  if (runner_->device().Info().exact) GTEST_SKIP() << "ChunksChangeNothing asks for more";
  ExpectAgreement(RunPrompts(7));
}

// The log-probabilities that the device reports match its logits.
TEST_P(GoldenTest, ScoresThePrompt) {
  const std::vector<Reply> replies = RunPrompts(kWhole);
  for (size_t p = 0; p < replies.size(); ++p) {
    const std::vector<int32_t>& ids = golden_.prompts[p].ids;
    ASSERT_EQ(replies[p].prompt_logprobs.size(), ids.size() - 1);
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      EXPECT_NEAR(replies[p].prompt_logprobs[i],
                  replies[p].log_probs[i * golden_.vocabulary + ids[i + 1]], 1e-4);
    }
  }
}

// I10: chunking changes no bit.
TEST_P(GoldenTest, ChunksChangeNothing) {
  if (!runner_->device().Info().exact) GTEST_SKIP() << "the device does not promise it";
  const std::vector<Reply> whole = RunPrompts(kWhole);
  for (const int32_t chunk : {1, 7}) {
    const std::vector<Reply> chunked = RunPrompts(chunk);
    for (size_t p = 0; p < whole.size(); ++p) {
      EXPECT_EQ(chunked[p].log_probs, whole[p].log_probs) << "chunks of " << chunk;
      EXPECT_EQ(chunked[p].prompt_logprobs, whole[p].prompt_logprobs) << "chunks of " << chunk;
      EXPECT_EQ(chunked[p].greedy_ids, whole[p].greedy_ids) << "chunks of " << chunk;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTest,
                         ::testing::Combine(::testing::ValuesIn(GoldenCaseNames()),
                                            ::testing::ValuesIn(TestDevices())),
                         [](const ::testing::TestParamInfo<Param>& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param).name;
                         });

// I10: the instruction set changes no bit of an exact device.
TEST(InstructionSetTest, ChangesNothing) {
  std::map<std::string, std::vector<TestDevice>> by_device;
  for (const TestDevice& device : TestDevices()) by_device[device.device].push_back(device);
  bool compared = false;
  for (const auto& [name, devices] : by_device) {
    if (devices.size() < 2 || !devices.front().Open()->Info().exact) continue;
    compared = true;
    for (const std::string& case_name : GoldenCaseNames()) {
      const GoldenCase golden = ReadGoldenCase(case_name);
      const std::vector<int32_t>& ids = golden.prompts.front().ids;
      std::vector<float> first;
      for (const TestDevice& device : devices) {
        const auto runner =
            ModelRunner::Open(device.Open(), golden.folder, static_cast<int32_t>(ids.size()));
        ASSERT_TRUE(runner.ok()) << runner.status();
        const Reply reply = (*runner)->Run(ids, kWhole, 1);
        if (first.empty()) first = reply.log_probs;
        EXPECT_EQ(reply.log_probs, first) << case_name << " on " << device.name;
      }
    }
  }
  if (!compared) GTEST_SKIP() << "no exact device has two instruction sets here";
}

}  // namespace
}  // namespace baram::testing
