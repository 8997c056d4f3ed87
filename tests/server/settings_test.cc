// The table of settings: precedence, ranges, suggested names, and what is printed.
#include "server/settings.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/blame.h"
#include "server/arguments.h"
#include "server/exit_codes.h"
#include "server/foreign_flags.h"
#include "server/settings_table.h"
#include "tests/model/scratch_folder.h"
#include "tests/server/settings_fixture.h"

namespace baram::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

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

TEST_F(SettingsTest, ANameSteersNoTerminal) {
  for (const char* name : {"a\nb", "a\x7f", "a\u009b2J"}) {
    variables.clear();
    const absl::Status flag = Parse({"--served-model-name", name}).status();
    EXPECT_EQ(std::string(flag.message()),
              "--served-model-name holds a control character; leave it out.");
    EXPECT_EQ(ExitCode(flag), kExitUsage);
    variables = {{"BARAM_SERVED_MODEL_NAME", name}};
    EXPECT_EQ(ExitCode(Parse({}).status()), kExitConfig);
  }
  variables = {{"BARAM_SERVED_MODEL_NAME", "\u00a0한"}};
  EXPECT_TRUE(Parse({}).ok());
}

// EUC-KR, a truncated character, and half a surrogate pair.
TEST_F(SettingsTest, ANameIsUtf8) {
  for (const char* name : {"\xb8\xf0\xb5\xa8", "a\xed\x95", "\xed\xa0\x80"}) {
    variables.clear();
    const absl::Status flag =
        Parse({"--served-model-name", "a", "--served-model-name", name}).status();
    EXPECT_EQ(flag, absl::InvalidArgumentError(
                        "--served-model-name is not valid UTF-8; write it in UTF-8."));
    variables = {{"BARAM_SERVED_MODEL_NAME", name}};
    EXPECT_EQ(ExitCode(Parse({}).status()), kExitConfig);
  }
}

TEST_F(SettingsTest, RangesAreSentencesThatNameTheFlag) {
  EXPECT_EQ(Error({"--max-n", "0"}), "--max-n is \"0\" but must be a whole number from 1 to 128.");
  for (const std::vector<std::string>& bad :
       std::vector<std::vector<std::string>>{{"--max-n", "1.5"},
                                             {"--max-n", "many"},
                                             {"--max-n", "nan"},
                                             {"--kv-cache-bytes", "5 apples"},
                                             {"--kv-cache-bytes", "-1"},
                                             {"--kv-cache-bytes", "0.4"},
                                             {"--kv-cache-bytes", "0.0001KiB"},
                                             {"--generation-config", "sometimes"},
                                             {"--isa", "sse2"},
                                             {"--grpc-listen", "50051"},
                                             {"--grpc-listen", "off"},
                                             {"--http-listen", "127.0.0.1:70000"},
                                             {"--log-level", "loud"},
                                             {"--page-tokens", "48"},
                                             {"--max-logit-rows", "0"},
                                             {"--gpu-memory-utilization", "0"},
                                             {"--gpu-memory-utilization", "1.01"},
                                             {"--gpu-memory-utilization", "90%"},
                                             {"--drain-limit", "-1"}}) {
    EXPECT_THAT(Error(bad), HasSubstr(bad[0])) << bad[1];
  }
  EXPECT_EQ(Error({"--max-model-len", "1"}),
            "--max-model-len is \"1\" but must be at least 2: a prompt and a reply have a token "
            "each.");
  EXPECT_EQ(Error({"--max-model-len", "2"}), "");
  EXPECT_EQ(Error({"--max-body-bytes", "0.4"}),
            "--max-body-bytes is \"0.4\" but must be whole bytes from 1KiB to 1GiB.");
  // Beast throws where a header's name or value takes 64 KiB.
  EXPECT_EQ(Error({"--drain-delay", "5s"}),
            "--drain-delay is \"5s\" but must be seconds from 0 to 3600, without a unit.");
  EXPECT_EQ(Error({"--max-header-bytes", "64KiB"}),
            "--max-header-bytes is \"64KiB\" but must be whole bytes from 1KiB to 60KiB.");
  EXPECT_EQ(Parse({"--kv-cache-bytes", "0.5KiB"})->kv_cache_bytes, 512);
}

