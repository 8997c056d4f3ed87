// baram inspect: reports about a folder what `baram serve` would, in the same words and with the
// same exit codes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "server/exit_codes.h"
#include "server/settings.h"
#include "tests/model/scratch_folder.h"
#include "tests/server/program.h"
#include "tests/server/tiny_folder.h"

namespace baram::testing {
namespace {

using ::testing::HasSubstr;

class InspectTest : public ::testing::Test {
 protected:
  Ran Inspect(const std::string& more = "") {
    return RunShell("$BARAM inspect --model " + path() + more);
  }
  // The output of serve when it rejects the folder.
  Ran Serve(const std::string& more = "") {
    return RunShell(
        "$BARAM serve --grpc-listen 127.0.0.1:0 --http-listen off --metrics-listen off --model " +
        path() + more);
  }
  std::string path() const { return folder_.path(); }
  std::filesystem::path File(const char* name) const {
    return std::filesystem::path(path()) / name;
  }
  void Write(const char* name, const std::string& text) { std::ofstream(File(name)) << text; }
  // Replaces the text `old` in a file with `words`.
  void Replace(const char* name, const std::string& old, const std::string& words) {
    std::ifstream file(File(name));
    std::string text(std::istreambuf_iterator<char>(file), {});
    Write(name, text.replace(text.find(old), old.size(), words));
  }
  void SetVocabSize(int ids) {
    const std::string vocab_size = "\"vocab_size\":";
    Replace("config.json", vocab_size + std::to_string(vocab_size_),
            vocab_size + std::to_string(ids));
    vocab_size_ = ids;
  }
  // The sentence after "servable  no: ".
  static std::string Reason(const Ran& ran) {
    const std::string begin = " no: ";
    const size_t at = ran.output.find(begin);
    if (at == std::string::npos) return "no reason in: " + ran.output;
    const size_t from = at + begin.size();
    return ran.output.substr(from, ran.output.find('\n', from) - from);
  }

  TinyFolder folder_;
  int vocab_size_ = TinyFolder::kVocabSize;
};

TEST_F(InspectTest, AWholeFolderIsServable) {
  const Ran ran = Inspect();
  EXPECT_EQ(ran.code, 0) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("tokenizer            706 tokens"));
  EXPECT_THAT(ran.output, HasSubstr("chat template        yes"));
  EXPECT_THAT(ran.output, HasSubstr("servable             yes"));
}

// A line of `serve` with the other subcommand.
TEST_F(InspectTest, TakesAndChecksAllSettingsOfServe) {
  EXPECT_EQ(Inspect(" --max-n 3 --http-listen off").code, 0);
  const Ran wrong = Inspect(" --max-n 0");
  EXPECT_EQ(wrong.code, server::kExitUsage);
  EXPECT_THAT(wrong.output,
              HasSubstr("--max-n is \"0\" but must be a whole number from 1 to 128."));
}

TEST_F(InspectTest, AFolderWithoutAChatTemplateServesPrompts) {
  std::filesystem::remove(File("chat_template.jinja"));
  std::filesystem::remove(File("tokenizer_config.json"));
  const Ran ran = Inspect();
  EXPECT_EQ(ran.code, 0) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("chat template        none: chats are refused"));
}

TEST_F(InspectTest, TellsEosIdsThatAreNeverDrawn) {
  Write("generation_config.json", R"({"eos_token_id":[700,9999]})");
  const Ran ran = Inspect();
  EXPECT_EQ(ran.code, 0) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("EOS ids              702, 700\n"));
  EXPECT_THAT(ran.output, HasSubstr("ignored EOS ids      9999: they are never drawn\n"));
  EXPECT_THAT(Inspect(" --kv-cache-bytes 1").output, HasSubstr("EOS ids              702, 700\n"))
      << "it need not fit";
}

TEST_F(InspectTest, RefusesATokenizerOfAnotherModel) {
  SetVocabSize(60);
  for (const Ran& ran : {Inspect(), Serve()}) {
    EXPECT_EQ(ran.code, server::kExitData) << ran.output;
    EXPECT_THAT(ran.output,
                HasSubstr("for even the simplest text, but vocab_size of config.json is 60"));
  }
}

TEST_F(InspectTest, TellsTokensThatTheModelLacks) {
  SetVocabSize(704);
  EXPECT_THAT(Inspect().output,
              HasSubstr("706 tokens, more than the model has: prompts that hold one of the rest "));
}

TEST_F(InspectTest, TellsTheEosIdOfTheTokenizerFirst) {
  Replace("config.json", "\"eos_token_id\":702", "\"eos_token_id\":701");
  Write("generation_config.json", R"({"eos_token_id":[700,702]})");
  EXPECT_THAT(Inspect().output, HasSubstr("EOS ids              702, 701, 700\n"));
  Replace("config.json", "\"eos_token_id\":701", "\"eos_token_id\":null");
  Write("generation_config.json", "{}");
  EXPECT_THAT(Inspect().output, HasSubstr("EOS ids              702\n"));
  Write("tokenizer_config.json", "{}");
  std::filesystem::remove(File("special_tokens_map.json"));
  EXPECT_THAT(Inspect().output, HasSubstr("EOS ids              none: replies end at their "));
}

TEST_F(InspectTest, ALimitOnItsMemoryIsTheMachines) {
  const Ran ran =
      RunShell("ulimit -v 2000000; $BARAM inspect --threads 1 --device cpu --model " + path());
  EXPECT_THAT(ran.output, HasSubstr("memory               2.05 GB\n"));
}

