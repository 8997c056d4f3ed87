// A device that is lost, hangs or computes logits that are not finite: what clients are told, and
// how the process ends.
#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "engine/open.h"
#include "server/exit_codes.h"
#include "server/supervise.h"
#include "tests/engine/held_layers.h"
#include "tests/engine/rig.h"
#include "tests/server/grpc_detail.h"
#include "tests/server/openai_flow_fixture.h"

namespace baram::testing {
namespace {

using server::Supervise;
using server::Watchdog;
using std::chrono::milliseconds;

class DeviceFaultsTest : public OpenAiFlowFixture {
 protected:
  // Starts a server on a fake device, whose layers Hold holds.
  void StartFake(FakeOptions fake = {}) {
    fake = layers_.In(std::move(fake));
    StartServer({}, [fake](const EngineConfig& config) -> absl::StatusOr<std::unique_ptr<Engine>> {
      ModelSpec spec = TinySpec({0});
      spec.vocab_size = TinyFolder::kVocabSize;
      auto model = OpenRandomModel(config, spec, std::make_unique<FakeDevice>(fake), /*seed=*/1);
      if (!model.ok()) return model.status();
      return Engine::Start(*std::move(model), config);
    });
  }
  static v1::GenerateRequest LongRequest() {
    v1::GenerateRequest request = TextRequest("hello", 64);
    request.mutable_stopping()->set_ignore_eos(true);
    return request;
  }
  server::RawResponse AskLong() {
    return Ask(Post(R"({"prompt":"hello","max_tokens":64,"ignore_eos":true})"));
  }
  // Starts a call and holds its first layer.
  void Hold() {
    layers_.Hold();
    call_ = std::async(std::launch::async, [this] { return Stream(LongRequest()); });
    ASSERT_TRUE(Comes([this] { return layers_.begun() > 0; }));
  }
  // Counts what the server reports to gRPC's health service, instead of reporting it.
  void CountReports() {
    server().lifecycle().Watch([this](bool, bool) { ++reports_; });
  }
  // Sends no signal; ends the test if Supervise should have returned long ago.
  static server::WaitForSignal NoSignal() {
    return [end = FromNow(30)](milliseconds) -> std::optional<int> {
      std::this_thread::sleep_for(milliseconds(1));
      if (std::chrono::steady_clock::now() < end) return std::nullopt;
      ADD_FAILURE() << "the fault was not noticed";
      return SIGTERM;
    };
  }
  static server::WaitForSignal Terminate() {
    return [](milliseconds) { return SIGTERM; };
  }
  // Whether the thread in which a watchdog stops a server has ended.
  static bool StopEnds() {
    return Comes([] {
      for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task")) {
        std::string name;
        if (std::getline(std::ifstream(thread.path() / "comm"), name); name == "baram-stop") {
          return false;
        }
      }
      return true;
    });
  }

  static constexpr double kSoonS = 0.05, kNeverS = 1e9;
  HeldLayers layers_;
  std::atomic<int> reports_{0};
  std::future<Streamed> call_;
};

TEST_F(DeviceFaultsTest, ALostDeviceIsUnavailable) {
  StartFake({.lost_at = 4});
  ASSERT_TRUE(server().engine().alive());
  grpc::ClientContext context;
  const Streamed failed = Stream(LongRequest(), context);
  for (const grpc::Status& status : {failed.status, Stream(LongRequest()).status}) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
    EXPECT_EQ(Reason(status), "DEVICE_LOST");
    EXPECT_TRUE(Detail<google::rpc::RetryInfo>(status).has_value());
  }
  EXPECT_EQ(context.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1u);

  StartFake({.lost_at = 4});
  ASSERT_TRUE(server().engine().alive());
  for (const char* const call : {"running", "new"}) {
    const server::RawResponse response = AskLong();
    EXPECT_EQ(response.status, 503) << call;
    EXPECT_EQ(response.headers.count("retry-after"), 1u) << call;
    EXPECT_FALSE(server().engine().alive());
  }
}

TEST_F(DeviceFaultsTest, LogitsThatAreNotFiniteAreInternal) {
  StartFake({.nonfinite_divisor = 2});  // every second row's
  const Streamed failed = Stream(LongRequest());
  EXPECT_EQ(failed.status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(Reason(failed.status), "INTERNAL");
  EXPECT_FALSE(Detail<google::rpc::RetryInfo>(failed.status).has_value());
  const server::RawResponse response = AskLong();
  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(response.headers.count("retry-after"), 0u);
  EXPECT_EQ(response.headers.at("x-should-retry"), "false");
  EXPECT_TRUE(server().lifecycle().ready());
}

TEST_F(DeviceFaultsTest, AServerWhoseDeviceIsLostExits) {
  StartFake({.lost_at = 4});
  Watchdog watchdog(server().engine(), kNeverS);
  Hold();
  layers_.Release();
  EXPECT_EQ(Supervise(server(), watchdog, NoSignal()), server::kExitOs);
  EXPECT_TRUE(server().lifecycle().draining()) << "clients were given time to be told";
  EXPECT_EQ(call_.get().status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(DeviceFaultsTest, AServerWhoseDeviceHangsExits) {
  StartFake();
  Watchdog watchdog(server().engine(), kSoonS);
  Hold();
  EXPECT_EQ(Supervise(server(), watchdog, NoSignal()), server::kExitInternal);
  EXPECT_FALSE(server().lifecycle().draining());
  layers_.Release();
  EXPECT_TRUE(call_.get().status.ok());
}

TEST_F(DeviceFaultsTest, AServerWhoseDeviceIsLostWhileItStopsExits) {
  StartFake({.lost_at = 4});
  Watchdog watchdog(server().engine(), kNeverS);
  Hold();
  CountReports();
  std::thread later([this] {
    EXPECT_TRUE(Comes([this] { return server().lifecycle().draining(); }));
    // The drain itself may be about to make one.
    const int drained = reports_.load() + 1;
    EXPECT_TRUE(Comes([&] { return reports_.load() > drained; }));
    layers_.Release();
  });
  EXPECT_EQ(Supervise(server(), watchdog, Terminate()), server::kExitOs);
  later.join();
  EXPECT_EQ(call_.get().status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(DeviceFaultsTest, AServerWhoseDeviceHangsWhileItStopsExits) {
  StartFake();
  Watchdog watchdog(server().engine(), kSoonS);
  Hold();
  EXPECT_EQ(Supervise(server(), watchdog, Terminate()), server::kExitInternal);
  layers_.Release();
  EXPECT_TRUE(call_.get().status.ok());
  EXPECT_TRUE(StopEnds());
}

// A hang starts and ends without a call from outside.
TEST_F(DeviceFaultsTest, HealthIsReportedWhileNothingElseHappens) {
  StartFake();
  Watchdog watchdog(server().engine(), kNeverS);
  CountReports();
  const int before = reports_.load();
  const auto third = [&, looks = 0](milliseconds) mutable -> std::optional<int> {
    if (++looks < 3) return std::nullopt;
    EXPECT_EQ(reports_.load() - before, 2);
    return SIGTERM;
  };
  EXPECT_EQ(Supervise(server(), watchdog, third), 0);
}

}  // namespace
}  // namespace baram::testing