// What no browser sends as an Origin would never match.
TEST_F(SettingsTest, AnOriginThatCanMatchNothingIsRefused) {
  const std::string rest = " but must be an origin, as in https://app.example.com, or * for any";
  for (const std::string origin : {"https://app.example.com/", "localhost:3000", "[\"*\"]", "**"}) {
    const absl::Status flag = Parse({"--http-allowed-origins", origin}).status();
    EXPECT_EQ(flag, absl::InvalidArgumentError("--http-allowed-origins is \"" + origin + "\"" +
                                               rest + "."));
    EXPECT_EQ(ExitCode(flag), kExitUsage);
  }
  EXPECT_EQ(
      Error({"--http-allowed-origins", "http://a", "--http-allowed-origins", "http://b,http://c"}),
      "--http-allowed-origins is \"http://b,http://c\"" + rest + "; give the flag once for each.");

  variables = {{"BARAM_HTTP_ALLOWED_ORIGINS", "http://a, http://b/"}};
  EXPECT_EQ(Parse({}).status(), absl::FailedPreconditionError(
                                    "BARAM_HTTP_ALLOWED_ORIGINS is \"http://b/\"" + rest + "."));
  EXPECT_EQ(ExitCode(Parse({}).status()), kExitConfig);
  variables.clear();
  const baram::testing::ScratchFolder folder;
  const std::string file =
      folder.Write("baram.toml", "max-n = 3\nhttp-allowed-origins = [\"http://a,http://b\"]\n");
  EXPECT_EQ(Parse({"--config", file}).status(),
            absl::FailedPreconditionError("--config " + file +
                                          ", line 2: http-allowed-origins is "
                                          "\"http://a,http://b\"" +
                                          rest + "."));
  EXPECT_THAT(Parse({"--http-allowed-origins", "*"})->http_allowed_origins, ElementsAre("*"));
}

// An error names the place of the value, and is reported only if the value would count.
TEST_F(SettingsTest, WrongValuesNameTheirSource) {
  variables = {{"BARAM_PREFIX_CACHE", "maybe"}};
  EXPECT_EQ(Error({}), "BARAM_PREFIX_CACHE is \"maybe\" but must be true or false.");
  EXPECT_EQ(ExitCode(Parse({}).status()), kExitConfig);
  EXPECT_EQ(Error({"--no-prefix-cache"}), "");
  variables = {{"BARAM_MAX_N", "999"}};
  EXPECT_EQ(Error({}), "BARAM_MAX_N is \"999\" but must be a whole number from 1 to 128.");

  const baram::testing::ScratchFolder folder;
  const std::string bad = folder.Write("bad.toml", "# ours\nmax-n = 0\nprefix-cache = maybe\n");
  // The variable overrides line 2.
  EXPECT_THAT(Error({"--config", bad}), HasSubstr("line 3: prefix-cache is"));
  variables.clear();
  EXPECT_EQ(
      Error({"--config", bad}),
      "--config " + bad + ", line 2: max-n is \"0\" but must be a whole number from 1 to 128.");
  EXPECT_EQ(ExitCode(Parse({"--config", bad}).status()), kExitConfig);
  EXPECT_THAT(Error({"--config", bad, "--max-n", "1"}),
              HasSubstr("line 3: prefix-cache is \"maybe\" but must be true or false."));
  EXPECT_EQ(Error({"--config", bad, "--max-n", "1", "--prefix-cache"}), "");
  variables = {{"BARAM_CONFIG", bad}};
  EXPECT_THAT(Error({}), HasSubstr("BARAM_CONFIG " + bad + ", line 2: max-n is"));
}

