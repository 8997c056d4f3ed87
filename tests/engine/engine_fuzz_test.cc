// Draws whole configurations and loads of the engine on the fake device, some of which drain or
// lose the device. After every step I2 and I3 hold, the step was fair and no time limit has passed;
// every output gets exactly one end (I5) and exactly the tokens that the model's definition gives.
//
// BARAM_FUZZ_CASES sets how many configurations are drawn, BARAM_FUZZ_SEED the first seed.
#include <cstdlib>
#include <random>
#include <sstream>

#include "engine/sizes.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/fairness.h"
#include "tests/engine/rig.h"

namespace baram::testing {
namespace {

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoll(text);
}

class Draw {
 public:
  explicit Draw(uint64_t seed) : random_(seed) {}
  int32_t Between(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(random_() % (high - low + 1));
  }
  bool OneIn(int32_t n) { return Between(1, n) == 1; }
  template <typename T>
  T Of(std::initializer_list<T> values) {
    return values.begin()[Between(0, static_cast<int32_t>(values.size()) - 1)];
  }
  uint64_t Seed() { return random_(); }

 private:
  std::mt19937_64 random_;
};

// How a client behaves while its request runs.
struct Behaviour {
  Client* client = nullptr;
  int32_t reads_per_turn = 1 << 30;
  int32_t cancel_in = -1, stop_in = -1, abort_in = -1;  // turns; -1: never
  int32_t stop_index = 0;
};

class FuzzCase {
 public:
  explicit FuzzCase(uint64_t seed) : draw_(seed) {
    fake_.planning_depth = draw_.Between(1, 2);
    fake_.graphs = fake_.planning_depth == 2 && seed % 4 != 0;
    fake_.fail_captures = seed % 16 == 1 ? -1 : 0;
    fake_.page_tokens = draw_.Of({1, 2, 4, 8, 16});
    if (draw_.OneIn(4)) fake_.nonfinite_divisor = 200;
    if (draw_.OneIn(12)) fake_.lost_at = draw_.Between(2, 200);
    if (draw_.OneIn(8)) drain_in_ = draw_.Between(0, 80);
    const int32_t layers = draw_.Between(1, 4);
    for (int32_t i = 0; i < layers; ++i) windows_.push_back(draw_.Of({0, 0, 1, 3, 8, 20}));
    config_.max_model_len = draw_.Between(8, 120);
    config_.max_num_seqs = draw_.Between(1, 10);
    config_.max_num_batched_tokens = draw_.Between(1, 60);
    config_.mixed_step_tokens = draw_.Of({0, 0, 0, 1, 5, 20});
    config_.max_logit_rows = draw_.Between(1, 12);
    config_.logit_rows_at_once = draw_.Of({1, 1, 128});
    config_.max_chunk_tokens = draw_.Of({0, 0, 1, 3, 7});
    config_.short_prompt_share = draw_.Of({0.0, 0.25, 0.5, 0.9});
    config_.prefix_cache = !draw_.OneIn(4);
    config_.preempt_every_draw = draw_.OneIn(8);
    config_.stream_tokens = draw_.Of({2, 3, 8, 1024});
    config_.longest_pause_s = draw_.Of({0.02, 0.2, 30.0});
    const KvPlan plan = PlanKv(TinySpec(windows_), fake_.page_tokens);
    const auto least =
        static_cast<int32_t>(PagesForSequence(plan, 2 * fake_.page_tokens, fake_.planning_depth));
    pages_ = least + (draw_.OneIn(3) ? draw_.Between(0, 8) : draw_.Between(0, 300));
  }

  std::string Describe() const {
    std::ostringstream text;
    text << "depth " << fake_.planning_depth << (fake_.graphs ? " with graphs" : "") << ", page "
         << fake_.page_tokens << ", pages " << pages_ << ", seqs " << config_.max_num_seqs
         << ", tokens " << config_.max_num_batched_tokens << " (mixed " << config_.mixed_step_tokens
         << "), windows";
    for (const int32_t window : windows_) text << ' ' << window;
    return text.str();
  }

