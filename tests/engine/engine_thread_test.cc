// The engine with its threads: storms of submissions and cancellations from several threads. Mainly
// for the thread sanitizer; every output must still be exact and end once.
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>

#include "engine/engine.h"
#include "engine/open.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/held_layers.h"
#include "tests/engine/rig.h"

namespace baram::testing {
namespace {

std::unique_ptr<Engine> StartEngine(const FakeOptions& fake, const EngineConfig& config,
                                    const std::vector<int32_t>& windows) {
  auto model = OpenRandomModel(config, TinySpec(windows), std::make_unique<FakeDevice>(fake), 1);
  EXPECT_TRUE(model.ok()) << model.status();
  return Engine::Start(*std::move(model), config);
}

EngineConfig ThreadConfig() {
  EngineConfig config;
  config.max_model_len = 128;
  config.max_num_seqs = 8;
  config.max_num_batched_tokens = 32;
  config.stream_tokens = 8;
  return config;
}

std::unique_ptr<Client> NewClient(const std::string& id, uint64_t seed, int32_t prompt_tokens,
                                  int32_t max_tokens) {
  Request request = MakeRequest(RandomPrompt(seed, prompt_tokens), max_tokens);
  request.id = id;
  return MakeClient(std::move(request));
}

// A minimal delivery thread: reads every touched outbox into its Client.
class Reader {
 public:
  explicit Reader(Engine& engine) : engine_(engine), thread_([this] { Loop(); }) {}
  ~Reader() { Join(); }
  void Join() {
    if (thread_.joinable()) thread_.join();
  }
  // Submits the client's request and reads its outbox.
  absl::StatusOr<std::shared_ptr<Outbox>> Submit(Client& client) {
    auto outbox = engine_.Submit(client.request);
    if (!outbox.ok()) return outbox;
    {
      std::lock_guard lock(mutex_);
      client.outbox = *outbox;
      clients_.emplace(outbox->get(), &client);
    }
    std::vector<std::shared_ptr<Outbox>> touched = {*outbox};  // it may have been touched before
    engine_.touched().Add(touched);
    return outbox;
  }
  void Expect(int64_t outputs) { expected_.store(outputs); }
  int64_t finished() const { return finished_.load(); }

 private:
  void Loop() {
    std::vector<std::shared_ptr<Outbox>> taken;
    while (true) {
      engine_.touched().Take(&taken, SteadyTime::max());
      for (const std::shared_ptr<Outbox>& outbox : taken) {
        Client* client = Find(*outbox);
        if (client == nullptr) continue;
        const bool was_done = client->done();
        client->Read();
        if (!was_done && client->done()) finished_.fetch_add(1);
      }
      if (finished_.load() == expected_.load()) return;
    }
  }

  Client* Find(const Outbox& outbox) {
    std::lock_guard lock(mutex_);
    const auto found = clients_.find(&outbox);
    return found == clients_.end() ? nullptr : found->second;
  }

