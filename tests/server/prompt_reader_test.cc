// PromptReader: what it cuts, what it keeps, what it refuses.
#include "server/prompt_reader.h"

#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "tests/text/text_data.h"

namespace baram::server {
namespace {

class PromptReaderTest : public ::testing::Test {
 protected:
  PromptReaderTest() {
    info_.vocab_size = 1000;
    info_.max_model_len = 100;
    Config config;
    config.max_prompt_bytes = 1000;
    reader_ = std::make_unique<PromptReader>(*tokenizer_, nullptr, info_, config);
  }
  // What is kept of a prompt of ids from 0 to `count` - 1.
  std::vector<int32_t> Kept(const Call& call, int32_t count) const {
    std::vector<int32_t> ids(count);
    std::iota(ids.begin(), ids.end(), 0);
    std::optional<size_t> cut_after;
    EXPECT_TRUE(reader_->Truncate(call, Prompt(ids), &ids, &cut_after).ok());
    EXPECT_EQ(cut_after.has_value(), std::ssize(ids) < count);
    return ids;
  }

  const std::unique_ptr<text::Tokenizer> tokenizer_ = text::LoadTokenizer("byte_level");
  EngineInfo info_;
  std::unique_ptr<PromptReader> reader_;
};

TEST_F(PromptReaderTest, CutsToTheContextLessTheReply) {
  Call call;
  call.truncate_prompt_tokens = -1;
  EXPECT_EQ(Kept(call, 300).size(), 99u);
  EXPECT_EQ(Kept(call, 300).back(), 299) << "the end is kept";
  call.max_tokens = 30;
  EXPECT_EQ(Kept(call, 300).size(), 70u);
  EXPECT_EQ(Kept(call, 70).size(), 70u);
  call.max_tokens = 150;  // refused later
  EXPECT_EQ(Kept(call, 300), std::vector<int32_t>{299});
}

TEST_F(PromptReaderTest, HoldsNothingOfWhatItCuts) {
  Call call;
  call.truncate_prompt_tokens = 4;
  const std::vector<int32_t> kept = Kept(call, 100'000);
  EXPECT_EQ(kept.size(), 4u);
  EXPECT_LT(kept.capacity(), 100u);
}

TEST_F(PromptReaderTest, IdsFitTheContextOrAreToBeCut) {
  EXPECT_TRUE(reader_->CheckPromptIds(99, /*truncated=*/false).ok());
  EXPECT_FALSE(reader_->CheckPromptIds(100, /*truncated=*/false).ok());
  EXPECT_TRUE(reader_->CheckPromptIds(100, /*truncated=*/true).ok());
}

// It answers the conversation, unless it is to go on with the last message.
TEST_F(PromptReaderTest, AsksForAnAnswerUnlessItContinuesAMessage) {
  const std::string path = ::testing::TempDir() + "prompt_reader_test.jinja";
  std::ofstream(path) << "{{ messages[-1].content }}{% if add_generation_prompt %}>{% endif %}";
  const auto chat_template = text::ChatTemplate::Load("", path, *tokenizer_);
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  const PromptReader reader(*tokenizer_, chat_template->get(), info_, Config());
  ChatPrompt prompt;
  prompt.messages_json = R"([{"role":"assistant","content":"a"}])";
  const auto text = [&](std::optional<bool> add, std::optional<bool> go_on) {
    prompt.add_generation_prompt = add;
    prompt.continue_final_message = go_on;
    const absl::StatusOr<RenderedChat> rendered = reader.RenderChat(prompt);
    return rendered.ok() ? rendered->text : rendered.status().ToString();
  };
  EXPECT_EQ(text({}, {}), "a>");
  EXPECT_EQ(text({}, false), "a>");
  EXPECT_EQ(text({}, true), "a");
  EXPECT_EQ(text(false, true), "a");
  EXPECT_EQ(text(false, {}), "a");
}

TEST_F(PromptReaderTest, BoundsTheArgumentsOfATemplate) {
  constexpr size_t kMost = 64 << 10;
  EXPECT_TRUE(PromptReader::CheckArgumentsSize(std::string(kMost, ' ')).ok());
  EXPECT_FALSE(PromptReader::CheckArgumentsSize(std::string(kMost + 1, ' ')).ok());
}

TEST_F(PromptReaderTest, BoundsTextsByTheirBytes) {
  EXPECT_TRUE(reader_->Tokenize(TextPrompt{std::string(1000, 'a')}).ok());
  const auto longer = reader_->Tokenize(TextPrompt{std::string(1001, 'a')});
  EXPECT_TRUE(absl::StrContains(longer.status().message(), "--max-prompt-bytes"));
}

// Special tokens that are left out count nothing.
TEST_F(PromptReaderTest, BoundsTheTextOfIds) {
  const absl::Status too_large = absl::ResourceExhaustedError("too large");
  const int64_t special = tokenizer_->TokenToId("<|im_end|>").value();
  const int64_t a = tokenizer_->TokenToId("a").value();
  const std::vector<int64_t> ids = {special, a, a};
  const auto text = [&](bool skip_special_tokens, int64_t max_bytes) {
    return reader_->Detokenize(ids, skip_special_tokens, max_bytes, too_large);
  };
  EXPECT_EQ(text(true, 2).value(), "aa");
  EXPECT_EQ(text(true, 1).status(), too_large);
  EXPECT_EQ(text(false, 11).status(), too_large);
  EXPECT_EQ(text(false, 12).value(), "<|im_end|>aa");
  const std::vector<int64_t> many(reader_->max_detokenized() + 1, a);
  EXPECT_TRUE(absl::IsInvalidArgument(reader_->Detokenize(many, true, 9999, too_large).status()));
}

}  // namespace
}  // namespace baram::server
