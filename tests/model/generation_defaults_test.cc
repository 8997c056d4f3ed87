// generation_config.json, next to config.json: its defaults for requests that do not specify.
#include "engine/model/generation_defaults.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/model/hf_config.h"
#include "nlohmann/json.hpp"
#include "tests/model/scratch_folder.h"

namespace baram {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ScratchFolder;

GenerationDefaults ReadDefaults(const json& config, const char* generation) {
  const ScratchFolder folder;
  folder.Write("config.json", config.dump());
  if (generation != nullptr) folder.Write("generation_config.json", generation);
  const absl::StatusOr<GenerationDefaults> defaults = ReadGenerationDefaults(folder.path());
  EXPECT_TRUE(defaults.ok()) << defaults.status();
  return defaults.ok() ? *defaults : GenerationDefaults();
}

TEST(GenerationDefaultsTest, ConfigsEosIsThePrimaryOne) {
  const json config = {{"eos_token_id", 7}};
  GenerationDefaults defaults = ReadDefaults(config, nullptr);
  EXPECT_THAT(defaults.eos_ids, ElementsAre(7));
  EXPECT_EQ(defaults.temperature, std::nullopt);
  EXPECT_EQ(defaults.top_k, std::nullopt);
  defaults = ReadDefaults(config, R"({"eos_token_id":[3,7,9]})");
  EXPECT_THAT(defaults.eos_ids, ElementsAre(7, 3, 9));
  defaults = ReadDefaults({{"eos_token_id", {5, 6}}}, R"({"eos_token_id":6})");
  EXPECT_THAT(defaults.eos_ids, ElementsAre(5, 6));
  defaults = ReadDefaults({{"eos_token_id", -1}}, R"({"eos_token_id":[-1,6]})");
  EXPECT_THAT(defaults.eos_ids, ElementsAre(6)) << "-1 means none";
}

TEST(GenerationDefaultsTest, AMultimodalFolderMayLeaveEosToItsTextPart) {
  json config = {{"text_config", {{"eos_token_id", {1, 106}}}}};
  EXPECT_THAT(ReadDefaults(config, nullptr).eos_ids, ElementsAre(1, 106));
  EXPECT_THAT(ReadDefaults(config, R"({"eos_token_id":[9]})").eos_ids, ElementsAre(1, 106, 9));
  config["eos_token_id"] = 7;
  EXPECT_THAT(ReadDefaults(config, nullptr).eos_ids, ElementsAre(7));
}

TEST(GenerationDefaultsTest, SamplingValues) {
  const GenerationDefaults defaults =
      ReadDefaults(json::object(), R"({"temperature":0.6,"top_p":0.95,"top_k":20,"min_p":0.05,
                          "repetition_penalty":1.1})");
  EXPECT_EQ(defaults.temperature, 0.6);
  EXPECT_EQ(defaults.top_p, 0.95);
  EXPECT_EQ(defaults.top_k, 20);
  EXPECT_EQ(defaults.min_p, 0.05);
  EXPECT_EQ(defaults.repetition_penalty, 1.1);
}

TEST(GenerationDefaultsTest, TopKIsOffByEitherSpelling) {
  EXPECT_EQ(ReadDefaults(json::object(), R"({"top_k":0})").top_k, 0);
  EXPECT_EQ(ReadDefaults(json::object(), R"({"top_k":-1})").top_k, 0);
  EXPECT_EQ(ReadDefaults(json::object(), R"({"top_k":null})").top_k, std::nullopt) << "absent";
}

TEST(GenerationDefaultsTest, BadValuesAreNamed) {
  for (const auto& [text, complaint] : std::vector<std::pair<const char*, const char*>>{
           {R"({"temperature":-1})", "temperature must be a number"},
           {R"({"eos_token_id":"</s>"})", "eos_token_id must be whole numbers"},
           {R"({"eos_token_id":[2,-2]})", "eos_token_id must be whole numbers"},
           {R"({"eos_token_id":18446744073709551615})", "eos_token_id must be whole numbers"},
           {R"({"top_k":1.5})", "top_k must be a whole number"},
           {R"({"top_k":-2})", "top_k must be a whole number from -1"},
           {"nonsense", "not valid JSON"}}) {
    const ScratchFolder folder;
    folder.Write("config.json", "{}");
    folder.Write("generation_config.json", text);
    const absl::Status status = ReadGenerationDefaults(folder.path()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << text;
    EXPECT_THAT(status.message(),
                AllOf(HasSubstr("generation_config.json: "), HasSubstr(complaint)));
  }
}

}  // namespace
}  // namespace baram
