// Delivery by itself: outboxes filled by the test, sinks that take what it lets them.
#include "server/delivery.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/server/comes.h"
#include "tests/server/tiny_folder.h"

namespace baram::server {
namespace {

using baram::testing::Comes;
using baram::testing::TinyFolder;

// Keeps what it is given; its bytes are on their way until the test calls WriteDone.
class HeldSink final : public ReplySink {
 public:
  explicit HeldSink(bool watched) : watched_(watched) {}

  bool Write(ReplyChunk chunk) override {
    std::lock_guard lock(mutex_);
    chunks_.push_back(std::move(chunk));
    return watched_;
  }
  void Break(absl::Status status) override {
    std::lock_guard lock(mutex_);
    broken_ = std::move(status);
  }

  size_t chunks() const {
    std::lock_guard lock(mutex_);
    return chunks_.size();
  }
  ReplyChunk chunk(size_t index) const {
    std::lock_guard lock(mutex_);
    return chunks_.at(index);
  }
  absl::Status broken() const {
    std::lock_guard lock(mutex_);
    return broken_;
  }

 private:
  const bool watched_;
  mutable std::mutex mutex_;
  std::vector<ReplyChunk> chunks_;
  absl::Status broken_;
};

// A reply, and the engine's end of it.
struct Live {
  std::shared_ptr<Outbox> outbox;
  std::shared_ptr<Reply> reply;
};

class DeliveryTest : public ::testing::Test {
 protected:
  static constexpr int32_t kRing = 8;

  static void SetUpTestSuite() {
    const TinyFolder folder;
    tokenizer_ = text::Tokenizer::Load(folder.path()).value().release();
  }
  static void TearDownTestSuite() { delete tokenizer_; }

  // A chunk is full with the tokens of one ring.
  void Start(double slow_reader_s) {
    delivery_ = std::make_unique<Delivery>(
        touched_, *tokenizer_,
        DeliveryLimits{.pending_tokens = kRing, .slow_reader_s = slow_reader_s});
  }
  // A reply whose tokens are wanted.
  Live Open(HeldSink& sink, int32_t outputs = 1) {
    ReplyOptions options;
    options.outputs = outputs;
    options.tokens = true;
    return Open(sink, std::move(options));
  }
  Live Open(HeldSink& sink, ReplyOptions options) {
    Request request;
    request.prompt = {1};
    request.n = options.outputs;
    request.max_tokens = 1000;
    Live live{std::make_shared<Outbox>(request, kRing, std::make_shared<Wakeup>()),
              delivery_->Open(std::move(options), request.prompt, &sink)};
    live.outbox->reader = live.reply.get();
    delivery_->Bind(*live.reply, live.outbox);
    live.reply->WriteDone();
    return live;
  }
  // Draws tokens until every ring is full.
  void Fill(const Live& live) {
    TokenResult token{};
    token.token = 65;
    for (int32_t i = 0; i < live.outbox->outputs(); ++i) {
      while (live.outbox->Room(i) > 0) live.outbox->Push(i, token);
    }
    std::vector<std::shared_ptr<Outbox>> touched = {live.outbox};
    touched_.Add(touched);
  }
  // One chunk on its way, and something that waits behind it.
  void FillTwice(const Live& live, const HeldSink& sink) {
    Fill(live);
    ASSERT_TRUE(Comes([&] { return sink.chunks() == 1; }));
    Fill(live);
  }