// Errors found later are reported in the same way.
TEST_F(SettingsTest, ValuesThatTurnOutWrongNameTheirSource) {
  const auto told = [&](const std::vector<std::string>& args, const absl::Status& error) {
    return WithSource(BlameSetting(error, "max-n"), *Parse(args));
  };
  const absl::Status wrong = absl::InvalidArgumentError("max-n is 3 but must be less.");
  EXPECT_EQ(told({"--max-n", "3"}, wrong),
            absl::InvalidArgumentError("--max-n is 3 but must be less."));
  EXPECT_EQ(told({}, wrong), absl::FailedPreconditionError("--max-n is 3 but must be less."));
  variables = {{"BARAM_MAX_N", "3"}};
  EXPECT_EQ(told({}, wrong), absl::FailedPreconditionError("BARAM_MAX_N is 3 but must be less."));
  EXPECT_EQ(told({}, absl::FailedPreconditionError("Too many.")),
            absl::FailedPreconditionError("BARAM_MAX_N: Too many."));
  // The value may be valid, and what it names may not exist.
  EXPECT_EQ(told({"--max-n", "3"}, absl::NotFoundError("There is none.")),
            absl::NotFoundError("--max-n: There is none."));
  variables.clear();
  const baram::testing::ScratchFolder folder;
  const std::string file = folder.Write("baram.toml", "\nmax-n = 3\n");
  EXPECT_EQ(
      told({"--config", file}, wrong),
      absl::FailedPreconditionError("--config " + file + ", line 2: max-n is 3 but must be less."));
  EXPECT_EQ(WithSource(wrong, *Parse({"--max-n", "3"})), wrong) << "nothing is blamed";
}

TEST_F(SettingsTest, AFoldersNameThatCantBeServedNamesItsSource) {
  const auto parse = [](std::vector<std::string> args) {
    return ParseSettings(args, TestEnvironment).status();
  };
  const std::string another = "; give the model another name with --served-model-name.";
  for (const auto& [folder, fault] : {std::pair("a\nb", "holds a control character"),
                                      std::pair("./\xb8\xf0\xb5\xa8", "is not valid UTF-8")}) {
    variables.clear();
    const std::string rest = absl::StrCat(": the folder's name ", fault, another);
    EXPECT_EQ(parse({"--model", folder}), absl::InvalidArgumentError("--model" + rest));
    EXPECT_TRUE(parse({"--model", folder, "--served-model-name", "모델"}).ok());
    variables = {{"BARAM_MODEL", folder}};
    EXPECT_EQ(parse({}), absl::FailedPreconditionError("BARAM_MODEL" + rest));
  }
}

TEST_F(SettingsTest, ACallWithoutADeadlineHasNoMoreThanAnyOther) {
  EXPECT_EQ(Parse({"--max-request-timeout", "60"})->request_timeout_s, 60);
  EXPECT_EQ(Parse({"--max-request-timeout", "900"})->request_timeout_s, 600);
  EXPECT_EQ(Parse({"--request-timeout", "3600"})->request_timeout_s, 3600);
  EXPECT_EQ(Error({"--request-timeout", "3600.5"}),
            "--request-timeout is 3600.5 but must be at most max-request-timeout, 3600.");
  variables = {{"BARAM_REQUEST_TIMEOUT", "70"}};
  EXPECT_EQ(Parse({"--max-request-timeout", "60"}).status(),
            absl::FailedPreconditionError(
                "BARAM_REQUEST_TIMEOUT is 70 but must be at most max-request-timeout, 60."));
}

TEST_F(SettingsTest, TheShareOfAGpuReachesTheEngine) {
  EXPECT_EQ(ToEngineConfig(*Parse({})).gpu_memory_utilization, 0.9);
  variables = {{"BARAM_GPU_MEMORY_UTILIZATION", "0.45"}};
  EXPECT_EQ(ToEngineConfig(*Parse({})).gpu_memory_utilization, 0.45);
  EXPECT_EQ(
      Error({"--gpu-memory-utilization", "2"}),
      "--gpu-memory-utilization is \"2\" but must be a share from 0.01 to 1, not a percentage.");
}

