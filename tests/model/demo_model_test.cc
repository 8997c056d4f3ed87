// The demo model, on the cpu device unless another is requested: greedy text against the reference
// library's, and on the cpu device also against its own, which every instruction set yields (I10).
// Runs if BARAM_DEMO_MODEL names the folder made by deploy/.
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
  std::vector<int32_t> ids, greedy_ids, greedy_ids_bf16, cpu_greedy_ids;
  std::vector<double> greedy_margins;
};

nlohmann::json ReadGolden(const std::string& name) {
  std::ifstream file(SourceFolder() + "/tests/golden/demo/" + name);
  return nlohmann::json::parse(file);
}

std::vector<DemoPrompt> ReadPrompts() {
  std::vector<DemoPrompt> prompts;
  const nlohmann::json golden = ReadGolden("demo_golden.json");
  const nlohmann::json cpu = ReadGolden("demo_cpu.json");
  for (const nlohmann::json& entry : golden.at("prompts")) {
    const std::string name = entry.at("name");
    prompts.push_back({.name = name,
                       .ids = entry.at("ids"),
                       .greedy_ids = entry.at("greedy_ids"),
                       .greedy_ids_bf16 = entry.at("greedy_ids_bf16"),
                       .cpu_greedy_ids = cpu.at(name),
                       .greedy_margins = entry.at("greedy_margins")});
  }
  return prompts;
}

// How many tokens a text has in common with the reference's in fp32, before the first that differs.
size_t InCommon(const DemoPrompt& prompt, const std::vector<int32_t>& ids) {
  return std::ranges::mismatch(prompt.greedy_ids, ids).in1 - prompt.greedy_ids.begin();
}

// The margin, in log-probability, of the reference's token over the second best where a text
// departs from it. 0: nowhere.
double MarginAtDeparture(const DemoPrompt& prompt, const std::vector<int32_t>& ids) {
  const size_t at = InCommon(prompt, ids);
  return at < prompt.greedy_margins.size() ? prompt.greedy_margins[at] : 0;
}

TEST(DemoModelTest, GreedyTextIsTheReferences) {
  const char* folder = std::getenv("BARAM_DEMO_MODEL");
  if (folder == nullptr) GTEST_SKIP() << "BARAM_DEMO_MODEL is not set";
  const std::vector<DemoPrompt> prompts = ReadPrompts();
  ASSERT_EQ(prompts.size(), 10u);
  // A near tie is a token that the reference itself decides differently in bf16.
  double near_tie = 0;
  size_t longest = 0, in_common = 0, in_common_bf16 = 0;
  for (const DemoPrompt& prompt : prompts) {
    near_tie = std::max(near_tie, MarginAtDeparture(prompt, prompt.greedy_ids_bf16));
    in_common_bf16 += InCommon(prompt, prompt.greedy_ids_bf16);
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
    in_common += InCommon(prompt, reply.greedy_ids);
    if ((*runner)->device().Info().name == "cpu") {
      EXPECT_EQ(reply.greedy_ids, prompt.cpu_greedy_ids)
          << '"' << prompt.name << "\": " << nlohmann::json(reply.greedy_ids);
    }
  }
  // Near ties excuse single tokens, not the whole text.
  EXPECT_GE(in_common, in_common_bf16 / 2);
}

}  // namespace
}  // namespace baram::testing
