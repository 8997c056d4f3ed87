// The table of settings: precedence, ranges, names meant, and what is printed.
#include "server/settings.h"

#include <gmock/gmock.h>

#include <cstring>
#include <string>
#include <vector>

#include "server/setting_values.h"
#include "tests/model/scratch_folder.h"

namespace baram::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Variables that the tests set; a function pointer can't carry them.
std::vector<std::pair<std::string, std::string>> variables;
const char* TestEnvironment(const char* name) {
  for (const auto& [key, value] : variables) {
    if (key == name) return value.c_str();
  }
  return nullptr;
}

class SettingsTest : public ::testing::Test {
 protected:
  void SetUp() override { variables.clear(); }

  absl::StatusOr<Config> Parse(std::vector<std::string> args) {
    args.insert(args.begin(), {"--model", "/models/some"});
    return ParseSettings(Command::kServe, args, TestEnvironment);
  }
  std::string Error(std::vector<std::string> args) {
    const auto config = Parse(std::move(args));
    return config.ok() ? "" : std::string(config.status().message());
  }
};

TEST_F(SettingsTest, AFlagWinsOverAVariableOverTheFile) {
  const baram::testing::ScratchFolder folder;
  const std::string file =
      folder.Write("baram.toml",
                   "max-num-seqs = 3\nmax-model-len = 100\nthreads = 2\nprefix-cache = false\n"
                   "served-model-name = [\"a\", \"b\"]\nkv-cache-bytes = \"1GiB\"\n");
  variables = {{"BARAM_MAX_NUM_SEQS", "4"}, {"BARAM_MAX_MODEL_LEN", "200"}};
  const auto config = Parse({"--config", file, "--max-num-seqs", "5"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->max_num_seqs, 5);
  EXPECT_EQ(config->max_model_len, 200);
  EXPECT_EQ(config->threads, 2);
  EXPECT_FALSE(config->prefix_cache);
  EXPECT_THAT(config->served_model_names, ElementsAre("a", "b"));
  EXPECT_EQ(config->kv_cache_bytes, 1 << 30);
  EXPECT_EQ(config->text_threads, 2);

  variables.push_back({"BARAM_CONFIG", file});
  EXPECT_EQ(Parse({})->threads, 2);
}

TEST_F(SettingsTest, ListsAndSwitches) {
  EXPECT_THAT(Parse({"--served-model-name", "x", "--served-model-name=y"})->served_model_names,
              ElementsAre("x", "y"));
  variables = {{"BARAM_SERVED_MODEL_NAME", "p, q"}, {"BARAM_PREFIX_CACHE", "false"}};
  EXPECT_THAT(Parse({})->served_model_names, ElementsAre("p", "q"));
  EXPECT_THAT(Parse({"--served-model-name", "x"})->served_model_names, ElementsAre("x"));
  EXPECT_FALSE(Parse({})->prefix_cache);
  EXPECT_TRUE(Parse({"--prefix-cache"})->prefix_cache);
  variables.clear();
  EXPECT_FALSE(Parse({"--no-prefix-cache"})->prefix_cache);
  EXPECT_TRUE(Parse({"--pin-threads"})->pin_threads);
}

TEST_F(SettingsTest, RangesAreSentencesThatNameFlagAndVariable) {
  EXPECT_EQ(Error({"--max-n", "0"}),
            "--max-n (BARAM_MAX_N) is \"0\" but must be a whole number from 1 to 128.");
  for (const std::vector<std::string>& bad :
       std::vector<std::vector<std::string>>{{"--max-n", "1.5"},
                                             {"--max-n", "many"},
                                             {"--max-n", "nan"},
                                             {"--kv-cache-bytes", "5 apples"},
                                             {"--kv-cache-bytes", "-1"},
                                             {"--generation-config", "sometimes"},
                                             {"--isa", "sse2"},
                                             {"--grpc-listen", "50051"},
                                             {"--grpc-listen", "off"},
                                             {"--http-listen", "127.0.0.1:70000"},
                                             {"--log-level", "loud"},
                                             {"--page-tokens", "48"},
                                             {"--drain-limit", "-1"}}) {
    EXPECT_THAT(Error(bad), HasSubstr(bad[0])) << bad[1];
  }
  variables = {{"BARAM_MAX_N", "999"}};
  EXPECT_THAT(Error({}), HasSubstr("BARAM_MAX_N"));
}

TEST_F(SettingsTest, WhatWasProbablyMeant) {
  EXPECT_THAT(Error({"--ctx-size", "4096"}), HasSubstr("--max-model-len"));
  EXPECT_THAT(Error({"-c", "4096"}), HasSubstr("--max-model-len"));
  EXPECT_THAT(Error({"-ngl", "99"}), HasSubstr("--device"));
  EXPECT_THAT(Error({"--gpu-memory-utilization=0.9"}), HasSubstr("--kv-cache-bytes"));
  EXPECT_THAT(Error({"--port", "8000"}), HasSubstr("--http-listen"));
  EXPECT_EQ(Error({"--max-model-length", "5"}),
            "There is no --max-model-length. Did you mean --max-model-len?");
  EXPECT_THAT(Error({"--xyzzy"}), HasSubstr("--help"));
  EXPECT_THAT(Error({"stray"}), HasSubstr("stray"));
}

TEST_F(SettingsTest, FilesThatCantBeUsed) {
  EXPECT_TRUE(absl::IsNotFound(Parse({"--config", "/no/such/file"}).status()));
  const baram::testing::ScratchFolder folder;
  const std::string unknown = folder.Write("unknown.toml", "max-sequences = 3\n");
  EXPECT_THAT(Error({"--config", unknown}), HasSubstr("max-sequences"));
  const std::string bad = folder.Write("bad.toml", "max-n = 0\n");
  EXPECT_THAT(Error({"--config", bad}), HasSubstr("--max-n"));
}

TEST_F(SettingsTest, TheModelIsRequired) {
  const auto config = ParseSettings(Command::kServe, {}, TestEnvironment);
  EXPECT_THAT(std::string(config.status().message()), HasSubstr("--model"));
  EXPECT_EQ(ExitCode(config.status()), kExitUsage);
  variables = {{"BARAM_MODEL", "/models/x"}};
  EXPECT_EQ(ParseSettings(Command::kServe, {}, TestEnvironment)->model, "/models/x");
}

TEST_F(SettingsTest, InspectTakesOnlyWhatItNeeds) {
  const std::vector<std::string> args = {"--model", "/m", "--max-n", "3"};
  EXPECT_FALSE(ParseSettings(Command::kInspect, args, TestEnvironment).ok());
}

TEST_F(SettingsTest, HelpAndDescriptionShowEverySetting) {
  const std::string help = SettingsHelp(Command::kServe);
  const std::string shown = DescribeSettings(*Parse({"--max-n", "3"}));
  for (const char* name : {"model", "max-model-len", "grpc-listen", "drain-limit", "log-level"}) {
    EXPECT_THAT(help, HasSubstr(std::string("--") + name));
    EXPECT_THAT(shown, HasSubstr(name));
  }
  EXPECT_THAT(help, HasSubstr("BARAM_MAX_MODEL_LEN"));
  EXPECT_THAT(shown, HasSubstr("  * max-n                     3\n"));
  EXPECT_THAT(shown, HasSubstr("    max-body-bytes            8MiB\n"));
  for (size_t begin = 0, end; (end = help.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    EXPECT_LE(end - begin, 100u) << help.substr(begin, end - begin);
  }
}

TEST(SettingValuesTest, NamesOfFolders) {
  EXPECT_EQ(DefaultModelName("/models/SmolLM2"), "SmolLM2");
  EXPECT_EQ(DefaultModelName("/models/SmolLM2/"), "SmolLM2");
  EXPECT_EQ(DefaultModelName("/c/hub/models--LGAI-EXAONE--EXAONE-4.0-1.2B/snapshots/0a1b"),
            "LGAI-EXAONE/EXAONE-4.0-1.2B");
}

TEST(SettingValuesTest, BytesAndEndpoints) {
  EXPECT_EQ(ParseBytes("4GiB"), int64_t{4} << 30);
  EXPECT_EQ(ParseBytes("1.5k"), 1536);
  EXPECT_EQ(ParseBytes("500MB"), 500'000'000);
  EXPECT_EQ(ParseBytes("12"), 12);
  EXPECT_FALSE(ParseBytes("").has_value());
  EXPECT_FALSE(ParseBytes("1e30").has_value());
  const auto v6 = ParseEndpoint("[::1]:80");
  ASSERT_TRUE(v6.ok());
  EXPECT_EQ(v6->host, "::1");
  EXPECT_EQ(v6->port, 80);
  for (const char* bad : {"", ":80", "host", "host:", "host:x", "::1:80", "h:65536", "h:-1"}) {
    EXPECT_FALSE(ParseEndpoint(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace baram::server
