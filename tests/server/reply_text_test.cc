// What stop ids and stop strings leave of a reply's text: tokens in, one chunk out.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/touched_list.h"
#include "server/delivery.h"
#include "tests/server/comes.h"

namespace baram::server {
namespace {

using baram::testing::Comes;

struct Ended {
  std::string text;
  EndEvent end;
};

class EndedSink final : public ReplySink {
 public:
  bool Write(ReplyChunk chunk) override {
    for (DeltaEvent& delta : chunk.deltas) ended.text += delta.text;
    if (!chunk.ends.empty()) ended.end = chunk.ends.back();
    return false;
  }
  void Break(absl::Status, const UsageEvent&) override {}

  Ended ended;
};

// Loads a tokenizer from tests/text/data.
std::unique_ptr<text::Tokenizer> LoadTokenizer(const std::string& name) {
  return text::Tokenizer::Load(BARAM_TEXT_DATA_DIR "/" + name).value();
}

// The reply to a prompt of one token, whose output is `ids` and ends as the engine would end it: at
// the last of them, if that is a stop id.
Ended ReplyOf(const text::Tokenizer& tokenizer, ReplyOptions options,
              const std::vector<int32_t>& ids) {
  TouchedList touched;
  EndedSink sink;
  Delivery delivery(touched, tokenizer, {});
  Request request;
  request.prompt = {tokenizer.TokenToId("a").value()};
  request.max_tokens = static_cast<int32_t>(ids.size());
  const bool stops = std::ranges::count(options.stop_ids, ids.back()) > 0;
  const auto outbox = std::make_shared<Outbox>(request, static_cast<int32_t>(ids.size()),
                                               std::make_shared<Wakeup>());
  for (const int32_t id : ids) {
    TokenResult token{};
    token.token = id;
    outbox->Push(0, token);
  }
  outbox->SetFinish(0, {.reason = stops ? FinishReason::kStop : FinishReason::kLength,
                        .stop_id = stops ? ids.back() : -1});
  const auto reply = delivery.Open(std::move(options), request.prompt, outbox, &sink);
  reply->WriteDone();
  EXPECT_TRUE(Comes([&] { return delivery.idle(); }));
  return sink.ended;
}

class ReplyTextTest : public ::testing::Test {
 protected:
  int32_t Id(std::string_view token) const { return tokenizer_->TokenToId(token).value(); }
  // The tokens of a character that takes several.
  std::vector<int32_t> Split() const {
    std::vector<int32_t> ids = tokenizer_->Encode("낯", false).value();
    EXPECT_GT(ids.size(), 1u);
    return ids;
  }

  const std::unique_ptr<text::Tokenizer> tokenizer_ = LoadTokenizer("byte_level");
};

// The stop token is not part of the text, so a character that it would have completed stays
// incomplete, as when max_tokens cuts one off.
TEST_F(ReplyTextTest, AStopIdMayCompleteACharacter) {
  const std::vector<int32_t> ids = Split();
  ReplyOptions options;
  options.stop_ids = {ids.back()};
  const Ended without = ReplyOf(*tokenizer_, options, ids);
  EXPECT_EQ(without.text, "\uFFFD");
  EXPECT_EQ(without.end.stop_id, ids.back());
  options.include_stop = true;
  const Ended with = ReplyOf(*tokenizer_, options, ids);
  EXPECT_EQ(with.text, "낯");
  EXPECT_EQ(with.end.stop_id, ids.back());
}

TEST_F(ReplyTextTest, AStopIdBeginsNoTextOfItsOwn) {
  const auto sentencepiece = LoadTokenizer("sentencepiece");
  const int32_t a = sentencepiece->TokenToId("a").value();
  const int32_t word = sentencepiece->TokenToId("▁an").value();
  ReplyOptions options;
  options.stop_ids = {word};
  options.include_stop = true;
  EXPECT_EQ(ReplyOf(*sentencepiece, options, {a, word}).text, "a an");
}

// Before the text of a stop id, and within it.
TEST_F(ReplyTextTest, AStopStringCutsTheTextOfAStopIdToo) {
  ReplyOptions options;
  options.stop_ids = {Id("b"), Id("<|im_end|>")};
  options.include_stop = true;
  options.skip_special_tokens = false;
  options.stop = {"\uFFFD"};
  const Ended before = ReplyOf(*tokenizer_, options, {Id("a"), Split()[0], Id("b")});
  EXPECT_EQ(before.text, "a\uFFFD");
  EXPECT_EQ(before.end.stop_string, "\uFFFD");
  options.stop = {"m"};
  const Ended within = ReplyOf(*tokenizer_, options, {Id("a"), Id("<|im_end|>")});
  EXPECT_EQ(within.text, "a<|im");
  EXPECT_EQ(within.end.stop_string, "m");
}

// As in vLLM, where only its end must come after min_tokens.
TEST_F(ReplyTextTest, AStopStringMayBeginWithinTheFirstTokens) {
  ReplyOptions options;
  options.stop = {"aa"};
  const auto text_of = [&](int32_t min_tokens, const std::vector<int32_t>& ids) {
    options.min_tokens = min_tokens;
    const Ended ended = ReplyOf(*tokenizer_, options, ids);
    return std::pair(ended.text, ended.end.stop_string.has_value());
  };
  const int32_t a = Id("a"), b = Id("b");
  EXPECT_EQ(text_of(1, {b, a, a, b}), std::pair(std::string("b"), true));
  EXPECT_EQ(text_of(2, {b, a, a, b}), std::pair(std::string("b"), true));
  EXPECT_EQ(text_of(3, {b, a, a, b}), std::pair(std::string("baab"), false));
  EXPECT_EQ(text_of(2, {a, a, a, b}), std::pair(std::string("a"), true));
  EXPECT_EQ(text_of(3, {a, a, a}), std::pair(std::string("aaa"), false)) << "nothing is held back";
}

// Whichever ends last.
TEST(NoteEndsTest, TheWorstReasonIsTheCalls) {
  std::optional<EndReason> worst;
  const auto note = [&worst](const std::vector<EndReason>& reasons) {
    std::vector<EndEvent> ends(reasons.size());
    for (size_t i = 0; i < reasons.size(); ++i) ends[i].reason = reasons[i];
    NoteEnds(ends, &worst);
    return worst;
  };
  EXPECT_EQ(note({}), std::nullopt);
  EXPECT_EQ(note({EndReason::kStop}), EndReason::kStop);
  EXPECT_EQ(note({EndReason::kLength, EndReason::kStop}), EndReason::kLength);
  EXPECT_EQ(note({EndReason::kStop}), EndReason::kLength);
}

}  // namespace
}  // namespace baram::server
