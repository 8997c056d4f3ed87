// A model folder is untrusted input: whatever its files hold, loading returns a status and never
// crashes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <random>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "server/text/tokenizer.h"
#include "tests/text/text_data.h"

namespace baram::text {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

absl::Status LoadWith(std::string_view tokenizer_json, std::string_view config = "{}",
                      std::string_view special_tokens_map = "{}") {
  const ScratchFolder folder;
  folder.Write("tokenizer.json", tokenizer_json);
  folder.Write("tokenizer_config.json", config);
  folder.Write("special_tokens_map.json", special_tokens_map);
  return Tokenizer::Load(folder.path()).status();
}

TEST(HostileFolder, NamesTheFileThatIsMissing) {
  const ScratchFolder folder;
  const auto status = Tokenizer::Load(folder.path()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer.json"));
  const auto nowhere = Tokenizer::Load(folder.path() + "/nowhere").status();
  EXPECT_EQ(nowhere.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(std::string(nowhere.message()), "There is no folder " + folder.path() + "/nowhere.");
  std::filesystem::create_directory(folder.path() + "/tokenizer.json");
  EXPECT_EQ(Tokenizer::Load(folder.path()).status().code(), absl::StatusCode::kDataLoss);
  folder.Write("m.gguf", "");
  const auto file = Tokenizer::Load(folder.path() + "/m.gguf").status();
  EXPECT_EQ(file.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(std::string(file.message()), folder.path() + "/m.gguf is not a folder.");
}

TEST(HostileFolder, TellsAFileThatMayNotBeRead) {
  const ScratchFolder folder;
  folder.Write("tokenizer.json", "");
  chmod(folder.path().c_str(), 0755);
  chmod((folder.path() + "/tokenizer.json").c_str(), 0);
  const uid_t user = geteuid();
  // Root may read everything.
  ASSERT_EQ(seteuid(user == 0 ? 65534 : user), 0);
  const absl::Status status = Tokenizer::Load(folder.path()).status();
  ASSERT_EQ(seteuid(user), 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer.json: Permission denied"));
}

// Even for an optional file: without it the folder would mean something else.
TEST(HostileFolder, TellsALinkToWhatIsNotThere) {
  for (const std::string name : {"tokenizer.json", "tokenizer_config.json"}) {
    const ScratchFolder folder;
    folder.Write("tokenizer.json", ReadFile(DataPath("byte_level/tokenizer.json")));
    std::filesystem::remove(folder.path() + "/" + name);
    std::filesystem::create_symlink("../../blobs/x", folder.path() + "/" + name);
    const absl::Status status = Tokenizer::Load(folder.path()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name + " is a link to what is not there"));
  }
}

// Something other than a regular file, whatever its name, must neither block nor fill the memory.
TEST(HostileFolder, ReadsFilesOfKnownSizeOnly) {
  const ScratchFolder folder;
  folder.Write("tokenizer.json", ReadFile(DataPath("byte_level/tokenizer.json")));
  const std::string config = folder.path() + "/tokenizer_config.json";
  for (const char* endless : {"/proc/self/pagemap", "/proc/self/maps", "/dev/zero"}) {
    std::filesystem::create_symlink(endless, config);
    const absl::Status status = Tokenizer::Load(folder.path()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << endless << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer_config.json"));
    std::filesystem::remove(config);
  }
  ASSERT_EQ(mkfifo(config.c_str(), 0600), 0);
  EXPECT_EQ(Tokenizer::Load(folder.path()).status().code(), absl::StatusCode::kDataLoss);
  std::filesystem::remove(config);
  folder.Write("tokenizer_config.json", "{}");
  std::filesystem::resize_file(config, (16 << 20) + 1);
  EXPECT_THAT(std::string(Tokenizer::Load(folder.path()).status().message()),
              HasSubstr("has 16777217 bytes"));
}

TEST(HostileFolder, TellsAPointerFromATokenizer) {
  const absl::Status status = LoadWith("version https://git-lfs.github.com/spec/v1\nsize 9\n");
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("git lfs pull"));
}

TEST(HostileFolder, ATokenizerAloneIsEnough) {
  const ScratchFolder folder;
  folder.Write("tokenizer.json", ReadFile(DataPath("byte_level/tokenizer.json")));
  const auto tokenizer = Tokenizer::Load(folder.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->eos_id(), std::nullopt);
}

TEST(HostileFolder, RefusesEveryTruncation) {
  const std::string good = ReadFile(DataPath("sentencepiece/tokenizer.json"));
  ASSERT_TRUE(LoadWith(good).ok());
  for (size_t size = 0; size < good.size() - 2; size += 97) {
    EXPECT_EQ(LoadWith(good.substr(0, size)).code(), absl::StatusCode::kDataLoss) << size;
  }
}

TEST(HostileFolder, SurvivesDamagedBytes) {
  std::string good = ReadFile(DataPath("byte_level/tokenizer.json"));
  std::mt19937 random(3);
  int refused = 0;
  for (int round = 0; round < 200; ++round) {
    std::string bad = good;
    for (int i = 0; i < 3; ++i) bad[random() % bad.size()] = static_cast<char>(random());
    const auto status = LoadWith(bad);
    refused += !status.ok();
    EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kDataLoss) << status;
  }
  EXPECT_GT(refused, 100);
}

TEST(HostileFolder, RefusesWhatIsNoTokenizer) {
  const std::string deep = std::string(100000, '[');
  for (const std::string_view json :
       {std::string_view(""), std::string_view("null"), std::string_view("[]"),
        std::string_view("{}"), std::string_view("\xFF\xFE"), std::string_view(deep),
        // A decoder of the wrong type: the library panics on it.
        std::string_view(R"({"version":"1.0","added_tokens":[],"decoder":7,)"
                         R"("model":{"type":"BPE","vocab":{"a":0},"merges":[]}})"),
        // A merge of tokens that do not exist.
        std::string_view(R"({"version":"1.0","added_tokens":[],)"
                         R"("model":{"type":"BPE","vocab":{"a":0},"merges":["x y"]}})"),
        // Ids that would require a table of gigabytes.
        std::string_view(R"({"version":"1.0","added_tokens":[],"decoder":{"type":"Fuse"},)"
                         R"("model":{"type":"BPE","vocab":{"a":4000000000},"merges":[]}})"),
        // No tokens at all.
        std::string_view(R"({"version":"1.0","added_tokens":[],)"
                         R"("model":{"type":"BPE","vocab":{},"merges":[]}})")}) {
    const auto status = LoadWith(json);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << json.substr(0, 200);
    EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer.json"));
  }
}

// The library panics on such a map.
TEST(HostileFolder, SaysWhyAFileIsNoTokenizer) {
  auto json = nlohmann::json::parse(ReadFile(DataPath("byte_level/tokenizer.json")));
  json["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "AAAA"}};
  const absl::Status status = LoadWith(json.dump());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("precompiled_charsmap"));
}

// The library would assign them different ids, and the model would get unknown tokens.
TEST(HostileFolder, RefusesAddedTokensThatLeaveAGap) {
  auto json = nlohmann::json::parse(ReadFile(DataPath("byte_level/tokenizer.json")));
  const ScratchFolder alone;
  alone.Write("tokenizer.json", json.dump());
  const int next = Tokenizer::Load(alone.path()).value()->vocab_size();
  const auto load = [&](int id) {
    auto token = json["added_tokens"][0];
    token["id"] = id;
    token["content"] = "<x>";
    auto longer = json;
    longer["added_tokens"].push_back(token);
    return LoadWith(longer.dump());
  };
  EXPECT_TRUE(load(next).ok());
  const absl::Status status = load(900);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("tokenizer.json declares the token \"<x>\" as 900, where " +
                        std::to_string(next) + " is next."));
}

// Its special tokens are first looked up when a text is tokenized: every request would fail.
TEST(HostileFolder, RefusesAPostProcessorThatCannotWork) {
  const auto load = [](std::string_view single, std::string_view special_tokens) {
    return LoadWith(std::string(R"({"version":"1.0","added_tokens":[],"decoder":{"type":"Fuse"},)"
                                R"("model":{"type":"BPE","vocab":{"a":0},"merges":[]},)"
                                R"("post_processor":{"type":"TemplateProcessing","pair":[],)") +
                    R"("single":[)" + std::string(single) + R"(],"special_tokens":{)" +
                    std::string(special_tokens) + "}}}");
  };
  const std::string a = R"({"Sequence":{"id":"A","type_id":0}})";
  const std::string begin = R"({"SpecialToken":{"id":"<s>","type_id":0}},)";
  EXPECT_TRUE(load(begin + a, R"("<s>":{"id":"<s>","ids":[0],"tokens":["a"]})").ok());
  for (const absl::Status& status :
       {load(begin + a, ""), load(begin + a, R"("<s>":{"id":"<s>","ids":[7],"tokens":["a"]})"),
        load(begin + a, R"("<s>":{"id":"<s>","ids":[4294967295],"tokens":["a"]})")}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer.json has a post_processor"));
  }
  // If it also fails without special tokens, the post-processor need not be the cause.
  const absl::Status fails = load(R"({"Sequence":{"id":"B","type_id":0}})", "");
  EXPECT_EQ(fails.code(), absl::StatusCode::kDataLoss) << fails;
  EXPECT_THAT(std::string(fails.message()),
              HasSubstr("tokenizer.json can't tokenize an empty text: "));
}

// They fail on every text that has a character.
TEST(HostileFolder, RefusesATokenizerThatTokenizesNothing) {
  const auto good = nlohmann::json::parse(ReadFile(DataPath("byte_level/tokenizer.json")));
  const auto load = [&](std::string_view key, std::string_view value) {
    auto json = good;
    json[key] = nlohmann::json::parse(value);
    if (key == "model") json["added_tokens"].clear();
    return LoadWith(json.dump());
  };
  ASSERT_TRUE(LoadWith(good.dump()).ok());
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {"pre_tokenizer", R"({"type":"FixedLength","length":0})", "can't tokenize a short text"},
      {"normalizer", R"({"type":"Replace","pattern":{"String":""},"content":"x"})",
       "can't tokenize a short text"},
      {"normalizer", R"({"type":"Replace","pattern":{"Regex":"[\\s\\S]"},"content":""})",
       "makes no tokens"},
      {"model", R"({"type":"BPE","vocab":{"\n\n":0},"merges":[]})", "makes no tokens"},
      {"post_processor",
       R"({"type":"TemplateProcessing","single":[],"pair":[],)"
       R"("special_tokens":{}})",
       "makes no tokens"},
  };
  for (const auto& [key, value, sentence] : cases) {
    const absl::Status status = load(key, value);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << value;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string("tokenizer.json ")));
    EXPECT_THAT(std::string(status.message()), HasSubstr(sentence)) << value;
  }
  // A tokenizer that knows few characters accepts texts of those.
  for (const char* model : {R"({"type":"BPE","vocab":{"a":0},"merges":[]})",
                            R"({"type":"WordLevel","vocab":{"a":0},"unk_token":"<unk>"})",
                            R"({"type":"WordPiece","vocab":{"a":0},"unk_token":"<unk>",)"
                            R"("continuing_subword_prefix":"##","max_input_chars_per_word":9})",
                            R"({"type":"Unigram","vocab":[["a",0.0]]})"}) {
    EXPECT_TRUE(load("model", model).ok()) << model;
  }
}