  Engine& engine_;
  std::mutex mutex_;
  std::map<const Outbox*, Client*> clients_;  // guarded by mutex_
  std::atomic<int64_t> finished_{0}, expected_{-1};
  std::thread thread_;
};

template <typename Condition>
bool Await(const Condition& condition) {
  const SteadyTime limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition() && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
  return condition();
}

TEST(EngineThreadTest, StormsOfSubmitsAndCancelsStayExact) {
  for (const int32_t depth : {1, 2}) {
    const std::vector<int32_t> windows = {0, 9};
    auto engine = StartEngine({.planning_depth = depth}, ThreadConfig(), windows);
    constexpr int kThreads = 4, kEach = 150;
    std::vector<std::unique_ptr<Client>> clients(kThreads * kEach);
    std::atomic<int64_t> accepted{0};
    {
      Reader reader(*engine);
      std::vector<std::thread> submitters;
      for (int t = 0; t < kThreads; ++t) {
        submitters.emplace_back([&, t] {
          for (int i = 0; i < kEach; ++i) {
            const int at = t * kEach + i;
            Request request = MakeRequest(RandomPrompt(at % 7, 5 + at % 40), 1 + at % 30);
            request.id = std::to_string(at);
            request.n = 1 + at % 3;
            clients[at] = MakeClient(std::move(request));
            auto outbox = reader.Submit(*clients[at]);
            if (!outbox.ok()) continue;
            accepted.fetch_add(1);
            if (at % 5 == 0) (*outbox)->Cancel();
            if (at % 7 == 0) (*outbox)->StopAt(0);
            if (at % 11 == 0) engine->Abort(std::to_string(at));
            (void)engine->stalled_s();
            (void)engine->stats().running.value();
          }
        });
      }
      for (std::thread& thread : submitters) thread.join();
      reader.Expect(accepted.load());
      engine->touched().Nudge();
    }
    EXPECT_GT(accepted.load(), kThreads * kEach / 2);
    for (const auto& client : clients) {
      if (client->outbox == nullptr) continue;  // refused: the queue was full
      for (int32_t i = 0; i < client->request.n; ++i) {
        ASSERT_EQ(client->outputs[i].finishes.size(), 1u);
        const std::vector<int32_t> ids = client->outputs[i].Ids();
        const ExpectedOutput expected = Expect(client->request, i, windows, 128);
        ASSERT_LE(ids.size(), expected.ids.size());
        EXPECT_TRUE(std::equal(ids.begin(), ids.end(), expected.ids.begin()));
        if (client->outputs[i].finish().reason == FinishReason::kLength) {
          EXPECT_EQ(ids.size(), expected.ids.size());
        }
      }
    }
  }
}

TEST(EngineThreadTest, GoingAwayEndsWhatIsLeft) {
  std::vector<std::unique_ptr<Client>> clients;
  {
    EngineConfig config = ThreadConfig();
    config.max_queued_requests = 100;
    auto engine = StartEngine({.planning_depth = 2}, config, {0});
    for (int i = 0; i < 50; ++i) {
      auto client = NewClient(std::to_string(i), i, 20, 100);
      auto outbox = engine->Submit(client->request);
      ASSERT_TRUE(outbox.ok()) << outbox.status();
      client->outbox = *outbox;
      clients.push_back(std::move(client));
    }
  }
  for (const auto& client : clients) {
    client->Read();
    ASSERT_EQ(client->outputs[0].finishes.size(), 1u);
    EXPECT_EQ(client->outputs[0].finish().reason, FinishReason::kDrained);
  }
}

TEST(EngineThreadTest, ALostDeviceIsToldToEverybody) {
  for (const int32_t depth : {1, 2}) {
    auto engine = StartEngine({.planning_depth = depth, .lost_at = 10}, ThreadConfig(), {0});
    std::vector<std::unique_ptr<Client>> clients;
    {
      Reader reader(*engine);
      for (int i = 0; i < 20; ++i) {
        auto client = NewClient(std::to_string(i), i, 20, 100);
        auto outbox = reader.Submit(*client);
        if (!outbox.ok()) {
          EXPECT_TRUE(absl::IsUnavailable(outbox.status()));
          continue;
        }
        clients.push_back(std::move(client));
      }
      reader.Expect(std::ssize(clients));
      engine->touched().Nudge();
    }
    EXPECT_FALSE(engine->alive());
    for (const auto& client : clients) {
      EXPECT_TRUE(client->outputs[0].finish().unavailable);
    }
  }
}

// A flush was sent for the only step, and detects the loss.
TEST(EngineThreadTest, ARequestMayComeWhileAFlushFindsTheDeviceLost) {
  std::atomic<int> waits{0};
  std::binary_semaphore lose(0);
  FakeOptions fake{.planning_depth = 2, .lost_at = 2};
  fake.in_wait = [&] {
    if (waits.fetch_add(1) > 0) lose.acquire();  // after the warm-up
  };
  auto engine = StartEngine(fake, ThreadConfig(), {0});
  const auto submit = [&](const char* id) {
    Request request = MakeRequest(RandomPrompt(1, 20), 1);
    request.id = id;
    return *engine->Submit(std::move(request));
  };
  const auto first = submit("first");
  ASSERT_TRUE(Await([&] { return waits.load() == 2; }));
  const auto second = submit("second");
  ASSERT_TRUE(Await([&] { return engine->stats().running.value() == 2; }));
  lose.release();
  for (const auto& outbox : {first, second}) {
    Finish finish;
    ASSERT_TRUE(Await([&] { return outbox->Finished(0, &finish); }));
    EXPECT_TRUE(finish.unavailable);
  }
  EXPECT_FALSE(engine->alive());
}

TEST(EngineThreadTest, DrainFinishesWhatRunsAndThenIsIdle) {
  auto engine = StartEngine({}, ThreadConfig(), {0});
  const auto client = NewClient("one", 1, 20, 60);
  {
    Reader reader(*engine);
    reader.Expect(1);
    ASSERT_TRUE(reader.Submit(*client).ok());
    engine->Drain(SteadyTime::max());
  }
  EXPECT_EQ(client->outputs[0].Ids(), Expect(client->request, 0, {0}, 128).ids);
  EXPECT_TRUE(engine->draining());
  EXPECT_TRUE(Await([&] { return engine->stalled_s() == 0; }));
}

// The engine sleeps while the ring is full.
TEST(EngineThreadTest, AReaderThatComesBackWakesTheEngine) {
  constexpr int32_t kRing = 4, kTokens = 60;
  EngineConfig config = ThreadConfig();
  config.stream_tokens = kRing;
  auto engine = StartEngine({}, config, {0});
  const auto client = NewClient("one", 1, 20, kTokens);
  const auto outbox = engine->Submit(client->request);
  ASSERT_TRUE(outbox.ok());
  client->outbox = *outbox;
  for (int32_t taken = 0; taken < kTokens; taken += kRing) {
    ASSERT_TRUE(Await([&] { return client->outbox->Room(0) == 0; })) << taken;
    client->Read(kRing);
  }
  EXPECT_TRUE(Await([&] {
    client->Read();
    return client->done();
  }));
  EXPECT_EQ(client->outputs[0].Ids(), Expect(client->request, 0, {0}, 128).ids);
}

// Not only when its reader's time is up.
TEST(EngineThreadTest, ADrainWakesTheEngineForItsLimit) {
  EngineConfig config = ThreadConfig();
  config.stream_tokens = 4;
  auto engine = StartEngine({}, config, {0});
  const auto client = NewClient("one", 1, 20, 60);
  const auto outbox = engine->Submit(client->request);
  ASSERT_TRUE(outbox.ok());
  client->outbox = *outbox;
  ASSERT_TRUE(Await([&] { return client->outbox->Room(0) == 0 && engine->stalled_s() == 0; }));
  engine->Drain(std::chrono::steady_clock::now() + std::chrono::milliseconds(20));
  ASSERT_TRUE(Await([&] { return engine->idle(); }));
  client->Read();
  ASSERT_TRUE(client->done());
  EXPECT_EQ(client->outputs[0].finish().reason, FinishReason::kDrained);
}

// A step may take long as long as its layers do not.
TEST(EngineThreadTest, EveryLayerIsProgress) {
  HeldLayers layers;
  auto engine = StartEngine(layers.In({}), ThreadConfig(), {0, 0});
  const auto client = NewClient("one", 1, 20, 1);
  const auto more = NewClient("more", 2, 5, 1);
  layers.Hold();
  Reader reader(*engine);
  reader.Expect(2);
  ASSERT_TRUE(reader.Submit(*client).ok());
  EXPECT_TRUE(Await([&] { return engine->stalled_s() > 0.2; }));
  ASSERT_TRUE(reader.Submit(*more).ok());
  EXPECT_GT(engine->stalled_s(), 0.2) << "new work is no progress";
  const SteadyTime released = std::chrono::steady_clock::now();
  layers.ReleaseOne();  // the second layer begins and is held
  EXPECT_TRUE(Await([&] { return layers.begun() == 2; }));
  const double stalled_s = engine->stalled_s();
  EXPECT_LE(stalled_s, SecondsSince(released)) << "it counts from the second layer on";
  EXPECT_EQ(reader.finished(), 0);
  EXPECT_TRUE(Await([&] { return engine->stalled_s() > 0.2; }));
  layers.Release();
  reader.Join();
  EXPECT_TRUE(Await([&] { return engine->stalled_s() == 0; }));
}

// A layer of a large model takes long too, if a step has very many tokens.
TEST(EngineThreadTest, EveryProductOfALayerIsProgress) {
  std::vector<int64_t> begun;
  const Workspace* workspace = nullptr;
  FakeOptions fake;
  fake.in_gemm = [&] {
    if (workspace != nullptr) begun.push_back(workspace->part_begun.load());
  };
  EngineRig rig(fake, ThreadConfig(), {0});
  workspace = rig.model().workspace.get();
  rig.Submit(MakeRequest(RandomPrompt(1, 5), 1));
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(begun.size(), 5u);
  EXPECT_TRUE(
      std::ranges::is_sorted(begun, std::less_equal<>()));  // each later than the previous one
}

// Joining the engine waits for it.
TEST(EngineThreadTest, AStepInFlightIsNoRestThoughItsRequestHasEnded) {
  HeldLayers layers;
  auto engine = StartEngine(layers.In({}), ThreadConfig(), {0});
  const auto client = NewClient("one", 1, 20, 100);
  const auto more = NewClient("more", 2, 5, 1);
  layers.Hold();
  Reader reader(*engine);
  reader.Expect(2);
  const auto outbox = reader.Submit(*client);
  ASSERT_TRUE(outbox.ok());
  EXPECT_TRUE(Await([&] { return engine->stalled_s() > 0.2; }));
  (*outbox)->Cancel();
  EXPECT_TRUE(Await([&] { return engine->idle(); }));
  EXPECT_GT(engine->stalled_s(), 0.2);
  ASSERT_TRUE(reader.Submit(*more).ok());
  EXPECT_GT(engine->stalled_s(), 0.2) << "new work is no progress";
  layers.Release();
  reader.Join();
  EXPECT_TRUE(Await([&] { return engine->stalled_s() == 0; }));
}

}  // namespace
}  // namespace baram::testing