TEST_F(SettingsTest, TextsAreBoundedByTheContext) {
  Config config;
  EXPECT_EQ(MaxPromptBytes(config, 512), 256 << 10);
  EXPECT_EQ(MaxPromptBytes(config, 8192), 512 << 10);
  EXPECT_EQ(MaxPromptBytes(config, 1 << 20), 4 << 20);
  const auto texts = [&config] {
    const std::vector<MemoryBudget::Part> parts = ToEngineConfig(config).host_parts(8192);
    EXPECT_EQ(parts.size(), 2u);
    EXPECT_GT(parts[0].bytes, 1 << 20) << "the process as it is";
    return parts[1].bytes;
  };
  EXPECT_EQ(texts(), 350 * (512 << 10));
  config.max_prompt_bytes = 1000;
  config.text_threads = 4;
  EXPECT_EQ(MaxPromptBytes(config, 8192), 1000);
  EXPECT_EQ(texts(), 3 * 350'000);
}

// The advice says "There is no ...", so it must not be given for flags that exist.
TEST_F(SettingsTest, NoForeignFlagIsASetting) {
  std::set<std::string> own;
  for (const Group& group : SettingsTable()) {
    for (const Setting& setting : group.settings) {
      own.insert("--" + std::string(setting.name));
      if (setting.kind == Kind::kSwitch) own.insert("--no-" + std::string(setting.name));
    }
  }
  ASSERT_FALSE(ForeignFlags().empty());
  for (const std::string_view flag : ForeignFlags()) {
    EXPECT_EQ(own.count(std::string(flag)), 0u) << flag;
  }
}

TEST_F(SettingsTest, WhatWasProbablyMeant) {
  EXPECT_THAT(Error({"--ctx-size", "4096"}), HasSubstr("--max-model-len"));
  EXPECT_THAT(Error({"-c", "4096"}), HasSubstr("--max-model-len"));
  EXPECT_THAT(Error({"-ngl", "99"}), HasSubstr("--device"));
  EXPECT_THAT(Error({"--kv-cache-memory-bytes=1g"}), HasSubstr("--kv-cache-bytes"));
  EXPECT_THAT(Error({"--port", "8000"}), HasSubstr("--http-listen"));
  EXPECT_EQ(Error({"--kv-cache-dtype", "fp8"}),
            "There is no --kv-cache-dtype: the cache is bf16, and fp32 with --device ref.");
  EXPECT_THAT(Error({"--load-format", "auto"}), HasSubstr("safetensors"));
  EXPECT_THAT(Error({"--tokenizer=x"}), HasSubstr("the model folder's"));
  EXPECT_EQ(Error({"--max-model-length", "5"}),
            "There is no --max-model-length. Did you mean --max-model-len?");
  EXPECT_THAT(Error({"--xyzzy"}), HasSubstr("--help"));
  EXPECT_THAT(Error({"stray"}), HasSubstr("a setting is written --name VALUE"));
  EXPECT_THAT(Error({"--grpc-address", "a:1"}), HasSubstr("--grpc-listen"));
  EXPECT_THAT(Error({"--max-waiting=7"}), HasSubstr("--max-queued-requests"));
  EXPECT_THAT(Error({"--disable-log-stats"}), HasSubstr("/metrics"));
  EXPECT_THAT(Error({"--root-path", "/x"}), HasSubstr("a proxy in front"));
  EXPECT_THAT(Error({"--max-seq-len-to-capture", "8192"}), HasSubstr("--enforce-eager"));
  EXPECT_EQ(Error({"--max-num-queued-reqs", "100"}),
            "There is no --max-num-queued-reqs. Use --max-queued-requests instead.");
  EXPECT_THAT(Error({"--max-num-queued-tokens", "1"}),
              HasSubstr("Use --max-queued-tokens instead."));
  EXPECT_THAT(Error({"--num-gpu-blocks-override=9"}), HasSubstr("Use --kv-cache-bytes instead."));
  EXPECT_THAT(Error({"--long-prefill-token-threshold=9"}),
              HasSubstr("Use --max-chunk-tokens instead."));
  EXPECT_THAT(Error({"--predict", "64"}), HasSubstr("Use max_tokens in each request ("));
  EXPECT_THAT(Error({"--threads-http", "4"}), HasSubstr("Use --http-threads instead."));
  EXPECT_THAT(Error({"-tb", "4"}), HasSubstr("Use --threads instead."));
  EXPECT_THAT(Error({"--threads-batch", "4"}), HasSubstr("Use --threads instead."));
  EXPECT_THAT(Error({"--cache-prompt"}), HasSubstr("Use --prefix-cache instead."));
  EXPECT_THAT(Error({"--no-cache-prompt"}), HasSubstr("Use --no-prefix-cache instead."));
  EXPECT_THAT(Error({"-lv", "1"}), HasSubstr("Use --log-level instead."));
  EXPECT_THAT(Error({"--log-verbosity", "1"}), HasSubstr("Use --log-level instead."));
  EXPECT_THAT(Error({"--top-k", "40"}), HasSubstr("Use top_k in each request instead."));
  EXPECT_THAT(Error({"--top-p", "0.9"}), HasSubstr("Use top_p in each request instead."));
  EXPECT_THAT(Error({"--min-p", "0.1"}), HasSubstr("Use min_p in each request instead."));
  EXPECT_THAT(Error({"--repeat-penalty", "1.1"}),
              HasSubstr("Use repetition_penalty in each request instead."));
}

// As vLLM takes its model.
TEST_F(SettingsTest, AFolderWithoutItsFlagIsRecognized) {
  const std::vector<std::string> args = {"--max-n", "2", "./m=1"};
  EXPECT_EQ(ParseSettings(args, TestEnvironment).status().message(),
            "\"./m=1\" is not expected here; did you mean --model ./m=1?");
}

TEST_F(SettingsTest, ItemsOfAVariable) {
  variables = {{"BARAM_HTTP_ALLOWED_ORIGINS", "http://a, http://b,"}};
  const auto config = Parse({});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->http_allowed_origins, ElementsAre("http://a", "http://b"));
  variables = {{"BARAM_HTTP_ALLOWED_ORIGINS", "a,,b"}};
  EXPECT_EQ(Error({}), "BARAM_HTTP_ALLOWED_ORIGINS is \"a, , b\" but must have no empty item.");
}