// The library panics on replacing an empty match.
TEST(HostileFolder, APanicTellsItsPlaceAndNothingOfTheText) {
  auto json = nlohmann::json::parse(ReadFile(DataPath("byte_level/tokenizer.json")));
  json["normalizer"] = {{"type", "Replace"}, {"pattern", {{"Regex", "(?=é)"}}}, {"content", "x"}};
  const ScratchFolder folder;
  folder.Write("tokenizer.json", json.dump());
  const auto tokenizer = Tokenizer::Load(folder.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (int call = 0; call < 2; ++call) {
    const absl::Status status = (*tokenizer)->Encode("é secret", true).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()),
                testing::MatchesRegex("The text library failed at .+\\.rs:[0-9]+:[0-9]+\\."));
  }
  EXPECT_TRUE((*tokenizer)->Encode("", true).ok());
}

TEST(HostileFolder, ItsTextsForgeNoLinesAndSteerNoTerminal) {
  const auto status = LoadWith(R"({"version":"1.0","added_tokens":[],"model":{"type":"BPE",)"
                               R"("vocab":{"a":0},"merges":["\u001b[2J\u009b2J\ud55c y"]}})");
  EXPECT_THAT(std::string(status.message()), HasSubstr("\\u001b[2J\\u009b2J한"));
  const auto forged = LoadWith(R"({"version":"2.0\ninfo ready: \u202e\u2069"})");
  EXPECT_THAT(std::string(forged.message()), HasSubstr("\\u000ainfo ready: \\u202e\\u2069"));
  std::string syllables;
  for (int i = 0; i < 1000; ++i) syllables += "한";
  const auto cut = LoadWith(R"({"version":")" + syllables + "\"}");
  EXPECT_LT(cut.message().size(), 520);
  EXPECT_THAT(std::string(cut.message()), EndsWith("한..."));
}

