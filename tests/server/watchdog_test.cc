// Watchdog: a device that hangs or is lost while the server stops.
#include "server/watchdog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "engine/open.h"
#include "server/exit_codes.h"
#include "server/lifecycle.h"
#include "tests/engine/held_layers.h"
#include "tests/engine/rig.h"
#include "tests/scarce_threads.h"
#include "tests/server/comes.h"

namespace baram::testing {
namespace {

using server::Watchdog;

constexpr double kSoonS = 0.05, kNeverS = 1e9;

// Operators set the periods of their probes by these (RELIABILITY.md).
static_assert(server::Lifecycle::kStalledS == 30 && Watchdog::kStalledS == 60 &&
              server::AwakeTime::kStandstillS == 15);

class WatchdogTest : public ::testing::Test {
 protected:
  // Starts an engine with a running request whose first layer is held.
  void Start(FakeOptions fake = {}) {
    const EngineConfig config = SmallConfig();
    auto device = std::make_unique<FakeDevice>(layers_.In(std::move(fake)));
    auto model = OpenRandomModel(config, TinySpec({0}), std::move(device), 1);
    ASSERT_TRUE(model.ok()) << model.status();
    engine_ = Engine::Start(*std::move(model), config);
    layers_.Hold();
    ASSERT_TRUE(engine_->Submit(MakeRequest(RandomPrompt(1, 6), 50)).ok());
    ASSERT_TRUE(Comes([this] { return layers_.begun() > 0; }));
  }
  // Like Server::Stop, without listeners.
  void Stop(SteadyTime limit) {
    engine_->Drain(limit);
    while (!engine_->idle()) std::this_thread::yield();
    stopped_.store(true);
  }