TEST_F(SettingsTest, ValuesThatAreMissing) {
  EXPECT_EQ(Error({"--max-n"}), "--max-n needs a value.");
  EXPECT_EQ(Error({"--prefix-cache=maybe"}),
            "--prefix-cache is \"maybe\" but must be true or false.");
  EXPECT_EQ(Error({"--no-prefix-cache=99999999999999999999"}),
            "--no-prefix-cache is \"99999999999999999999\" but must be true or false.");
  EXPECT_TRUE(Parse({"--no-prefix-cache", "--prefix-cache"})->prefix_cache);
  EXPECT_TRUE(Parse({"--no-prefix-cache=false"})->prefix_cache);
}

TEST(UnknownVariablesTest, AreNamedWithTheNearest) {
  const std::vector<std::string> entries = {
      "BARAM_MAX_NUM_SEQ=3", "BARAM_XYZZY=", "BARAM_MAX_N=3", "BARAM_CONFIG=x", "BARAM_SERVER=x",
      "PATH=BARAM_", "BARAMX=1",
      // Kubernetes's, for services named baram and baram-http.
      "BARAM_SERVICE_HOST=10.0.0.1", "BARAM_SERVICE_PORT_HTTP=8000",
      "BARAM_PORT=tcp://10.0.0.1:8000", "BARAM_PORT_8000_TCP_ADDR=10.0.0.1",
      "BARAM_HTTP_PORT_8000_TCP=tcp://10.0.0.1:8000"};
  EXPECT_THAT(
      UnknownVariables(entries, "bin/baram"),
      ElementsAre("the variable BARAM_MAX_NUM_SEQ is no setting. Did you mean "
                  "BARAM_MAX_NUM_SEQS?",
                  "the variable BARAM_XYZZY is no setting; bin/baram serve --help lists them"));
}

TEST(ArgumentsTest, NumbersOfAsk) {
  const auto complaint = [](std::vector<std::string> args) {
    std::optional<float> temperature;
    std::optional<uint32_t> top_k;
    absl::Status error;
    CLI::App app;
    AddNumber("--temperature", &temperature, app, error);
    AddNumber("--top-k", &top_k, app, error);
    error.Update(ParseArguments(args, app));
    if (const auto unknown = UnknownArgument(app); error.ok() && unknown) {
      return DescribeUnknown(*unknown, app);
    }
    return std::string(error.message());
  };
  EXPECT_EQ(complaint({"--temperature", "0.5", "--top-k", "3"}), "");
  EXPECT_EQ(complaint({"--temperature", "abc"}), "--temperature is \"abc\" but must be a number.");
  EXPECT_EQ(complaint({"--temperature=1x"}), "--temperature is \"1x\" but must be a number.");
  EXPECT_EQ(complaint({"--top-k", "-1"}),
            "--top-k is \"-1\" but must be a whole number from 0 to 4294967295.");
  EXPECT_EQ(complaint({"--top-k", "4294967296"}),
            "--top-k is \"4294967296\" but must be a whole number from 0 to 4294967295.");
  EXPECT_EQ(complaint({"--top-k"}), "--top-k needs a value.");
  EXPECT_EQ(complaint({"--temprature", "1"}),
            "There is no --temprature. Did you mean --temperature?");
}