  static inline text::Tokenizer* tokenizer_ = nullptr;
  HeldSink watched_{true}, left_alone_{false}, last_{true};
  TouchedList touched_;
  std::unique_ptr<Delivery> delivery_;  // uses what is above
};

TEST_F(DeliveryTest, EveryOutputOfAFullReplyHasItsTurn) {
  Start(/*slow_reader_s=*/600);
  const Live live = Open(watched_, /*outputs=*/3);
  std::vector<int32_t> seen(3);
  for (size_t chunk = 0; chunk < 6; ++chunk) {
    Fill(live);
    ASSERT_TRUE(Comes([&] { return watched_.chunks() > chunk; }));
    for (const DeltaEvent& delta : watched_.chunk(chunk).deltas) seen[delta.index] += delta.count;
    live.reply->WriteDone();
  }
  for (const int32_t count : seen) EXPECT_GE(count, kRing);
}

// The model's own end may lie within a character; an end from elsewhere cuts one off, and what
// waits for a stop string is whole.
TEST_F(DeliveryTest, WhatEndsAnOutputFromElsewhereLeavesNoPieceOfACharacter) {
  Start(/*slow_reader_s=*/600);
  const std::vector<int32_t> ids = tokenizer_->Encode("ab낯", false).value();
  ASSERT_GT(ids.size(), 2u);
  for (const FinishReason reason :
       {FinishReason::kCancelled, FinishReason::kDeadline, FinishReason::kDrained,
        FinishReason::kSlowReader, FinishReason::kFailed, FinishReason::kLength}) {
    HeldSink sink(/*watched=*/false);
    ReplyOptions options;
    options.stop = {"bc"};
    const Live live = Open(sink, std::move(options));
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      TokenResult token{};
      token.token = ids[i];
      live.outbox->Push(0, token);
    }
    live.outbox->Publish(0, {.reason = reason});
    std::vector<std::shared_ptr<Outbox>> touched = {live.outbox};
    touched_.Add(touched);
    ASSERT_TRUE(Comes([&] { return sink.chunks() == 1; }));
    const std::string text = sink.chunk(0).deltas.at(0).text;
    EXPECT_EQ(text, reason == FinishReason::kLength ? "ab\uFFFD" : "ab");
  }
}

TEST_F(DeliveryTest, AClientThatTakesNothingIsBroken) {
  Start(/*slow_reader_s=*/0.1);
  const Live live = Open(watched_);
  FillTwice(live, watched_);
  EXPECT_TRUE(Comes([&] { return !watched_.broken().ok(); }));
  FinishReason reason{};
  EXPECT_TRUE(Comes([&] { return live.outbox->cancelled(&reason); }));
  EXPECT_EQ(reason, FinishReason::kSlowReader);
}

// A message now and then is progress, but buys no time.
TEST_F(DeliveryTest, AClientThatTakesLittleIsBroken) {
  Start(/*slow_reader_s=*/1);
  const Live live = Open(watched_);
  FillTwice(live, watched_);
  EXPECT_TRUE(Comes([&] {
    live.reply->Progressed(1);
    return !watched_.broken().ok();
  }));
}

TEST_F(DeliveryTest, AClientThatKeepsToThePaceIsNot) {
  Start(/*slow_reader_s=*/1);
  const Live live = Open(watched_);
  FillTwice(live, watched_);
  live.reply->Progressed(1 << 30);
  // Looked at as the first one is, which goes on.
  const Live idle = Open(last_);
  FillTwice(idle, last_);
  EXPECT_TRUE(Comes([&] {
    live.reply->Progressed(0);
    return !last_.broken().ok();
  }));
  EXPECT_TRUE(watched_.broken().ok());
}

// A sink with a limit of its own may hold a chunk as long as it likes: what is not on its way has
// no reader.
TEST_F(DeliveryTest, ASinkThatLooksAfterItsClientIsLeftAlone) {
  Start(/*slow_reader_s=*/0.1);
  const Live alone = Open(left_alone_);
  FillTwice(alone, left_alone_);
  const Live later = Open(watched_);
  FillTwice(later, watched_);
  ASSERT_TRUE(Comes([&] { return !watched_.broken().ok(); }));
  const Live after = Open(last_);  // whose chunk comes after all have been looked at
  Fill(after);
  ASSERT_TRUE(Comes([&] { return last_.chunks() == 1; }));
  EXPECT_TRUE(left_alone_.broken().ok());
  FinishReason reason{};
  EXPECT_FALSE(alone.outbox->cancelled(&reason));
}

}  // namespace
}  // namespace baram::server