TEST_F(InspectTest, TellsATemplateThatRefusesEveryChat) {
  constexpr char kRow[] = "chat template        ";
  Write("chat_template.jinja",
        "{% if messages[0].role != 'system' %}{{ raise_exception('No.') }}"
        "{% endif %}{{ messages | length }}");
  EXPECT_THAT(Inspect().output, HasSubstr(std::string(kRow) + "yes\n"));
  const std::string refuses = std::string(kRow) + "may refuse all chats, as it does the shortest: ";
  Write("chat_template.jinja", "{{ raise_exception('No.') }}");
  const Ran ran = Inspect();
  EXPECT_EQ(ran.code, 0) << "plain prompts are served";
  EXPECT_THAT(ran.output, HasSubstr(refuses + "No.\n"));
  Write("chat_template.jinja", "{% set x = 1 %}");
  EXPECT_THAT(Inspect().output, HasSubstr(refuses + "its prompt is empty.\n"));
}

TEST_F(InspectTest, SaysOfTheTextWhatServeSays) {
  const auto expect = [&](int code, const char* file) {
    const Ran ran = Inspect();
    EXPECT_EQ(ran.code, code) << ran.output;
    EXPECT_THAT(Reason(ran), HasSubstr(file));
    EXPECT_THAT(ran.output, HasSubstr("architecture         LlamaForCausalLM"))
        << "the rest is told";
    const Ran serve = Serve();
    EXPECT_EQ(serve.code, code) << serve.output;
    EXPECT_THAT(serve.output, HasSubstr(Reason(ran)));
  };
  Write("chat_template.jinja", "{% for %}");
  expect(server::kExitData, "chat_template.jinja");
  Write("tokenizer.json", "{");
  expect(server::kExitData, "tokenizer.json");
  std::filesystem::remove(File("tokenizer.json"));
  expect(server::kExitNoInput, "tokenizer.json");
  // Two reasons at once.
  std::filesystem::resize_file(File("model.safetensors"), 1000);
  const Ran both = Inspect();
  EXPECT_EQ(both.code, server::kExitNoInput);
  EXPECT_THAT(both.output, HasSubstr("and: "));
  EXPECT_THAT(both.output, HasSubstr("model.safetensors"));
}

// If there are several reasons, the one that serve meets first.
TEST_F(InspectTest, FindsErrorsInTheOrderOfServe) {
  const auto expect = [&](int code, const std::string& more, const char* words) {
    const Ran ran = Inspect(more);
    const Ran serve = Serve(more);
    EXPECT_EQ(ran.code, code) << ran.output;
    EXPECT_EQ(serve.code, code) << serve.output;
    EXPECT_THAT(ran.output, HasSubstr(words));
    EXPECT_THAT(serve.output, HasSubstr(words));
  };
  // Too little memory for a cache, before the weights are examined.
  std::filesystem::resize_file(File("model.safetensors"), 1000);
  expect(server::kExitUsage, " --kv-cache-bytes 1", "--kv-cache-bytes 1 are too few");
  expect(server::kExitUsage, " --max-model-len 100000", "the model was made for contexts");
  // The text, before an unreadable config.
  Write("config.json", "{");
  expect(server::kExitData, "", "config.json");
  std::filesystem::remove(File("tokenizer.json"));
  expect(server::kExitNoInput, "", "tokenizer.json");
}

TEST_F(InspectTest, TellsAFolderOfAnotherFormat) {
  const auto expect = [&](const char* words) {
    for (const Ran& ran : {Inspect(), Serve()}) {
      EXPECT_EQ(ran.code, server::kExitNoInput) << ran.output;
      EXPECT_THAT(ran.output, HasSubstr(words));
    }
  };
  std::filesystem::remove(File("tokenizer.json"));
  Write("tokenizer.model", "");
  expect("The folder holds tokenizer.model, which is not read");
  std::filesystem::remove(File("config.json"));
  Write("tiny.gguf", "");
  expect("has no config.json: it is not a model as Hugging Face lays it out; it holds");
}

// More shards than the shell lets a process open, before it raises the limit.
TEST_F(InspectTest, OpensAllShards) {
  std::string index;
  for (int i = 0; i < 64; ++i) {
    const std::string name = "t" + std::to_string(i);
    Write((name + ".safetensors").c_str(),
          SafetensorsBytes("{\"" + name + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
                           ""));
    index += (index.empty() ? "\"" : ",\"") + name + "\":\"" + name + ".safetensors\"";
  }
  std::filesystem::remove(File("model.safetensors"));
  Write("model.safetensors.index.json", R"({"weight_map":{)" + index + "}}");
  const Ran ran = RunShell("ulimit -Sn 48; $BARAM inspect --model " + path());
  EXPECT_EQ(ran.code, server::kExitData);
  EXPECT_THAT(Reason(ran),
              HasSubstr("tensor model.embed_tokens.weight of shape [720, 64] is missing"));
}

TEST_F(InspectTest, LooksAtTheTemplateItIsGiven) {
  Write("mine.jinja", "{{ broken");
  const Ran broken = Inspect(" --chat-template " + File("mine.jinja").string());
  EXPECT_EQ(broken.code, server::kExitData) << broken.output;
  EXPECT_THAT(Reason(broken), HasSubstr("mine.jinja"));
  const Ran missing = Inspect(" --chat-template " + File("none.jinja").string());
  EXPECT_EQ(missing.code, server::kExitNoInput) << missing.output;
}

}  // namespace
}  // namespace baram::testing