TEST_F(SettingsTest, TheModelIsRequired) {
  const auto config = ParseSettings(std::vector<std::string>{}, TestEnvironment);
  EXPECT_THAT(std::string(config.status().message()), HasSubstr("--model"));
  EXPECT_EQ(ExitCode(config.status()), kExitUsage);
  variables = {{"BARAM_MODEL", "/models/x"}};
  EXPECT_EQ(ParseSettings(std::vector<std::string>{}, TestEnvironment)->model, "/models/x");
}

TEST_F(SettingsTest, HelpAndDescriptionShowEverySetting) {
  const std::string help = SettingsHelp(Command::kServe);
  const std::string shown = DescribeSettings(*Parse({"--max-n", "3"}));
  for (const char* name : {"model", "max-model-len", "grpc-listen", "drain-limit", "log-level"}) {
    EXPECT_THAT(help, HasSubstr(std::string("--") + name));
    EXPECT_THAT(shown, HasSubstr(name));
  }
  EXPECT_THAT(help, HasSubstr("BARAM_MAX_MODEL_LEN"));
  EXPECT_THAT(help, HasSubstr("\n  129, 130, 143  "));
  EXPECT_THAT(shown, HasSubstr("  * max-n                     3\n"));
  EXPECT_THAT(shown, HasSubstr("    max-body-bytes            8MiB\n"));
  EXPECT_THAT(shown, HasSubstr("    served-model-name         some\n"));
  EXPECT_THAT(DescribeSettings(*Parse({"--served-model-name", "x"})),
              HasSubstr("  * served-model-name         x\n"));
  for (size_t begin = 0, end; (end = help.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    EXPECT_LE(end - begin, 100u) << help.substr(begin, end - begin);
  }
}

TEST_F(SettingsTest, HelpSaysWhatZeroMeans) {
  std::string help = SettingsHelp(Command::kServe);
  help.erase(std::unique(help.begin(), help.end(),
                         [](char a, char b) { return std::isspace(a) && std::isspace(b); }),
             help.end());
  std::ranges::replace(help, '\n', ' ');
  for (const Group& group : SettingsTable()) {
    for (const Setting& s : group.settings) {
      const bool number = std::holds_alternative<int32_t Config::*>(s.member) ||
                          std::holds_alternative<int64_t Config::*>(s.member);
      EXPECT_FALSE(s.help.empty()) << s.name;
      EXPECT_TRUE(s.kind == Kind::kText || s.kind == Kind::kChoice || s.kind == Kind::kEndpoint ||
                  s.kind == Kind::kSwitch || s.kind == Kind::kList || s.min < s.max)
          << s.name << " takes nothing";
      if (!number || s.unset.empty()) continue;
      EXPECT_EQ(s.min, 0) << s.name;
      EXPECT_THAT(help, HasSubstr(absl::StrCat("[", Variable(s.name),
                                               "; default: 0 = ", std::string(s.unset), "]")));
    }
  }
  EXPECT_THAT(help, HasSubstr("BARAM_THREADS; default: 0 = the cores this process may use]"));
}

TEST(ExitCodeTest, SaysWhoseFaultItIs) {
  EXPECT_EQ(ExitCode(absl::InvalidArgumentError("a flag")), 64);
  EXPECT_EQ(ExitCode(absl::DataLossError("a broken model")), 65);
  EXPECT_EQ(ExitCode(absl::UnimplementedError("a model that can't be served")), 65);
  EXPECT_EQ(ExitCode(absl::NotFoundError("no such folder")), 66);
  EXPECT_EQ(ExitCode(absl::PermissionDeniedError("not to be read")), 66);
  EXPECT_EQ(ExitCode(absl::FailedPreconditionError("a setting")), 78);
}

}  // namespace
}  // namespace baram::server