  HeldLayers layers_;
  std::atomic<bool> stopped_{false};
  int looks_ = 0;  // made by Await
  std::unique_ptr<Engine> engine_;
};

TEST_F(WatchdogTest, ADeviceThatHangsWhileCallsDrain) {
  Start();
  // Detected at the second look.
  constexpr double kStalledS = 1.5 * std::chrono::duration<double>(Watchdog::kInterval).count();
  Watchdog watchdog(*engine_, kStalledS);
  EXPECT_EQ(watchdog.Await([this] { Stop(SteadyTime::max()); }, [this] { ++looks_; }),
            server::kExitInternal);
  EXPECT_GT(looks_, 0) << "a probe would still tell what was true before";
  EXPECT_FALSE(stopped_.load());
  layers_.Release();
  EXPECT_TRUE(Comes([this] { return stopped_.load(); }));
}

// A hang may block the code that reports it: the end of the process does not wait for that.
TEST_F(WatchdogTest, NobodyIsToldOnceTheDeviceHangs) {
  Start();
  Watchdog watchdog(*engine_, kSoonS);
  EXPECT_EQ(watchdog.Await([this] { Stop(SteadyTime::max()); }, [this] { ++looks_; }),
            server::kExitInternal);
  EXPECT_EQ(looks_, 0);
  layers_.Release();
  EXPECT_TRUE(Comes([this] { return stopped_.load(); }));
}

// The limit has ended its calls, and the engine's threads still can't be joined.
TEST_F(WatchdogTest, ADeviceThatHangsPastTheLimit) {
  Start();
  Watchdog watchdog(*engine_, kSoonS);
  EXPECT_EQ(
      watchdog.Await([this] { Stop(std::chrono::steady_clock::now()); }, [this] { ++looks_; }),
      server::kExitInternal);
  EXPECT_TRUE(Comes([this] { return stopped_.load(); }));
  layers_.Release();
}

TEST_F(WatchdogTest, AStepThatEndsIsWaitedFor) {
  Start();
  Watchdog watchdog(*engine_, kNeverS);
  std::thread later([this] {
    EXPECT_TRUE(Comes([this] { return stopped_.load(); }));
    layers_.Release();
  });
  EXPECT_EQ(
      watchdog.Await([this] { Stop(std::chrono::steady_clock::now()); }, [this] { ++looks_; }), 0);
  EXPECT_FALSE(layers_.holds());
  later.join();
}

TEST_F(WatchdogTest, StoppingNeedsNoFurtherThread) {
  Start();
  Watchdog watchdog(*engine_, kNeverS);
  layers_.Release();
  const ScarceThreads none(0);
  EXPECT_EQ(watchdog.Await([this] { Stop(SteadyTime::max()); }, [this] { ++looks_; }), 0);
}

TEST_F(WatchdogTest, ADeviceThatIsLostWhileCallsDrain) {
  Start({.lost_at = 4});
  Watchdog watchdog(*engine_, kNeverS);
  EXPECT_EQ(watchdog.Look(), 0);
  layers_.Release();
  EXPECT_EQ(watchdog.Await([this] { Stop(SteadyTime::max()); }, [this] { ++looks_; }),
            server::kExitOs);
}

TEST_F(WatchdogTest, WithALostDeviceAServerIsNeitherReadyNorLive) {
  Start({.lost_at = 4});
  server::Lifecycle lifecycle;
  std::vector<bool> told;
  lifecycle.Watch([&](bool ready, bool) { told.push_back(ready); });
  EXPECT_TRUE(lifecycle.live()) << "it loads";
  lifecycle.SetEngine(*engine_);
  lifecycle.SetReady();
  EXPECT_THAT(told, ::testing::ElementsAre(false, true));
  EXPECT_TRUE(lifecycle.ready());
  EXPECT_TRUE(lifecycle.live());
  layers_.Release();
  EXPECT_TRUE(Comes([this] { return !engine_->alive(); }));
  EXPECT_FALSE(lifecycle.ready());
  EXPECT_FALSE(lifecycle.live());
  EXPECT_TRUE(lifecycle.started());
}

// As under SIGSTOP, in a frozen container, or on a sleeping machine: there are no looks then
// either.
TEST_F(WatchdogTest, WhereTheProcessStoodStillAHangIsCountedAnew) {
  Start();
  constexpr double kStandstillS = 2 * kSoonS;
  Watchdog watchdog(*engine_, kSoonS, kStandstillS);
  server::Lifecycle lifecycle(kSoonS, kStandstillS);
  lifecycle.SetEngine(*engine_);
  std::this_thread::sleep_for(std::chrono::duration<double>(2 * kStandstillS));
  EXPECT_GT(engine_->stalled_s(), kSoonS);
  EXPECT_EQ(watchdog.Look(), 0);
  EXPECT_TRUE(lifecycle.live());
  EXPECT_TRUE(Comes([&] { return watchdog.Look() == server::kExitInternal; }));
  EXPECT_TRUE(Comes([&] { return !lifecycle.live(); }));
  layers_.Release();
}

TEST_F(WatchdogTest, AServerThatHangsIsNotReadyUntilItMovesAgain) {
  Start();
  server::Lifecycle lifecycle(kSoonS);
  using Told = std::pair<bool, bool>;  // ready, live
  std::vector<Told> told;
  lifecycle.Watch([&](bool ready, bool live) { told.emplace_back(ready, live); });
  lifecycle.SetEngine(*engine_);
  EXPECT_TRUE(Comes([&] { return !lifecycle.live(); }));
  lifecycle.SetReady();
  EXPECT_FALSE(lifecycle.ready());
  layers_.Release();
  EXPECT_TRUE(Comes([&] { return engine_->idle(); }));
  EXPECT_TRUE(lifecycle.live());
  EXPECT_TRUE(lifecycle.ready());
  lifecycle.NotifyWatcher();
  EXPECT_THAT(told,
              ::testing::ElementsAre(Told(false, true), Told(false, false), Told(true, true)));
}

}  // namespace
}  // namespace baram::testing
