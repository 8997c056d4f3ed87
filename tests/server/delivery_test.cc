// Delivery in isolation: outboxes filled by the test, and sinks controlled by it.
#include "server/delivery.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/touched_list.h"
#include "server/errors.h"
#include "tests/server/comes.h"
#include "tests/server/tiny_folder.h"

namespace baram::server {
namespace {

using baram::testing::Comes;
using baram::testing::TinyFolder;

// Keeps its chunks; each is in flight until the test calls WriteDone.
class HeldSink final : public ReplySink {
 public:
  explicit HeldSink(bool watched) : watched_(watched) {}

  bool Write(ReplyChunk chunk) override {
    std::lock_guard lock(mutex_);
    chunks_.push_back(std::move(chunk));
    return watched_;
  }
  void Break(absl::Status status, const UsageEvent& so_far) override {
    std::lock_guard lock(mutex_);
    broken_ = std::move(status);
    used_ = so_far;
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
  UsageEvent used() const {
    std::lock_guard lock(mutex_);
    return used_;
  }

 private:
  const bool watched_;
  mutable std::mutex mutex_;
  std::vector<ReplyChunk> chunks_;
  absl::Status broken_;
  UsageEvent used_;  // when it was broken
};

// A reply, and the engine's side of it.
struct Live {
  std::shared_ptr<Outbox> outbox;
  std::shared_ptr<Reply> reply;
};

class DeliveryTest : public ::testing::Test {
 protected:
  static constexpr int32_t kRing = 8;
  static constexpr SteadyTime kArrival{std::chrono::seconds(1)};
  inline static const std::vector<int32_t> kPrompt = {1};

  static void SetUpTestSuite() {
    const TinyFolder folder;
    tokenizer_ = text::Tokenizer::Load(folder.path()).value().release();
  }
  static void TearDownTestSuite() { delete tokenizer_; }

  // A chunk is full with the tokens of one ring, or with this many bytes of text.
  void Start(double slow_reader_s, int64_t pending_bytes = 256 << 10) {
    delivery_ = std::make_unique<Delivery>(touched_, *tokenizer_,
                                           ReplyLimits{.pending_bytes = pending_bytes,
                                                       .pending_tokens = kRing,
                                                       .slow_reader_s = slow_reader_s});
  }
  // Opens a reply that delivers tokens.
  Live Open(HeldSink& sink, int32_t outputs = 1) {
    ReplyOptions options;
    options.outputs = outputs;
    options.tokens = true;
    return Open(sink, std::move(options));
  }
  Live Open(HeldSink& sink, ReplyOptions options) {
    const auto outbox = MakeOutbox(options.outputs);
    return {outbox, Open(sink, std::move(options), outbox)};
  }
  std::shared_ptr<Reply> Open(HeldSink& sink, ReplyOptions options,
                              const std::shared_ptr<Outbox>& outbox) {
    const auto reply = delivery_->Open(std::move(options), kPrompt, outbox, &sink);
    reply->WriteDone();
    return reply;
  }
  static std::shared_ptr<Outbox> MakeOutbox(int32_t outputs) {
    Request request;
    request.prompt = kPrompt;
    request.n = outputs;
    request.max_tokens = 1000;
    request.arrival = kArrival;
    return std::make_shared<Outbox>(request, kRing, std::make_shared<Wakeup>());
  }
  void Touch(const Live& live) {
    std::vector<std::shared_ptr<Outbox>> touched = {live.outbox};
    touched_.Add(touched);
  }
  static void Push(const Live& live, int32_t index, int32_t id) {
    TokenResult token{};
    token.token = id;
    live.outbox->Push(index, token);
  }
  // Pushes tokens until every ring is full. Returns how many.
  int32_t Fill(const Live& live) {
    int32_t drawn = 0;
    for (int32_t i = 0; i < live.outbox->outputs(); ++i) {
      for (; live.outbox->Room(i) > 0; ++drawn) Push(live, i, 65);
    }
    Touch(live);
    return drawn;
  }
  // Reads everything from a reply whose last token was pushed.
  bool ReadToEnd(const Live& live) {
    Touch(live);
    return Comes([&] {
      live.reply->WriteDone();
      return delivery_->idle();
    });
  }
  // One chunk in flight, and more waiting for it.
  void FillTwice(const Live& live, const HeldSink& sink) {
    Fill(live);
    ASSERT_TRUE(Comes([&] { return sink.chunks() == 1; }));
    Fill(live);
  }