  void Run() {
    EngineRig rig(fake_, config_, windows_, pages_);
    max_model_len_ = rig.info().max_model_len;
    for (int32_t i = 0; i < 3; ++i) {
      stems_.push_back(RandomPrompt(draw_.Seed(), max_model_len_));
    }
    int32_t to_come = draw_.Between(1, 40);
    std::vector<Behaviour> behaviours;
    int32_t turn = 0;
    for (; turn < 200000; ++turn) {
      if (turn == drain_in_) {
        rig.core().Drain(rig.now() + std::chrono::milliseconds(draw_.Between(0, 60)));
      }
      if (!rig.core().alive() || rig.core().draining()) to_come = 0;
      while (to_come > 0 && draw_.OneIn(3)) {
        behaviours.push_back(Arrive(rig));
        --to_come;
      }
      const Fairness fairness(rig);
      const SteadyTime began = rig.now();
      rig.Turn();
      ExpectTimeLimitsKept(rig, began);
      if (rig.core().alive() && !config_.preempt_every_draw) fairness.ExpectKept(rig);
      if (::testing::Test::HasFailure()) return;
      if (draw_.OneIn(50)) rig.Advance(0.05);
      bool done = to_come == 0;
      for (Behaviour& behaviour : behaviours) {
        Act(rig, behaviour);
        done = done && behaviour.client->done();
      }
      if (done && rig.core().idle() && rig.core().steps_in_flight() == 0) break;
    }
    ASSERT_LT(turn, 200000) << "it goes on for ever";
    EXPECT_EQ(rig.owned_pages(), 0);
    EXPECT_TRUE(rig.core().scheduler().requests().empty());
    for (const Behaviour& behaviour : behaviours) Verify(rig, *behaviour.client);
  }

  int64_t requests() const { return requests_; }

 private:
  Behaviour Arrive(EngineRig& rig) {
    ++requests_;
    const int32_t length = draw_.Between(1, max_model_len_ - 1);
    std::vector<int32_t> prompt = stems_[draw_.Between(0, 2)];
    prompt.resize(length);
    if (draw_.OneIn(3)) prompt[draw_.Between(0, length - 1)] = draw_.Between(0, kTinyVocab - 1);
    Request request = MakeRequest(std::move(prompt), draw_.Between(1, 40));
    request.n = draw_.OneIn(4) ? draw_.Between(2, 4) : 1;
    request.sampling.seed = draw_.Between(0, 3);
    request.sampling.logprobs = draw_.Of({-1, 0, 2});
    request.priority = draw_.Of({0, 0, 0, -1, 2});
    if (draw_.OneIn(6)) request.sampling.frequency_penalty = 0.5f;
    if (draw_.OneIn(6)) request.logit_bias = {{draw_.Between(0, kTinyVocab - 1), 1.0f}};
    if (draw_.OneIn(3)) request.stop_ids = {draw_.Between(0, 60), draw_.Between(0, 60)};
    if (draw_.OneIn(4)) request.sampling.min_tokens = draw_.Between(1, 8);
    if (draw_.OneIn(4)) request.prompt_logprobs = draw_.Between(0, 2);
    if (draw_.OneIn(8)) request.read_prefix_cache = false;
    if (draw_.OneIn(4)) request.cache_salt = draw_.Of({"a", "b"});
    if (draw_.OneIn(8)) {
      request.deadline = rig.now() + std::chrono::milliseconds(draw_.Between(-1, 60));
    }
    Behaviour behaviour;
    if (draw_.OneIn(8)) behaviour.cancel_in = draw_.Between(0, 40);
    if (draw_.OneIn(8)) behaviour.stop_in = draw_.Between(0, 40);
    if (draw_.OneIn(12)) behaviour.abort_in = draw_.Between(0, 40);
    behaviour.stop_index = draw_.Between(0, request.n - 1);
    if (draw_.OneIn(4)) behaviour.reads_per_turn = draw_.Between(0, 1);
    behaviour.client = rig.Submit(std::move(request));
    return behaviour;
  }

  void Act(EngineRig& rig, Behaviour& behaviour) {
    Client& client = *behaviour.client;
    if (behaviour.cancel_in-- == 0) client.outbox->Cancel();
    if (behaviour.stop_in-- == 0) client.outbox->StopAt(behaviour.stop_index);
    if (behaviour.abort_in-- == 0 && !client.done()) rig.core().Abort(client.request.id);
    if (behaviour.reads_per_turn == 0) {
      // A stalled reader that occasionally comes back.
      if (draw_.OneIn(60)) client.Read();
    } else {
      client.Read(behaviour.reads_per_turn);
    }
  }

