// The demo model on the cpu device: greedy text against the reference library's. Runs where
// BARAM_DEMO_MODEL names the folder that deploy/ makes.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "nlohmann/json.hpp"
#include "tests/model/model_runner.h"

namespace baram::testing {
namespace {

TEST(DemoModelTest, GreedyTextIsTheReferences) {
  const char* folder = std::getenv("BARAM_DEMO_MODEL");
  if (folder == nullptr) GTEST_SKIP() << "BARAM_DEMO_MODEL is not set";
  std::ifstream file(BARAM_SOURCE_DIR "/tests/golden/demo/demo_golden.json");
  ASSERT_TRUE(file.good());
  const nlohmann::json golden = nlohmann::json::parse(file);

  std::string error;
  DeviceOptions options;
  options.threads = 2;
  std::unique_ptr<Device> device = OpenDevice("cpu", options, &error);
  ASSERT_NE(device, nullptr) << error;
  constexpr int32_t kMaxTokens = 512;
  ModelRunner runner(std::move(device), folder, kMaxTokens);
  for (const nlohmann::json& prompt : golden.at("prompts")) {
    const auto ids = prompt.at("ids").get<std::vector<int32_t>>();
    const auto expected = prompt.at("greedy_ids").get<std::vector<int32_t>>();
    const auto margins = prompt.at("greedy_margins").get<std::vector<double>>();
    ASSERT_LE(ids.size() + expected.size(), kMaxTokens);
    const std::vector<int32_t> greedy =
        runner.Run(ids, kMaxTokens, static_cast<int32_t>(expected.size())).greedy_ids;
    for (size_t i = 0; i < expected.size(); ++i) {
      if (greedy[i] == expected[i]) continue;
      // Where the reference itself leads by less than its own error in bf16, either is right.
      EXPECT_LT(margins[i], golden.at("near_tie").get<double>())
          << "prompt of " << ids.size() << " tokens, token " << i;
      break;
    }
  }
}

}  // namespace
}  // namespace baram::testing
