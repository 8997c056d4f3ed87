// The demo model, on the cpu device unless another is requested: greedy text against the reference
// library's. Runs if BARAM_DEMO_MODEL names the folder made by deploy/.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "nlohmann/json.hpp"
#include "tests/environment.h"
#include "tests/model/model_runner.h"

namespace baram::testing {
namespace {

struct DemoPrompt {
  std::string name;
  std::vector<int32_t> ids, greedy_ids, greedy_ids_bf16;
  std::vector<double> greedy_margins;
};

std::vector<DemoPrompt> ReadPrompts() {
  std::ifstream file(SourceFolder() + "/tests/golden/demo/demo_golden.json");
  std::vector<DemoPrompt> prompts;
  const nlohmann::json golden = nlohmann::json::parse(file);
  for (const nlohmann::json& entry : golden.at("prompts")) {
    prompts.push_back({.name = entry.at("name"),
                       .ids = entry.at("ids"),
                       .greedy_ids = entry.at("greedy_ids"),
                       .greedy_ids_bf16 = entry.at("greedy_ids_bf16"),
                       .greedy_margins = entry.at("greedy_margins")});
  }
  return prompts;
}

// The margin, in log-probability, of the reference's fp32 token over the second best at the first
// position where a text differs from it. 0: nowhere.
double MarginAtDeparture(const DemoPrompt& prompt, const std::vector<int32_t>& ids) {
  for (size_t i = 0; i < prompt.greedy_ids.size(); ++i) {
    if (ids[i] != prompt.greedy_ids[i]) return prompt.greedy_margins[i];
  }
  return 0;
}

TEST(DemoModelTest, GreedyTextIsTheReferences) {
  const char* folder = std::getenv("BARAM_DEMO_MODEL");
  if (folder == nullptr) GTEST_SKIP() << "BARAM_DEMO_MODEL is not set";
  const std::vector<DemoPrompt> prompts = ReadPrompts();
  ASSERT_EQ(prompts.size(), 10u);
  // A near tie is a token that the reference itself decides differently in bf16.
  double near_tie = 0;
  size_t longest = 0;
  for (const DemoPrompt& prompt : prompts) {
    near_tie = std::max(near_tie, MarginAtDeparture(prompt, prompt.greedy_ids_bf16));
    longest = std::max(longest, prompt.ids.size() + prompt.greedy_ids.size());
  }

  std::string error;
  DeviceOptions options;
  options.threads = 2;
  const std::string requested = RequestedDevice();
  std::unique_ptr<Device> device =
      OpenDevice(requested.empty() ? "cpu" : requested, options, &error);
  ASSERT_NE(device, nullptr) << error;
  const auto max_tokens = static_cast<int32_t>(longest);
  const auto runner = ModelRunner::Open(std::move(device), folder, max_tokens);
  ASSERT_TRUE(runner.ok()) << runner.status();
  for (const DemoPrompt& prompt : prompts) {
    const auto greedy = static_cast<int32_t>(prompt.greedy_ids.size());
    const Reply reply = (*runner)->Run(prompt.ids, max_tokens, greedy);
    EXPECT_LE(MarginAtDeparture(prompt, reply.greedy_ids), near_tie) << prompt.name;
  }
}

}  // namespace
}  // namespace baram::testing
