// Http2Guard: what it counts of a client's frames, wherever the bytes are cut. Http2GoAway: where
// it is inserted between the server's frames.
#include "server/http2_guard.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/http2_interpose.h"
#include "tests/server/http2_frames.h"

namespace baram::testing {
namespace {

using server::Http2Guard;
using Broken = Http2Guard::Broken;
using std::chrono::steady_clock;

constexpr int32_t kMaxHeader = 4096;  // bytes of a header block
constexpr uint32_t kStreams = 150;
constexpr int64_t kHalfSentBytes = 256'000;
constexpr server::Http2Limits kLimits = {
    .max_header_bytes = kMaxHeader, .max_streams = kStreams, .max_half_sent_bytes = kHalfSentBytes};

server::Http2Totals totals;

bool Read(Http2Guard& guard, std::string_view bytes, steady_clock::time_point now = {}) {
  return guard.Read({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, now);
}

// The rule broken by a connection that begins with its preface and continues with `bytes`: cut into
// pieces of `size`, or in two after `size` bytes.
Broken InPieces(std::string bytes, size_t size) {
  bytes = Preface() + bytes;
  Http2Guard guard(kLimits, totals);
  for (size_t at = 0; at < bytes.size(); at += size) Read(guard, bytes.substr(at, size));
  return guard.broken();
}
Broken InTwo(std::string bytes, size_t first) {
  bytes = Preface() + bytes;
  Http2Guard guard(kLimits, totals);
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
  ExpectWhereverItIsCut(Headers(kMaxHeader + 1, kEndHeaders), Broken::kHeaderBytes);
}

// Not only once it has arrived, when it has already taken the memory.
TEST(Http2GuardTest, AFrameTooLargeIsSeenByItsHead) {
  EXPECT_EQ(InPieces(Headers(kMaxHeader + 1).substr(0, 9), 1), Broken::kHeaderBytes);
  EXPECT_EQ(InPieces(Headers(kMaxHeader) + More(1).substr(0, 8), 1), Broken::kNothing);
  EXPECT_EQ(InPieces(Headers(kMaxHeader) + More(1).substr(0, 9), 1), Broken::kHeaderBytes);
}

TEST(Http2GuardTest, FramesOfABlockAreCountedHoweverSmall) {
  ExpectWhereverItIsCut(Headers(1) + More(0) + More(0) + More(0), Broken::kNothing);
  ExpectWhereverItIsCut(Headers(1) + More(0) + More(0) + More(0) + More(0), Broken::kHeaderBytes);
}

TEST(Http2GuardTest, EachBlockIsCountedByItself) {
  std::string many;
  for (int i = 0; i < 20; ++i) many += Headers(2000) + More(2000, kEndHeaders);
  Http2Guard guard(kLimits, totals);
  guard.Told();
  Read(guard, Preface() + Frame(kSettingsFrame, kAck, 0, "") + many);
  EXPECT_EQ(guard.broken(), Broken::kNothing);
}

TEST(Http2GuardTest, BlocksAreCountedTogetherUntilTheSettingsAreAcknowledged) {
  std::string most;
  for (uint64_t i = 0; i < Http2Guard::kUnaskedBlocks; ++i)
    most += Headers(kMaxHeader, kEndHeaders);
  EXPECT_EQ(InPieces(most, 100), Broken::kNothing);
  EXPECT_EQ(InPieces(most + Headers(1, kEndHeaders), 100), Broken::kHeaderBytes);
  EXPECT_EQ(InPieces(most + More(1, kEndHeaders), 100), Broken::kHeaderBytes);
}

// Including data that looks like frames inside of others.
TEST(Http2GuardTest, OtherFramesAreNotCounted) {
  const std::string inner = Headers(kMaxHeader + 1).substr(0, 9);
  ExpectWhereverItIsCut(Frame(kDataFrame, 0, 1, inner + inner) + Frame(kPingFrame, 0, 0, inner) +
                            Frame(kSettingsFrame, 0, 0, "") + Frame(kDataFrame, 0, 1, inner),
                        Broken::kNothing);
  EXPECT_EQ(InPieces(Frame(kDataFrame, 0, 1, std::string(100'000, 'x')), 4096), Broken::kNothing);
}

TEST(Http2GuardTest, ResetsHaveABurstAndARate) {
  Http2Guard guard(kLimits, totals);
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
  // It stays broken, even after a pause.
  Read(guard, Frame(kSettingsFrame, 0, 0, ""), now + std::chrono::hours(1));
  EXPECT_EQ(guard.broken(), Broken::kResets);
}

constexpr char kGoAwayFrame = 7;
using When = server::Http2GoAway::When;

std::string GoAway() {
  return Frame(kGoAwayFrame, 0, 0, BigEndian(0x7fffffff, 4) + BigEndian(0, 4));
}
std::string Text(std::span<const uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }
void Sent(server::Http2GoAway& go_away, std::string_view bytes) {
  go_away.Sent({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

// After how many of `bytes`, sent one by one, it first becomes due.
size_t DueAfter(const std::string& bytes) {
  server::Http2GoAway go_away;
  go_away.Begin();
  go_away.Ask(When::kNow);
  for (size_t sent = 0; sent < bytes.size(); ++sent) {
    if (!go_away.Due(false).empty()) return sent;
    Sent(go_away, bytes.substr(sent, 1));
  }
  EXPECT_EQ(Text(go_away.Due(false)), GoAway());
  return bytes.size();
}

TEST(Http2GoAwayTest, StandsBetweenFramesAndOutsideOfHeaders) {
  const std::string settings = Frame(kSettingsFrame, 0, 0, std::string(6, 's'));
  EXPECT_EQ(DueAfter(settings), settings.size());
  const std::string block = Headers(20) + More(20) + More(20, kEndHeaders);
  EXPECT_EQ(DueAfter(block), block.size());
  server::Http2GoAway go_away;
  go_away.Begin();
  Sent(go_away, settings);
  EXPECT_EQ(Text(go_away.Due(false)), "") << "nobody asked";
  Sent(go_away, Frame(kDataFrame, 0, 1, "abc").substr(0, 11));
  go_away.Ask(When::kNow);
  EXPECT_EQ(Text(go_away.Due(false)), "") << "within a frame";
  Sent(go_away, "c");
  EXPECT_EQ(Text(go_away.Due(false)), GoAway());
  go_away.DueSent(5);
  EXPECT_EQ(Text(go_away.Due(false)), GoAway().substr(5));
  go_away.DueSent(GoAway().size() - 5);
  go_away.Ask(When::kNow);
  EXPECT_EQ(Text(go_away.Due(false)), "") << "once";
}

TEST(Http2GoAwayTest, MayWaitForACall) {
  server::Http2GoAway go_away;
  go_away.Begin();
  go_away.Ask(When::kWithCall);
  EXPECT_EQ(Text(go_away.Due(true)), "") << "before the settings";
  Sent(go_away, Frame(kSettingsFrame, 0, 0, ""));
  EXPECT_EQ(Text(go_away.Due(false)), "");
  EXPECT_EQ(Text(go_away.Due(true)), GoAway());
}

// Calls with stream ids `first`, `first` + 2 and so on.
std::string Calls(uint32_t first, uint32_t count) {
  std::string calls;
  for (uint32_t i = 0; i < count; ++i) {
    calls += Frame(kHeadersFrame, kEndHeaders, first + 2 * i, "h");
  }
  return calls;
}
std::string Acknowledgment() { return Frame(kSettingsFrame, kAck, 0, ""); }

TEST(Http2GuardTest, CallsAreCountedUntilTheSettingsAreAcknowledged) {
  {
    Http2Guard guard(kLimits, totals);
    Read(guard, Preface() + Calls(1, kStreams));
    Read(guard, Calls(1, kStreams) + Calls(2, kStreams));  // trailers, and what gRPC skips
    EXPECT_EQ(guard.broken(), Broken::kNothing);
    Read(guard, Calls(2 * kStreams + 1, 1));
    EXPECT_EQ(guard.broken(), Broken::kStreams);
  }
  Http2Guard guard(kLimits, totals);
  Read(guard, Preface() + Calls(1, kStreams));
  guard.Told();
  Read(guard, Acknowledgment() + Calls(2 * kStreams + 1, kStreams));
  EXPECT_EQ(guard.broken(), Broken::kNothing);
}

// gRPC would take its own defaults for acknowledged.
TEST(Http2GuardTest, SettingsAreNotAcknowledgedBeforeTheyAreSent) {
  ExpectWhereverItIsCut(Calls(1, 1) + Acknowledgment(), Broken::kStreams);
}

// Client libraries start this many unasked.
TEST(Http2GuardTest, ALowerLimitIsNotHeldAgainstWhoDoesNotKnowIt) {
  Http2Guard guard({.max_header_bytes = kMaxHeader, .max_streams = 1}, totals);
  Read(guard, Preface() + Calls(1, Http2Guard::kUnaskedStreams));
  EXPECT_EQ(guard.broken(), Broken::kNothing);
  Read(guard, Calls(2 * Http2Guard::kUnaskedStreams + 1, 1));
  EXPECT_EQ(guard.broken(), Broken::kStreams);
}

// Whichever side ends them, and however.
TEST(Http2GuardTest, HalfSentCallsAreCountedUntilTheyEnd) {
  server::Http2Totals all;
  const std::atomic<int64_t>& open = all.half_sent;
  {
    Http2Guard guard(kLimits, all);
    Read(guard, Preface() + Calls(1, 6));
    EXPECT_EQ(open, 6);
    Read(guard, Frame(kHeadersFrame, kEndHeaders | kEndStream, 13, "h"));  // a call without a body
    EXPECT_EQ(open, 6);
    Read(guard, Frame(kDataFrame, 0, 1, "d") + Frame(kHeadersFrame, kEndHeaders, 1, "h"));
    EXPECT_EQ(open, 6);
    Read(guard, Frame(kDataFrame, kEndStream, 1, "d"));
    EXPECT_EQ(open, 5);
    Read(guard, Frame(kHeadersFrame, kEndHeaders | kEndStream, 3, "h"));
    EXPECT_EQ(open, 4);
    Read(guard, Frame(kResetFrame, 0, 5, BigEndian(8, 4)));
    EXPECT_EQ(open, 3);
    const std::string answers =
        Frame(kSettingsFrame, 0, 0, "") + Frame(kHeadersFrame, kEndHeaders, 7, "h") +
        Frame(kDataFrame, 0, 7, "d") + Frame(kHeadersFrame, kEndHeaders | kEndStream, 7, "h") +
        Frame(kResetFrame, 0, 7, BigEndian(0, 4)) + Frame(kResetFrame, 0, 9, BigEndian(8, 4));
    for (const char& byte : answers) {
      EXPECT_EQ(open, &byte - answers.data() < 18 + 10 + 10 ? 3 : open.load());
      guard.Wrote({reinterpret_cast<const uint8_t*>(&byte), 1});
    }
    EXPECT_EQ(open, 1);
    Read(guard, Frame(kDataFrame, kEndStream, 9, ""));
    EXPECT_EQ(open, 1);
  }
  EXPECT_EQ(open, 0);
}

TEST(Http2GuardTest, BytesAreCountedUntilTheirCallIsSent) {
  server::Http2Totals all;
  const auto data = [](uint32_t stream, size_t bytes, char flags = 0) {
    return Frame(kDataFrame, flags, stream, std::string(bytes, 'd'));
  };
  {
    Http2Guard guard(kLimits, all), other(kLimits, all);
    Read(guard, Preface() + Calls(1, 3) + data(1, 1000) + data(3, 200) + data(1, 30) + data(9, 4));
    Read(other, Preface() + Calls(1, 1) + data(1, 5000));
    EXPECT_EQ(guard.half_sent_bytes(), 1230);
    EXPECT_EQ(all.half_sent_bytes, 6230);
    Read(guard, data(1, 7, kEndStream) + data(5, 6));
    EXPECT_EQ(guard.half_sent_bytes(), 206);
    EXPECT_TRUE(guard.Break(Broken::kHalfSent));
    EXPECT_EQ(guard.broken(), Broken::kHalfSent);
    EXPECT_EQ(all.half_sent_bytes, 5000);
    const std::string reset = Frame(kResetFrame, 0, 3, BigEndian(8, 4));
    guard.Wrote({reinterpret_cast<const uint8_t*>(reset.data()), reset.size()});
  }
  EXPECT_EQ(all.half_sent_bytes, 0);
}

TEST(Http2GuardTest, BytesAreCountedAsTheyArrive) {
  server::Http2Totals all;
  for (const char flags : {char{0}, kEndStream}) {
    Http2Guard guard(kLimits, all);
    Read(guard, Preface() + Calls(1, 1));
    const std::string data = Frame(kDataFrame, flags, 1, std::string(1000, 'd'));
    for (size_t sent = 1; sent < data.size(); ++sent) {
      Read(guard, data.substr(sent - 1, 1));
      EXPECT_EQ(all.half_sent_bytes, std::max<int64_t>(static_cast<int64_t>(sent) - 9, 0));
      EXPECT_EQ(all.half_sent, 1);
    }
    Read(guard, data.substr(data.size() - 1));
    EXPECT_EQ(all.half_sent_bytes, flags == 0 ? 1000 : 0);
    EXPECT_EQ(all.half_sent, flags == 0 ? 1 : 0);
  }
}

TEST(Http2GuardTest, OnlyTheFirstRuleBrokenCounts) {
  server::Http2Totals all;
  const std::string bad = Headers(kMaxHeader + 1);
  Http2Guard read(kLimits, all), told(kLimits, all);
  EXPECT_FALSE(Read(read, Preface()));
  EXPECT_TRUE(Read(read, bad));
  EXPECT_FALSE(read.Break(Broken::kHalfSent));
  EXPECT_EQ(read.broken(), Broken::kHeaderBytes);
  EXPECT_FALSE(Read(told, Preface()));
  EXPECT_TRUE(told.Break(Broken::kHalfSent));
  EXPECT_FALSE(told.Break(Broken::kResets));
  EXPECT_FALSE(Read(told, bad));
  EXPECT_EQ(told.broken(), Broken::kHalfSent);
}

TEST(Http2GuardTest, WhereManyAreHalfSentEachConnectionHasAShare) {
  for (const int64_t connections : {40, 4000}) {
    server::Http2Totals all;
    all.connections = connections - 1;
    all.half_sent = Http2Guard::kHalfSent;
    const auto share = static_cast<uint32_t>(
        std::max(Http2Guard::kMinHalfSent, Http2Guard::kHalfSent / connections));
    Http2Guard modest(kLimits, all);
    Read(modest, Preface() + Calls(1, share));
    Read(modest, Calls(2 * share + 1, 1) + Frame(kDataFrame, kEndStream, 1, ""));
    EXPECT_EQ(modest.broken(), Broken::kNothing) << connections;
    Read(modest, Calls(2 * share + 3, 1));
    EXPECT_EQ(modest.broken(), Broken::kHalfSent) << connections;
    all.half_sent = 0;
    Http2Guard alone(kLimits, all);
    Read(alone, Preface() + Calls(1, kStreams));
    EXPECT_EQ(alone.broken(), Broken::kNothing) << connections;
  }
}

TEST(Http2GuardTest, WhereManyHeadersAreUnaskedEachConnectionHasAShare) {
  server::Http2Totals all;
  {
    all.connections = 4000;
    all.unasked_bytes = Http2Guard::kUnaskedBytes - kMaxHeader;
    Http2Guard guard(kLimits, all);
    guard.Told();
    Read(guard, Preface() + Headers(kMaxHeader, kEndHeaders));
    EXPECT_EQ(guard.broken(), Broken::kNothing);
    EXPECT_EQ(all.unasked_bytes, Http2Guard::kUnaskedBytes);
    Read(guard, Headers(1, kEndHeaders));
    EXPECT_EQ(guard.broken(), Broken::kHeaderBytes);
  }
  EXPECT_EQ(all.unasked_bytes, Http2Guard::kUnaskedBytes - kMaxHeader);
  all.unasked_bytes = 0;
  Http2Guard early(kLimits, all), late(kLimits, all);
  Read(early, Preface() + Headers(kMaxHeader, kEndHeaders) + Headers(kMaxHeader, kEndHeaders));
  EXPECT_EQ(early.broken(), Broken::kNothing);
  late.Told();
  Read(late, Preface() + Acknowledgment() + Headers(kMaxHeader, kEndHeaders));
  EXPECT_EQ(all.unasked_bytes, 2 * kMaxHeader);
}

// Connections within this process, as gRPC would have them.
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
    EXPECT_EQ(send(ends_[1], bytes.data(), bytes.size(), MSG_NOSIGNAL), std::ssize(bytes));
  }
  // With sendmsg.
  void SendBack(std::string bytes) const {
    iovec part = {bytes.data(), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    EXPECT_EQ(sendmsg(ends_[0], &message, MSG_NOSIGNAL), std::ssize(bytes));
  }
  bool ended() const {
    char byte;
    return recv(ends_[1], &byte, 1, MSG_DONTWAIT) == 0;
  }
  // What sendmsg returns for a part of four bytes and the rest.
  ssize_t Write(std::string bytes) const {
    const size_t head = std::min<size_t>(bytes.size(), 4);
    iovec parts[2] = {{bytes.data(), head}, {bytes.data() + head, bytes.size() - head}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    return sendmsg(ends_[0], &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  // Everything that has reached the client.
  std::string Come() const {
    std::string all, part(1 << 16, '\0');
    for (ssize_t got; (got = recv(ends_[1], part.data(), part.size(), MSG_DONTWAIT)) > 0;) {
      all.append(part, 0, static_cast<size_t>(got));
    }
    return all;
  }
  // What recvmsg returns, into a part of four bytes and larger ones.
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
  ASSERT_TRUE(server::GuardHttp2(pair.server(), kLimits));
  const std::string good = Preface() + Headers(kMaxHeader, kEndHeaders),
                    bad = Headers(kMaxHeader + 1);
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

TEST(Http2GoAwayTest, SendmsgPutsItBetweenFrames) {
  const Pair pair;
  ASSERT_TRUE(server::GuardHttp2(pair.server(), kLimits));
  const std::string settings = Frame(kSettingsFrame, 0, 0, ""),
                    data = Frame(kDataFrame, 0, 1, "abcdef");
  EXPECT_EQ(pair.Write(settings + data.substr(0, 11)), std::ssize(settings) + 11);
  server::SendAwayHttp2(pair.server(), When::kNow);
  EXPECT_EQ(pair.Come(), settings + data.substr(0, 11));
  EXPECT_EQ(pair.Write(data.substr(11)), std::ssize(data) - 11);
  EXPECT_EQ(pair.Come(), data.substr(11) + GoAway());
  EXPECT_EQ(pair.Write(data), std::ssize(data));
  EXPECT_EQ(pair.Come(), data);
  // At once if no frame is in progress.
  const Pair idle;
  ASSERT_TRUE(server::GuardHttp2(idle.server(), kLimits));
  EXPECT_EQ(idle.Write(settings), std::ssize(settings));
  server::SendAwayHttp2(idle.server(), When::kNow);
  EXPECT_EQ(idle.Come(), settings + GoAway());
}

// A client that connects while the server drains is answered, and its next call goes elsewhere.
TEST(Http2GoAwayTest, SendmsgPutsItBeforeTheFirstAnswer) {
  const Pair pair;
  ASSERT_TRUE(server::GuardHttp2(pair.server(), kLimits));
  server::SendAwayHttp2(pair.server(), When::kWithCall);
  const std::string settings = Frame(kSettingsFrame, 0, 0, ""), request = Headers(9, kEndHeaders),
                    answer = Headers(20, kEndHeaders | kEndStream);
  pair.Send(Preface());
  EXPECT_EQ(pair.Receive(), std::ssize(Preface()));
  EXPECT_EQ(pair.Write(settings), std::ssize(settings));
  EXPECT_EQ(pair.Come(), settings);
  pair.Send(request);
  EXPECT_EQ(pair.Receive(), std::ssize(request));
  EXPECT_EQ(pair.Write(answer), std::ssize(answer));
  EXPECT_EQ(pair.Come(), GoAway() + answer);
}

// If the kernel accepts nothing, nothing is lost.
TEST(Http2GoAwayTest, AFullSocketHasItLater) {
  const Pair pair;
  ASSERT_TRUE(server::GuardHttp2(pair.server(), kLimits));
  const std::string frame = Frame(kDataFrame, 0, 1, std::string(8000, 'd'));
  std::string sent, come;
  for (ssize_t took; (took = pair.Write(frame)) > 0;) {
    sent.append(frame, 0, static_cast<size_t>(took));
    if (took < std::ssize(frame)) break;
  }
  server::SendAwayHttp2(pair.server(), When::kNow);
  come += pair.Come();
  if (const size_t part = sent.size() % frame.size(); part > 0) {
    ASSERT_GT(pair.Write(frame.substr(part)), 0);
    sent += frame.substr(part);
  }
  ASSERT_EQ(pair.Write(frame), std::ssize(frame));
  come += pair.Come();
  EXPECT_TRUE(come == sent + GoAway() + frame) << come.size() << " of " << sent.size();
}

TEST(Http2GuardTest, SendmsgTellsThatTheSettingsAreSent) {
  for (const bool sends : {true, false, true}) {
    const Pair pair;
    ASSERT_TRUE(server::GuardHttp2(pair.server(), kLimits));
    if (sends) pair.SendBack(Frame(kSettingsFrame, 0, 0, ""));
    const std::string acknowledges = Preface() + Acknowledgment();
    pair.Send(acknowledges);
    EXPECT_EQ(pair.Receive(), sends ? std::ssize(acknowledges) : 0);
    EXPECT_EQ(server::TakeShutDown(Broken::kStreams), sends ? 0 : 1);
  }
}

TEST(Http2GuardTest, SendmsgTellsWhichCallsHaveEnded) {
  std::vector<std::unique_ptr<Pair>> pairs;
  const std::string calls = Preface() + Calls(1, kStreams);
  const auto begin = [&] {
    pairs.push_back(std::make_unique<Pair>());
    EXPECT_TRUE(server::GuardHttp2(pairs.back()->server(), kLimits));
    pairs.back()->Send(calls);
    return pairs.back()->Receive() > 0;
  };
  std::string resets;
  for (uint32_t i = 0; i < kStreams; ++i) {
    resets += Frame(kResetFrame, 0, 2 * i + 1, BigEndian(8, 4));
  }
  const size_t enough = Http2Guard::kHalfSent / kStreams;
  for (size_t i = 0; i < 2 * enough; ++i) {
    EXPECT_TRUE(begin());
    pairs.back()->SendBack(resets);
  }
  for (size_t i = 0; i < enough; ++i) EXPECT_TRUE(begin());
  EXPECT_FALSE(begin());
  EXPECT_EQ(server::TakeShutDown(Broken::kHalfSent), 1);
  pairs.clear();
  EXPECT_TRUE(begin());
}

// Not the one that sends the last of too many bytes, nor the one with most of them, nor one with
// few.
TEST(Http2GuardTest, TheConnectionWithTheOldestHalfSentRequestIsShutDown) {
  constexpr size_t kPart = 16'000;
  constexpr int kFew = Http2Guard::kFewHalfSentBytes / kPart, kAll = kHalfSentBytes / kPart;
  const Pair few, most, oldest, late;
  const auto send = [](const Pair& pair, const std::string& frames) {
    pair.Send(frames);
    return pair.Receive() == std::ssize(frames);
  };
  const auto half = [&](const Pair& pair, uint32_t stream, int parts) {
    const std::string part = Frame(kDataFrame, 0, stream, std::string(kPart, 'd'));
    while (parts > 0 && send(pair, part)) --parts;
    return parts == 0;
  };
  for (const Pair* const pair : {&few, &most, &oldest, &late}) {
    ASSERT_TRUE(server::GuardHttp2(pair->server(), kLimits));
    EXPECT_TRUE(send(*pair, Preface() + Calls(1, 1)));
  }
  EXPECT_TRUE(send(most, Calls(3, 1) + Frame(kDataFrame, kEndStream, 1, "")));
  EXPECT_TRUE(send(oldest, Calls(3, 1)));
  EXPECT_TRUE(half(few, 1, kFew));
  EXPECT_TRUE(half(oldest, 1, kFew + 1));
  EXPECT_TRUE(half(most, 3, kAll - 2 * kFew - 1));
  EXPECT_FALSE(oldest.ended());
  EXPECT_TRUE(half(late, 1, 1));
  EXPECT_TRUE(oldest.ended());
  EXPECT_EQ(oldest.Receive(), 0);
  EXPECT_EQ(server::TakeShutDown(Broken::kHalfSent), 1);
  EXPECT_TRUE(half(late, 1, kFew));
  EXPECT_FALSE(late.ended());
  EXPECT_TRUE(half(most, 3, 1)) << "what it still sends began after what the other does";
  EXPECT_TRUE(late.ended());
  EXPECT_TRUE(half(most, 3, kFew));
  EXPECT_FALSE(half(most, 3, 1));
  EXPECT_TRUE(most.ended());
  EXPECT_FALSE(few.ended());
  EXPECT_EQ(server::TakeShutDown(Broken::kHalfSent), 2);
}

// An HTTP connection may get the number of a gRPC one that has just ended.
TEST(Http2GuardTest, ANumberIsGuardedUntilItIsClosed) {
  Pair first;
  const int number = first.server();
  ASSERT_TRUE(server::GuardHttp2(number, kLimits));
  first.Close();
  const Pair second;
  ASSERT_EQ(second.server(), number);
  const std::string bad = Preface() + Headers(kMaxHeader + 1);
  second.Send(bad);
  EXPECT_EQ(second.Receive(), std::ssize(bad));
  EXPECT_FALSE(second.ended());
}

TEST(Http2GuardTest, ANumberBeyondTheTableIsRefused) {
  EXPECT_FALSE(server::GuardHttp2(1 << 30, kLimits));
  EXPECT_FALSE(server::GuardHttp2(-1, kLimits));
}

}  // namespace
}  // namespace baram::testing
