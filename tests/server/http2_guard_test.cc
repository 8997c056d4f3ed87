// Http2Guard: what it counts of a client's frames, wherever the bytes are cut.
#include "server/http2_guard.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <string_view>

#include "tests/server/http2_frames.h"

namespace baram::testing {
namespace {

using server::Http2Guard;
using Broken = Http2Guard::Broken;
using std::chrono::steady_clock;

constexpr int32_t kMost = 4096;  // bytes of a header block

void Read(Http2Guard& guard, std::string_view bytes, steady_clock::time_point now = {}) {
  guard.Read({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, now);
}

// What a connection that begins with its preface and goes on so has broken: cut into pieces of
// `size`, or into two after so many.
Broken InPieces(std::string bytes, size_t size) {
  bytes = Preface() + bytes;
  Http2Guard guard;
  guard.Begin(kMost);
  for (size_t at = 0; at < bytes.size(); at += size) Read(guard, bytes.substr(at, size));
  return guard.broken();
}
Broken InTwo(std::string bytes, size_t first) {
  bytes = Preface() + bytes;
  Http2Guard guard;
  guard.Begin(kMost);
  Read(guard, bytes.substr(0, first));
  Read(guard, bytes.substr(first));
  return guard.broken();
}

void ExpectWhereverItIsCut(const std::string& bytes, Broken expected) {
  for (size_t size = 1; size <= bytes.size() + Preface().size(); ++size) {
    ASSERT_EQ(InPieces(bytes, size), expected) << "pieces of " << size;
    ASSERT_EQ(InTwo(bytes, size), expected) << "cut at " << size;
  }
}

std::string Headers(size_t bytes, char flags = 0) {
  return Frame(kHeadersFrame, flags, 1, std::string(bytes, 'h'));
}
std::string More(size_t bytes, char flags = 0) {
  return Frame(kContinuationFrame, flags, 1, std::string(bytes, 'h'));
}
std::string Reset() { return Frame(kResetFrame, 0, 1, BigEndian(8, 4)); }

TEST(Http2GuardTest, AHeaderBlockIsCountedOverItsFrames) {
  ExpectWhereverItIsCut(Headers(2048) + More(1024) + More(1024, kEndHeaders), Broken::kNothing);
  ExpectWhereverItIsCut(Headers(2048) + More(1024) + More(1025, kEndHeaders), Broken::kHeaderBytes);
  ExpectWhereverItIsCut(Headers(kMost + 1, kEndHeaders), Broken::kHeaderBytes);
}

// Not when it has come, which takes the memory already.
TEST(Http2GuardTest, AFrameTooLargeIsSeenByItsHead) {
  EXPECT_EQ(InPieces(Headers(kMost + 1).substr(0, 9), 1), Broken::kHeaderBytes);
  EXPECT_EQ(InPieces(Headers(kMost) + More(1).substr(0, 8), 1), Broken::kNothing);
  EXPECT_EQ(InPieces(Headers(kMost) + More(1).substr(0, 9), 1), Broken::kHeaderBytes);
}

TEST(Http2GuardTest, FramesOfABlockAreCountedHoweverSmall) {
  ExpectWhereverItIsCut(Headers(1) + More(0) + More(0) + More(0), Broken::kNothing);
  ExpectWhereverItIsCut(Headers(1) + More(0) + More(0) + More(0) + More(0), Broken::kHeaderBytes);
}

TEST(Http2GuardTest, EachBlockIsCountedByItself) {
  std::string many;
  for (int i = 0; i < 20; ++i) many += Headers(2000) + More(2000, kEndHeaders);
  EXPECT_EQ(InPieces(many, many.size()), Broken::kNothing);
}

// Among them what looks like frames inside of others.
TEST(Http2GuardTest, OtherFramesAreNotCounted) {
  const std::string inner = Headers(kMost + 1).substr(0, 9);
  ExpectWhereverItIsCut(Frame(kDataFrame, 0, 1, inner + inner) + Frame(kPingFrame, 0, 0, inner) +
                            Frame(kSettingsFrame, 0, 0, "") + Frame(kDataFrame, 0, 1, inner),
                        Broken::kNothing);
  EXPECT_EQ(InPieces(Frame(kDataFrame, 0, 1, std::string(100'000, 'x')), 4096), Broken::kNothing);
}

TEST(Http2GuardTest, ResetsHaveABurstAndARate) {
  Http2Guard guard;
  guard.Begin(kMost);
  steady_clock::time_point now{std::chrono::hours(1)};
  Read(guard, Preface(), now);
  for (int i = 0; i < Http2Guard::kResetsAtOnce; ++i) Read(guard, Reset(), now);
  EXPECT_EQ(guard.broken(), Broken::kNothing);
  for (int i = 0; i < 10'000; ++i) Read(guard, Reset(), now += Http2Guard::kResetPause);
  EXPECT_EQ(guard.broken(), Broken::kNothing);
  now += 2 * Http2Guard::kResetPause;
  Read(guard, Reset() + Reset(), now);
  EXPECT_EQ(guard.broken(), Broken::kNothing);
  Read(guard, Reset(), now);
  EXPECT_EQ(guard.broken(), Broken::kResets);
  // It stays so, also for who waits.
  Read(guard, Frame(kSettingsFrame, 0, 0, ""), now + std::chrono::hours(1));
  EXPECT_EQ(guard.broken(), Broken::kResets);
}

// Connections of this process, as gRPC would have them.
class Pair {
 public:
  Pair() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends_), 0); }
  ~Pair() { Close(); }
  void Close() {
    for (int& end : ends_) {
      if (end >= 0) close(end);
      end = -1;
    }
  }
  int server() const { return ends_[0]; }
  void Send(const std::string& bytes) const {
    EXPECT_EQ(write(ends_[1], bytes.data(), bytes.size()), std::ssize(bytes));
  }
  bool ended() const {
    char byte;
    return recv(ends_[1], &byte, 1, MSG_DONTWAIT) == 0;
  }
  // What recvmsg returns, into parts of four bytes and of many.
  ssize_t Receive() const {
    char head[4], rest[4][4096];
    iovec parts[5] = {{head, sizeof(head)}};
    for (int i = 0; i < 4; ++i) parts[i + 1] = {rest[i], sizeof(rest[i])};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 5;
    return recvmsg(ends_[0], &message, MSG_DONTWAIT);
  }

 private:
  int ends_[2];
};

TEST(Http2GuardTest, RecvmsgEndsAConnectionThatBreaksARule) {
  const Pair pair;
  ASSERT_TRUE(server::GuardHttp2(pair.server(), kMost));
  const std::string good = Preface() + Headers(kMost, kEndHeaders), bad = Headers(kMost + 1);
  pair.Send(good);
  EXPECT_EQ(pair.Receive(), std::ssize(good));
  EXPECT_FALSE(pair.ended());
  pair.Send(good.substr(Preface().size()) + bad);
  EXPECT_EQ(pair.Receive(), 0);
  EXPECT_TRUE(pair.ended());
  EXPECT_EQ(server::TakeShutDown(Broken::kHeaderBytes), 1);
  EXPECT_EQ(pair.Receive(), 0);
  EXPECT_EQ(server::TakeShutDown(Broken::kHeaderBytes), 0);
}

// A connection of HTTP may have the number of one of gRPC that has just ended.
TEST(Http2GuardTest, ANumberIsGuardedUntilItIsClosed) {
  Pair first;
  const int number = first.server();
  ASSERT_TRUE(server::GuardHttp2(number, kMost));
  first.Close();
  const Pair second;
  ASSERT_EQ(second.server(), number);
  const std::string bad = Preface() + Headers(kMost + 1);
  second.Send(bad);
  EXPECT_EQ(second.Receive(), std::ssize(bad));
  EXPECT_FALSE(second.ended());
}

TEST(Http2GuardTest, ANumberBeyondTheTableIsRefused) {
  EXPECT_FALSE(server::GuardHttp2(1 << 30, kMost));
  EXPECT_FALSE(server::GuardHttp2(-1, kMost));
}

}  // namespace
}  // namespace baram::testing
