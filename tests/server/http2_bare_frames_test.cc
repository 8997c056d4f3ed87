// Http2Guard: frames that bring no part of a request are limited, but not those that clients send
// with their calls or while they read.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "server/http2_guard.h"
#include "tests/server/http2_frames.h"
#include "tests/server/http_client.h"
#include "tests/server/server_fixture.h"

namespace baram::testing {
namespace {

using server::Http2Guard;
using Broken = Http2Guard::Broken;
using std::chrono::steady_clock;

server::Http2Totals totals;

bool Read(Http2Guard& guard, std::string_view bytes, steady_clock::time_point now = {}) {
  return guard.Read({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, now);
}

std::string Call(uint32_t stream) { return Frame(kHeadersFrame, kEndHeaders, stream, "h"); }
std::string Window(uint32_t stream) { return Frame(kWindowFrame, 0, stream, BigEndian(100, 4)); }

// How often `frames` may come at once: until `guard` is broken, or `most` times.
int HowOften(Http2Guard& guard, const std::string& frames, int most) {
  for (int times = 0; times < most; ++times) {
    if (Read(guard, frames)) return times;
  }
  return most;
}

// A connection whose first call is half sent, and whose allowance for that call is used up.
std::unique_ptr<Http2Guard> OneCall() {
  auto guard = std::make_unique<Http2Guard>(
      server::Http2Limits{
          .max_header_bytes = 4096, .max_streams = 150, .max_half_sent_bytes = 256'000},
      totals);
  guard->Told();
  Read(*guard, Preface() + Frame(kSettingsFrame, kAck, 0, "") + Call(1));
  HowOften(*guard, Window(1), Http2Guard::kFramesPerCall);
  return guard;
}

TEST(Http2BareFramesTest, HaveABurst) {
  for (const std::string& frame :
       {Window(0), Window(1), Window(7), Frame(kPriorityFrame, 0, 9, BigEndian(1, 5)),
        Frame(kSettingsFrame, 0, 0, ""), Frame(kSettingsFrame, kAck, 0, ""),
        Frame(kPingFrame, 0, 0, BigEndian(5, 8)), Frame(kPingFrame, kAck, 0, BigEndian(5, 8)),
        Frame(77, 0, 1, "x"), Frame(kDataFrame, 0, 1, ""), Frame(kDataFrame, 0, 8, ""),
        Frame(kDataFrame, kEndStream, 8, ""), Call(1), Call(2)}) {
    const auto guard = OneCall();
    EXPECT_NEAR(HowOften(*guard, frame, 20'000), Http2Guard::kFramesAtOnce, 10)
        << "type " << int{frame[3]};
    EXPECT_EQ(guard->broken(), Broken::kFrames);
  }
}

TEST(Http2BareFramesTest, HaveARate) {
  const auto guard = OneCall();
  steady_clock::time_point now{std::chrono::hours(1)};
  for (int i = 0; i < Http2Guard::kFramesAtOnce; ++i) Read(*guard, Window(1), now);
  for (int i = 0; i < 100'000; ++i) Read(*guard, Window(1), now += Http2Guard::kFramePause);
  EXPECT_EQ(guard->broken(), Broken::kNothing);
  Read(*guard, Window(1), now);
  EXPECT_EQ(guard->broken(), Broken::kFrames);
}

TEST(Http2BareFramesTest, LargeOnesCountByTheirSize) {
  const std::string large = Frame(77, 0, 1, std::string(kMaxFrameBytes, 'x'));
  EXPECT_NEAR(HowOften(*OneCall(), large, 20'000), Http2Guard::kFramesAtOnce / 17, 10);
}

// A few bytes in each frame make up for little.
TEST(Http2BareFramesTest, DataIsOneUnlessItIsLargeOrTheLast) {
  EXPECT_LT(HowOften(*OneCall(), Frame(kDataFrame, 0, 1, "xy"), 20'000), 11'000);
  const std::string large(Http2Guard::kBytesPerFrame, 'x');
  EXPECT_EQ(HowOften(*OneCall(), Frame(kDataFrame, 0, 1, large), 20'000), 20'000);
}

// As gRPC's client sends them, and Go's.
TEST(Http2BareFramesTest, ManySmallCallsAreAllowed) {
  const auto guard = OneCall();
  for (uint32_t stream = 3; stream < 100'000; stream += 2) {
    Read(*guard, Call(stream) + Frame(kDataFrame, 0, stream, "12345") + Window(0) +
                     Frame(kDataFrame, kEndStream, stream, "") + Window(stream) + Window(0));
  }
  EXPECT_EQ(guard->broken(), Broken::kNothing);
}

// Whether a client may answer `frame`, sent to it again and again, with as many WINDOW_UPDATEs.
bool MayAnswer(const std::string& frame, int windows) {
  const auto guard = OneCall();
  for (int i = 0; i < 20'000 && guard->broken() == Broken::kNothing; ++i) {
    guard->Wrote({reinterpret_cast<const uint8_t*>(frame.data()), frame.size()});
    for (int window = 0; window < windows; ++window) Read(*guard, Window(window & 1));
  }
  return guard->broken() == Broken::kNothing;
}

TEST(Http2BareFramesTest, WhoReadsAFastStreamMaySendWindows) {
  const std::string large(kMaxFrameBytes, 'd'), token(11, 'd');
  EXPECT_TRUE(MayAnswer(Frame(kDataFrame, 0, 1, token), 2));
  EXPECT_TRUE(MayAnswer(Frame(kDataFrame, 0, 1, large), 130));
  EXPECT_FALSE(MayAnswer(Frame(kDataFrame, 0, 1, large), 140));
  EXPECT_TRUE(MayAnswer(Frame(kDataFrame, 0, 1, "12345"), 1));
  EXPECT_FALSE(MayAnswer(Frame(kDataFrame, 0, 1, "1"), 1)) << "it opens the window byte by byte";
  EXPECT_FALSE(MayAnswer(Frame(kHeadersFrame, kEndHeaders, 1, std::string(900, 'h')), 1));
}

using GrpcBareFramesTest = ServerFixture;

// gRPC 1.51 reads as many as come, and other connections wait.
TEST_F(GrpcBareFramesTest, TooManyEndTheirConnection) {
  StartServer();
  int closed = 0;
  for (const std::string& frame :
       {Window(0), Window(1), Frame(kPriorityFrame, 0, 99, BigEndian(1, 5)),
        Frame(77, 0, 1, "unknown"), Frame(kDataFrame, 0, 1, "")}) {
    server::RawClient client(server().grpc_address());
    client.Send(Preface() + CallHeaders(1, "GenerateOnce"));
    std::string many;
    for (int i = 0; i < 1000; ++i) many += frame;
    int sent = 0;
    while (sent < 1000 && client.Send(many)) ++sent;
    EXPECT_LT(sent, 1000) << "type " << int{frame[3]};
    const std::string counted = "reason=\"TOO_MANY_FRAMES\"} " + std::to_string(++closed) + "\n";
    EXPECT_TRUE(
        Comes([&] { return server().metrics().Text().find(counted) != std::string::npos; }));
  }
  EXPECT_TRUE(Stream(TextRequest("hello", 4)).status.ok());
}

}  // namespace
}  // namespace baram::testing