TEST(HostileFolder, RefusesADecoderThatCannotStream) {
  const auto status =
      LoadWith(R"({"version":"1.0","added_tokens":[],"decoder":{"type":"WordPiece","prefix":"##",)"
               R"("cleanup":true},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})");
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/tokenizer.json: its decoder"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("WordPiece"));
}

TEST(HostileFolder, RefusesADecoderThatMakesTooMuchOfTheTokens) {
  auto json = nlohmann::json::parse(ReadFile(DataPath("sentencepiece/tokenizer.json")));
  json["decoder"] = {{"type", "Replace"},
                     {"pattern", {{"Regex", "^.*$"}}},
                     {"content", std::string(1 << 20, 'x')}};
  const absl::Status status = LoadWith(json.dump());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("/tokenizer.json: its decoder makes more than 67108864 bytes"));
}

TEST(HostileFolder, RefusesAConfigOfTheWrongShape) {
  const std::string good = ReadFile(DataPath("byte_level/tokenizer.json"));
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"[", "not JSON"},
      {"[]", "not a JSON object"},
      {R"({"bos_token":1})", "bos_token"},
      {R"({"eos_token":{"text":"x"}})", "eos_token"},
      {R"({"split_special_tokens":"yes"})", "split_special_tokens"},
      {R"({"added_tokens_decoder":[]})", "added_tokens_decoder"},
      {R"({"added_tokens_decoder":{"x":{"content":"a"}}})", "added_tokens_decoder"},
      {R"({"added_tokens_decoder":{"1":"a"}})", "added_tokens_decoder"},
      {R"({"extra_special_tokens":3})", "extra_special_tokens"},
  };
  for (const auto& [config, name] : cases) {
    const auto status = LoadWith(good, config);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << config;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(name)));
    EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer_config.json"));
  }
  for (const char* map : {"{", R"({"eos_token":5})", R"({"additional_special_tokens":[5]})"}) {
    const auto status = LoadWith(good, "{}", map);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << map;
    EXPECT_THAT(std::string(status.message()), HasSubstr("special_tokens_map.json")) << map;
  }
}

TEST(HostileFolder, TakesNamesFromTheOlderMap) {
  for (const char* map :
       {R"({"eos_token":{"content":"<|endoftext|>"}})", R"({"eos_token":"<|endoftext|>"})"}) {
    const ScratchFolder folder;
    folder.Write("tokenizer.json", ReadFile(DataPath("byte_level/tokenizer.json")));
    folder.Write("special_tokens_map.json", map);
    const auto tokenizer = Tokenizer::Load(folder.path());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ((*tokenizer)->eos_id(), (*tokenizer)->TokenToId("<|endoftext|>").value()) << map;
  }
}

}  // namespace
}  // namespace baram::text