  // Nothing goes on after its deadline or the longest pause. `began`: the last turn's time.
  void ExpectTimeLimitsKept(const EngineRig& rig, SteadyTime began) const {
    for (const auto& live : rig.core().scheduler().requests()) {
      if (live->unfinished == 0) continue;
      EXPECT_GT(live->request.deadline, began);
      for (const Sequence& sequence : live->outputs) {
        if (sequence.state == SequenceState::kRetiring || !sequence.paused) continue;
        EXPECT_GT(After(sequence.paused_since, config_.longest_pause_s), began);
      }
    }
  }

  void Verify(const EngineRig& rig, const Client& client) {
    const Request& request = client.request;
    bool completed = false;
    for (int32_t i = 0; i < request.n; ++i) {
      const Received& received = client.outputs[i];
      ASSERT_EQ(received.finishes.size(), 1u);
      const Finish& finish = received.finish();
      const ExpectedOutput expected =
          Expect(request, i, windows_, max_model_len_, fake_.nonfinite_divisor);
      const std::vector<int32_t> ids = received.Ids();
      ASSERT_LE(ids.size(), expected.ids.size());
      ASSERT_EQ(ids, std::vector<int32_t>(expected.ids.begin(), expected.ids.begin() + ids.size()));
      for (size_t t = 0; t < ids.size(); ++t) {
        ASSERT_EQ(received.tokens[t].logprob, expected.logprobs[t]);
      }
      EXPECT_EQ(finish.tokens, std::ssize(ids));
      EXPECT_FALSE(finish.unavailable && rig.core().alive());
      EXPECT_FALSE(finish.reason == FinishReason::kDrained && !rig.core().draining());
      const bool by_itself = finish.reason == FinishReason::kLength ||
                             (finish.reason == FinishReason::kFailed && !finish.unavailable) ||
                             (finish.reason == FinishReason::kStop && finish.stop_id >= 0);
      if (!by_itself) continue;
      EXPECT_EQ(finish.reason, expected.reason) << finish.message;
      EXPECT_EQ(finish.stop_id, expected.stop_id);
      EXPECT_EQ(ids.size(), expected.ids.size());
      completed = completed || finish.reason != FinishReason::kFailed;
    }
    if (request.prompt_logprobs < 0) return;
    const std::vector<float> scores = ExpectScores(request, windows_);
    ASSERT_LE(client.scores.size(), scores.size());
    if (completed) {
      EXPECT_EQ(client.scores.size(), scores.size());
    }
    for (size_t i = 0; i < client.scores.size(); ++i) {
      ASSERT_EQ(client.scores[i].token, request.prompt[i + 1]);
      ASSERT_EQ(client.scores[i].logprob, scores[i]);
    }
  }

  Draw draw_;
  FakeOptions fake_;
  EngineConfig config_;
  std::vector<int32_t> windows_;
  int32_t pages_ = 0;
  int32_t drain_in_ = -1;  // turns; -1: never
  int32_t max_model_len_ = 0;
  int64_t requests_ = 0;
  std::vector<std::vector<int32_t>> stems_;  // shared beginnings of prompts
};

TEST(EngineFuzz, EveryOutputIsExactAndEndsOnce) {
  const int64_t cases = FromEnvironment("BARAM_FUZZ_CASES", 2000);
  const int64_t first = FromEnvironment("BARAM_FUZZ_SEED", 1);
  int64_t requests = 0;
  for (int64_t seed = first; seed < first + cases; ++seed) {
    FuzzCase fuzz(seed);
    SCOPED_TRACE("BARAM_FUZZ_SEED=" + std::to_string(seed) + ": " + fuzz.Describe());
    fuzz.Run();
    requests += fuzz.requests();
    if (::testing::Test::HasFailure()) return;
  }
  RecordProperty("requests", std::to_string(requests));
}

// Configurations that found what the first ones do not.
TEST(EngineFuzz, WhatOnceWentWrong) {
  for (const int64_t seed : {
           8322,   // tokens left to a sequence that its scores kept from using them
           15806,  // a running sequence passed, and a waiting one with it, past a preempted one
           33786,  // a preempted one that was short enough while more of it was cached
       }) {
    FuzzCase fuzz(seed);
    SCOPED_TRACE("BARAM_FUZZ_SEED=" + std::to_string(seed) + ": " + fuzz.Describe());
    fuzz.Run();
  }
}

}  // namespace
}  // namespace baram::testing