  static inline text::Tokenizer* tokenizer_ = nullptr;
  HeldSink watched_{true}, left_alone_{false}, last_{true};
  TouchedList touched_;
  std::unique_ptr<Delivery> delivery_;  // uses the members above
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

// An end chosen by the model may lie within a character; any other end cuts one off, and text held
// back for a stop string is whole.
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
    for (size_t i = 0; i + 1 < ids.size(); ++i) Push(live, 0, ids[i]);
    live.outbox->SetFinish(0, {.reason = reason});
    Touch(live);
    ASSERT_TRUE(Comes([&] { return sink.chunks() == 1; }));
    const std::string text = sink.chunk(0).deltas.at(0).text;
    EXPECT_EQ(text, reason == FinishReason::kLength ? "ab\uFFFD" : "ab");
  }
}

// Front ends derive gRPC's code, HTTP's status and the retry hints from these.
TEST_F(DeliveryTest, EachWayToEndHasItsStatus) {
  Start(/*slow_reader_s=*/600);
  struct Row {
    FinishReason reason;
    bool unavailable;
    absl::StatusCode code;
    std::string told;
    bool may_retry = false;
  };
  using absl::StatusCode;
  for (const Row& row : {
           Row{FinishReason::kStop, false, StatusCode::kOk, ""},
           Row{FinishReason::kLength, false, StatusCode::kOk, ""},
           Row{FinishReason::kCancelled, false, StatusCode::kCancelled, ""},
           Row{FinishReason::kDeadline, false, StatusCode::kDeadlineExceeded, ""},
           Row{FinishReason::kDrained, false, StatusCode::kUnavailable, "DRAINING", true},
           Row{FinishReason::kSlowReader, false, StatusCode::kResourceExhausted, "SLOW_READER"},
           Row{FinishReason::kFailed, false, StatusCode::kInternal, "INTERNAL"},
           Row{FinishReason::kFailed, true, StatusCode::kUnavailable, "DEVICE_LOST", true},
       }) {
    HeldSink sink(/*watched=*/false);
    const Live live = Open(sink);
    live.outbox->SetFinish(0, {.reason = row.reason, .unavailable = row.unavailable});
    Touch(live);
    ASSERT_TRUE(Comes([&] { return sink.chunks() == 1; }));
    const absl::Status status = sink.chunk(0).status;
    const ErrorFacts facts = FactsOf(status);
    EXPECT_EQ(status.code(), row.code) << status;
    EXPECT_EQ(facts.reason, row.told) << status;
    EXPECT_EQ(facts.retry_ms >= 0, row.may_retry) << status;
  }
  HeldSink sink(/*watched=*/false);
  const Live both = Open(sink, /*outputs=*/2);
  both.outbox->SetFinish(0, {.reason = FinishReason::kDeadline});
  both.outbox->SetFinish(1, {.reason = FinishReason::kCancelled});
  Touch(both);
  ASSERT_TRUE(Comes([&] { return sink.chunks() == 1; }));
  EXPECT_TRUE(absl::IsDeadlineExceeded(sink.chunk(0).status)) << "the first one's";
}

// Tokens that the engine generated meanwhile are dropped.
TEST_F(DeliveryTest, AStopStringEndsItsOutputInTheEngine) {
  Start(/*slow_reader_s=*/600, /*pending_bytes=*/kRing);
  HeldSink sink(/*watched=*/false);
  ReplyOptions options;
  options.outputs = 2;
  options.stop = {"c"};
  const Live live = Open(sink, std::move(options));
  for (const char* letter : {"a", "c", "d"}) Push(live, 1, tokenizer_->TokenToId(letter).value());
  Touch(live);
  EXPECT_TRUE(Comes([&] { return live.outbox->stopped(1); }));
  EXPECT_FALSE(live.outbox->stopped(0));
  // Nor does it wait for room in a full reply.
  EXPECT_TRUE(Comes([&] {
    const bool full = live.outbox->Room(0) == 0 && live.outbox->Room(1) == kRing;
    if (!full) Fill(live);
    return full;
  }));
  live.outbox->SetFinish(0, {.reason = FinishReason::kLength});
  live.outbox->SetFinish(1, {.reason = FinishReason::kStop});
  ASSERT_TRUE(ReadToEnd(live));
  std::vector<EndEvent> ends;
  std::string text;
  int32_t count = 0;
  for (size_t i = 0; i < sink.chunks(); ++i) {
    for (const EndEvent& end : sink.chunk(i).ends) ends.push_back(end);
    for (const DeltaEvent& delta : sink.chunk(i).deltas) {
      if (delta.index != 1) continue;
      text += delta.text;
      count += delta.count;
    }
  }
  EXPECT_EQ(text, "a");
  EXPECT_EQ(count, 2);
  ASSERT_EQ(ends.size(), 2u);
  EXPECT_EQ(ends[0].index, 1);
  EXPECT_EQ(ends[0].stop_string, "c");
  EXPECT_EQ(ends[1].index, 0);
}

// A chunk in flight, one waiting for it, and a ring; whatever the limit that fills the reply.
TEST_F(DeliveryTest, BehindASinkThatHoldsAChunkLittlePilesUp) {
  for (const bool text : {true, false}) {
    Start(/*slow_reader_s=*/600, /*pending_bytes=*/kRing);
    HeldSink sink(/*watched=*/true);
    ReplyOptions options;
    options.text = text;
    options.tokens = !text;
    const Live live = Open(sink, std::move(options));
    int32_t drawn = Fill(live);
    ASSERT_TRUE(Comes([&] { return sink.chunks() == 1; }));
    for (int round = 0; round < 50; ++round) {
      drawn += Fill(live);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_LE(drawn, 3 * kRing) << text;
    EXPECT_EQ(sink.chunks(), 1u);
    // Sending makes room.
    for (size_t chunks = 2; chunks < 6; ++chunks) {
      live.reply->WriteDone();
      Fill(live);
      ASSERT_TRUE(Comes([&] { return sink.chunks() == chunks; }));
    }
    delivery_.reset();  // before the sink
  }
}

TEST_F(DeliveryTest, UsageAddsUpTheOutputsAndTellsTheTimesFromArrival) {
  Start(/*slow_reader_s=*/600);
  const Live live = Open(left_alone_, /*outputs=*/3);
  for (const int32_t index : {0, 0, 0, 1, 1, 2}) Push(live, index, 65);
  const auto at = [](int seconds) { return kArrival + std::chrono::seconds(seconds); };
  live.outbox->SetAdmitted(at(2));
  live.outbox->SetCached(1);
  live.outbox->SetFirstToken(at(5));
  live.outbox->SetFinished(at(9));
  for (const int32_t index : {0, 1, 2}) {
    live.outbox->SetFinish(index, {.reason = FinishReason::kLength});
  }
  ASSERT_TRUE(ReadToEnd(live));
  const UsageEvent usage = left_alone_.chunk(left_alone_.chunks() - 1).usage.value();
  EXPECT_EQ(usage.prompt_tokens, 1);
  EXPECT_EQ(usage.cached_tokens, 1);
  EXPECT_EQ(usage.completion_tokens, 6);
  EXPECT_DOUBLE_EQ(usage.queued_s, 2);
  EXPECT_DOUBLE_EQ(usage.first_token_s, 5);
  EXPECT_DOUBLE_EQ(usage.total_s, 9);
}

// Ended with nothing listening to the rest, or with its last bytes sent.
TEST_F(DeliveryTest, NothingIsLeftOfAReplyThatIsOver) {
  Start(/*slow_reader_s=*/600);
  const Live unheard = Open(watched_);
  FillTwice(unheard, watched_);
  unheard.reply->Over();
  unheard.reply->WriteDone();
  for (int ring = 0; ring < 4; ++ring) {
    ASSERT_TRUE(Comes([&] { return unheard.outbox->Room(0) == kRing; })) << ring;
    Fill(unheard);
  }
  unheard.outbox->SetFinish(0, {.reason = FinishReason::kLength});
  Touch(unheard);
  EXPECT_TRUE(Comes([&] { return delivery_->idle(); }));
  EXPECT_EQ(watched_.chunks(), 1u);

  const Live heard = Open(last_);
  heard.outbox->SetFinish(0, {.reason = FinishReason::kLength});
  Touch(heard);
  ASSERT_TRUE(Comes([&] { return last_.chunks() == 1; }));
  EXPECT_FALSE(delivery_->idle()) << "its bytes are on their way";
  heard.reply->Over();
  EXPECT_TRUE(delivery_->idle());
}

// What waits for a chunk in flight is sent as soon as that one is: delivery's own checks come only
// once per second.
TEST_F(DeliveryTest, WriteDoneBringsTheNextChunkAtOnce) {
  Start(/*slow_reader_s=*/600);
  std::chrono::duration<double> waited{0};
  for (int round = 0; round < 4; ++round) {
    HeldSink sink(/*watched=*/false);
    const Live live = Open(sink);
    FillTwice(live, sink);
    ASSERT_TRUE(Comes([&] { return live.outbox->Room(0) == kRing; }));
    const SteadyTime done = std::chrono::steady_clock::now();
    live.reply->WriteDone();
    ASSERT_TRUE(Comes([&] { return sink.chunks() == 2; }));
    waited += std::chrono::steady_clock::now() - done;
    live.reply->Over();
  }
  EXPECT_LT(waited.count(), 2.5);
}

// The engine may be done with a request before its reply is open.
TEST_F(DeliveryTest, WhatCameBeforeAReplyIsOpenIsDelivered) {
  Start(/*slow_reader_s=*/600);
  HeldSink early_sink(/*watched=*/false), other_sink(/*watched=*/false);
  const Live early = {MakeOutbox(1), nullptr}, other = Open(other_sink);
  Push(early, 0, 65);
  early.outbox->SetFinish(0, {.reason = FinishReason::kLength, .tokens = 1});
  Touch(early);
  Push(other, 0, 65);
  Touch(other);
  ASSERT_TRUE(Comes([&] { return other_sink.chunks() == 1; }));  // so both were taken

  ReplyOptions options;
  options.tokens = true;
  const auto reply = Open(early_sink, std::move(options), early.outbox);
  ASSERT_TRUE(Comes([&] { return early_sink.chunks() == 1; }));
  EXPECT_TRUE(early_sink.chunk(0).last);
  EXPECT_EQ(early_sink.chunk(0).deltas.at(0).tokens.size(), 1u);
}

// Sixteen of 256 bytes, with automata eight times as large, for sixteen outputs.
TEST_F(DeliveryTest, TheOutputsOfAReplyShareItsStopStrings) {
  if (mallinfo2().uordblks == 0) {
    GTEST_SKIP() << "a sanitizer's allocator does not say what is held";
  }
  Start(/*slow_reader_s=*/600);
  const auto bytes = [&](int32_t outputs) {
    ReplyOptions options;
    options.outputs = outputs;
    for (int i = 0; i < 16; ++i) options.stop.emplace_back(256, static_cast<char>('a' + i));
    const size_t before = mallinfo2().uordblks;
    const Live live = Open(left_alone_, std::move(options));
    const size_t after = mallinfo2().uordblks;
    live.reply->Over();
    return static_cast<int64_t>(after - before);
  };
  bytes(1);  // one-time allocations
  EXPECT_LT(bytes(16) - bytes(1), 16 * 16 * 256);
}

// Clients time tokens by their events. A token that has no text yet is sent alone if nothing is in
// flight, and with those after it otherwise.
TEST_F(DeliveryTest, ATokenWhoseTextWaitsIsNews) {
  Start(/*slow_reader_s=*/600);
  const HeldSink& sink = left_alone_;
  ReplyOptions options;
  options.stop = {"bc"};
  const Live live = Open(left_alone_, std::move(options));
  const auto draw = [&](int32_t id) {
    Push(live, 0, id);
    Touch(live);
  };
  const auto next = [&](size_t index) {
    EXPECT_TRUE(Comes([&] { return sink.chunks() > index; }));
    const DeltaEvent delta = sink.chunk(index).deltas.at(0);
    return std::pair(delta.count, delta.text);
  };
  const std::vector<int32_t> ids = tokenizer_->Encode("b낯", false).value();
  ASSERT_GT(ids.size(), 3u);
  draw(ids[0]);  // the start of a stop string
  EXPECT_EQ(next(0), std::pair(1, std::string()));
  live.reply->WriteDone();
  draw(ids[1]);  // the start of a character
  EXPECT_EQ(next(1), std::pair(1, std::string()));
  for (size_t i = 2; i < ids.size(); ++i) draw(ids[i]);
  live.reply->WriteDone();
  EXPECT_EQ(next(2), std::pair(static_cast<int32_t>(ids.size()) - 2, std::string("b낯")));
}

TEST_F(DeliveryTest, AClientThatTakesNothingIsBroken) {
  Start(/*slow_reader_s=*/0.1);
  const Live live = Open(watched_);
  FillTwice(live, watched_);
  EXPECT_TRUE(Comes([&] { return !watched_.broken().ok(); }));
  EXPECT_TRUE(Comes([&] { return live.outbox->cancelled().has_value(); }));
  EXPECT_EQ(live.outbox->cancelled(), FinishReason::kSlowReader);
}

// An occasional message is progress, but gains no time.
TEST_F(DeliveryTest, AClientThatTakesLittleIsBroken) {
  Start(/*slow_reader_s=*/1);
  const Live live = Open(watched_);
  FillTwice(live, watched_);
  EXPECT_TRUE(Comes([&] {
    live.reply->Progressed(1);
    return !watched_.broken().ok();
  }));
}

TEST_F(DeliveryTest, AClientThatStopsAfterMuchIsBroken) {
  Start(/*slow_reader_s=*/0.1);
  const Live live = Open(watched_);
  FillTwice(live, watched_);
  live.reply->Progressed(1 << 30);
  EXPECT_TRUE(Comes([&] { return !watched_.broken().ok(); }));
}

TEST_F(DeliveryTest, AClientThatKeepsToThePaceIsNot) {
  Start(/*slow_reader_s=*/1);
  const Live live = Open(watched_);
  FillTwice(live, watched_);
  live.reply->Progressed(1 << 30);
  // Checked together with the first one, which is not broken.
  const Live idle = Open(last_);
  FillTwice(idle, last_);
  EXPECT_TRUE(Comes([&] {
    live.reply->Progressed(0);
    return !last_.broken().ok();
  }));
  EXPECT_TRUE(watched_.broken().ok());
}

TEST_F(DeliveryTest, AWriteWhoseProgressNobodySeesHasTheTimeOfItsSize) {
  Start(/*slow_reader_s=*/0.1);
  const auto write = [&](HeldSink& sink, int64_t bytes) {
    const Live live = Open(sink);
    Fill(live);
    ASSERT_TRUE(Comes([&] { return sink.chunks() == 1; }));
    live.reply->WriteBegins(/*unseen_bytes=*/bytes);
    Fill(live);  // only now does the chunk hold anything up
  };
  HeldSink waiting(/*watched=*/true);
  const Live waits = Open(waiting);
  Fill(waits);
  ASSERT_TRUE(Comes([&] { return waiting.chunks() == 1; }));
  waits.reply->WriteWaits();
  Fill(waits);
  write(watched_, 1 << 30);
  write(last_, 1);
  EXPECT_TRUE(Comes([&] { return !last_.broken().ok(); }));
  HeldSink sink(/*watched=*/true);
  const Live after = Open(sink);  // its chunk comes after all were checked
  Fill(after);
  ASSERT_TRUE(Comes([&] { return sink.chunks() == 1; }));
  EXPECT_TRUE(watched_.broken().ok());
  EXPECT_TRUE(waiting.broken().ok()) << "it has not begun";
  delivery_.reset();  // before the sinks
}

// Its chunk is slow, and nothing waits for it: it costs nothing.
TEST_F(DeliveryTest, AClientThatHoldsNothingUpIsNot) {
  Start(/*slow_reader_s=*/0.1);
  const Live alone = Open(watched_);
  Fill(alone);
  ASSERT_TRUE(Comes([&] { return watched_.chunks() == 1; }));
  HeldSink sink(/*watched=*/true);
  const Live later = Open(sink);
  FillTwice(later, sink);
  ASSERT_TRUE(Comes([&] { return !sink.broken().ok(); }));
  const Live after = Open(last_);  // its chunk comes after all were checked
  Fill(after);
  ASSERT_TRUE(Comes([&] { return last_.chunks() == 1; }));
  EXPECT_TRUE(watched_.broken().ok());
  delivery_.reset();  // before the sink
}

// A sink with its own limit may hold a chunk as long as it likes: what is not in flight has no slow
// reader.
TEST_F(DeliveryTest, ASinkThatLooksAfterItsClientIsLeftAlone) {
  Start(/*slow_reader_s=*/0.1);
  const Live alone = Open(left_alone_);
  FillTwice(alone, left_alone_);
  const Live later = Open(watched_);
  FillTwice(later, watched_);
  ASSERT_TRUE(Comes([&] { return !watched_.broken().ok(); }));
  const Live after = Open(last_);  // its chunk comes after all were checked
  Fill(after);
  ASSERT_TRUE(Comes([&] { return last_.chunks() == 1; }));
  EXPECT_TRUE(left_alone_.broken().ok());
  EXPECT_EQ(alone.outbox->cancelled(), std::nullopt);
}

}  // namespace
}  // namespace baram::server
