// Outbox, Wakeup and TouchedList: rings, ends, wake-ups.
#include "engine/outbox.h"

#include <thread>

#include "engine/touched_list.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace baram {
namespace {

Request MakeRequest(int32_t n, int32_t max_tokens) {
  Request request;
  request.prompt = {1, 2, 3};
  request.n = n;
  request.max_tokens = max_tokens;
  return request;
}

TokenResult Token(int32_t id) {
  TokenResult token{};
  token.token = id;
  token.logprob = -0.5f * static_cast<float>(id);
  token.rank = id;
  token.top_count = 2;
  token.top_ids[0] = id + 1;
  token.top_ids[1] = id + 2;
  token.top_logprobs[0] = -1;
  token.top_logprobs[1] = -2;
  return token;
}

TEST(OutboxTest, KeepsOrderAcrossTheRingsEnd) {
  Request request = MakeRequest(1, 100);
  request.sampling.logprobs = 2;
  Outbox outbox(request, /*ring_tokens=*/4, std::make_shared<Wakeup>());
  TokenResult token;
  EXPECT_FALSE(outbox.Pop(0, &token));
  int32_t popped = 0;
  for (int32_t pushed = 0; pushed < 20; ++pushed) {
    EXPECT_GT(outbox.Room(0), 0);
    outbox.Push(0, Token(pushed));
    if (pushed % 3 == 0) continue;
    while (outbox.Pop(0, &token)) {
      EXPECT_EQ(token.token, popped);
      EXPECT_EQ(token.logprob, -0.5f * static_cast<float>(popped));
      EXPECT_EQ(token.top_count, 2);
      EXPECT_EQ(token.top_ids[1], popped + 2);
      ++popped;
    }
  }
  EXPECT_EQ(popped, 20);
}

TEST(OutboxTest, TheRingIsNoLargerThanTheRequestNeeds) {
  EXPECT_EQ(Outbox(MakeRequest(1, 5), 1024, std::make_shared<Wakeup>()).Room(0), 5);
  EXPECT_EQ(Outbox(MakeRequest(1, 5000), 1024, std::make_shared<Wakeup>()).Room(0), 1024);
  EXPECT_EQ(Outbox(MakeRequest(1, 1), 1024, std::make_shared<Wakeup>()).Room(0), 2)
      << "two steps may draw at once";
  // All rings of a request together, at 180 bytes per entry.
  Request wide = MakeRequest(16, 5000);
  wide.sampling.logprobs = 20;
  EXPECT_EQ(Outbox(wide, 1024, std::make_shared<Wakeup>()).Room(0), (256 << 10) / (16 * 180));
}

TEST(OutboxTest, AlternativesThatWereNotAskedForAreNotKept) {
  Outbox outbox(MakeRequest(1, 4), 4, std::make_shared<Wakeup>());
  outbox.Push(0, Token(7));
  TokenResult token;
  ASSERT_TRUE(outbox.Pop(0, &token));
  EXPECT_EQ(token.top_count, 0);
}

TEST(OutboxTest, AnOutputIsFinishedOnceItsRingIsEmpty) {
  Outbox outbox(MakeRequest(2, 4), 4, std::make_shared<Wakeup>());
  outbox.Push(1, Token(7));
  outbox.SetFinish(1, {.reason = FinishReason::kLength, .tokens = 1});
  Finish finish;
  EXPECT_FALSE(outbox.Finished(1, &finish));
  TokenResult token;
  EXPECT_TRUE(outbox.Pop(1, &token));
  EXPECT_TRUE(outbox.Finished(1, &finish));
  EXPECT_EQ(finish.reason, FinishReason::kLength);
  EXPECT_EQ(finish.tokens, 1);
  EXPECT_FALSE(outbox.Finished(0, &finish));
  outbox.SetFinish(0, {.reason = FinishReason::kCancelled});
  EXPECT_TRUE(outbox.Finished(0, &finish));
}

TEST(OutboxDeathTest, EndsOnlyOnce) {
  Outbox outbox(MakeRequest(1, 4), 4, std::make_shared<Wakeup>());
  outbox.SetFinish(0, {});
  EXPECT_DEATH(outbox.SetFinish(0, {}), "ends once");
}

TEST(OutboxTest, TheFirstCancelWins) {
  auto wakeup = std::make_shared<Wakeup>();
  Outbox outbox(MakeRequest(1, 4), 4, wakeup);
  EXPECT_EQ(outbox.cancelled(), std::nullopt);
  outbox.Cancel(FinishReason::kDeadline);
  outbox.Cancel();
  EXPECT_EQ(outbox.cancelled(), FinishReason::kDeadline);
  EXPECT_TRUE(outbox.TakeEndRequest());
  EXPECT_TRUE(wakeup->TakeEndRequests());
  wakeup->WaitUntil(SteadyTime::max());  // returns because it was notified
}

TEST(OutboxTest, StopAtIsOfOneOutput) {
  auto wakeup = std::make_shared<Wakeup>();
  Outbox outbox(MakeRequest(2, 4), 4, wakeup);
  EXPECT_FALSE(outbox.TakeEndRequest());
  outbox.StopAt(1);
  EXPECT_FALSE(outbox.stopped(0));
  EXPECT_TRUE(outbox.stopped(1));
  EXPECT_TRUE(outbox.TakeEndRequest());
  EXPECT_FALSE(outbox.TakeEndRequest()) << "it is taken";
  outbox.StopAt(0);
  EXPECT_TRUE(outbox.TakeEndRequest());
  EXPECT_TRUE(wakeup->TakeEndRequests());
  wakeup->WaitUntil(SteadyTime::max());
}

TEST(OutboxTest, ADrainedRingWakesTheEngineOnceWhenAsked) {
  auto wakeup = std::make_shared<Wakeup>();
  Outbox outbox(MakeRequest(1, 8), 4, wakeup);
  for (int32_t i = 0; i < 4; ++i) outbox.Push(0, Token(i));
  TokenResult token;
  outbox.WakeWhenDrained(0);
  outbox.Pop(0, &token);
  outbox.Pop(0, &token);  // half empty
  wakeup->WaitUntil(SteadyTime::max());
  outbox.Pop(0, &token);
  EXPECT_EQ(outbox.Room(0), 3);
  const SteadyTime limit = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
  wakeup->WaitUntil(limit);
  EXPECT_GE(std::chrono::steady_clock::now(), limit) << "once";
}

TEST(OutboxTest, PromptScoresAreKeptApart) {
  Request request = MakeRequest(1, 4);
  request.prompt_logprobs = 1;
  Outbox outbox(request, 4, std::make_shared<Wakeup>());
  outbox.PushPromptScore(Token(2));
  outbox.PushPromptScore(Token(3));
  TokenResult score;
  ASSERT_TRUE(outbox.PopPromptScore(&score));
  EXPECT_EQ(score.token, 2);
  EXPECT_EQ(score.top_count, 1);
  ASSERT_TRUE(outbox.PopPromptScore(&score));
  EXPECT_FALSE(outbox.PopPromptScore(&score));
  EXPECT_DEATH(outbox.PushPromptScore(Token(4)), "scored once");
}

TEST(TouchedListTest, AnOutboxIsListedOnceUntilItIsTaken) {
  TouchedList list;
  auto outbox = std::make_shared<Outbox>(MakeRequest(1, 4), 4, std::make_shared<Wakeup>());
  std::vector<std::shared_ptr<Outbox>> touched = {outbox, outbox};
  list.Add(touched);
  EXPECT_TRUE(touched.empty());
  touched = {outbox};
  list.Add(touched);
  std::vector<std::shared_ptr<Outbox>> taken;
  list.Take(&taken, SteadyTime::max());
  EXPECT_EQ(taken.size(), 1u);
  touched = {outbox};
  list.Add(touched);
  list.Take(&taken, SteadyTime::max());
  EXPECT_EQ(taken.size(), 1u) << "touched again after it was taken";
}

TEST(TouchedListTest, ANudgeAndTheDeadlineEndTheWait) {
  TouchedList list;
  std::vector<std::shared_ptr<Outbox>> taken;
  list.Nudge();
  list.Take(&taken, SteadyTime::max());
  EXPECT_TRUE(taken.empty());
  list.Take(&taken, std::chrono::steady_clock::now());
  EXPECT_TRUE(taken.empty());
}

// One writer, one reader, a ring of two: every token arrives, in order, and neither side sleeps
// forever.
TEST(OutboxTest, AWriterAndAReaderAgree) {
  constexpr int32_t kTokens = 20000;
  auto wakeup = std::make_shared<Wakeup>();
  Outbox outbox(MakeRequest(1, kTokens), 2, wakeup);
  std::thread writer([&] {
    for (int32_t i = 0; i < kTokens; ++i) {
      while (outbox.Room(0) == 0) {
        outbox.WakeWhenDrained(0);
        if (outbox.Room(0) > 0) break;
        wakeup->WaitUntil(SteadyTime::max());
      }
      outbox.Push(0, Token(i));
    }
    outbox.SetFinish(0, {.reason = FinishReason::kLength, .tokens = kTokens});
  });
  int32_t next = 0;
  Finish finish;
  while (!outbox.Finished(0, &finish)) {
    TokenResult token;
    while (outbox.Pop(0, &token)) ASSERT_EQ(token.token, next++);
    std::this_thread::yield();
  }
  writer.join();
  EXPECT_EQ(next, kTokens);
  EXPECT_EQ(finish.tokens, kTokens);
}

}  // namespace
}  // namespace baram
