// Http2Guard: bounds what gRPC 1.51 does not bound of a connection: the header block that a call
// begins with, in however many frames it comes, and the calls that are begun only to be reset. Both
// cost memory without end, and neither is held back by the resource quota.
//
// gRPC has no place to look at frames before it takes them. It reads each connection with recvmsg,
// which is ours (at the bottom of http2_guard.cc): the C library's gives way to what the program
// defines. So the guard sees the bytes where gRPC will read them, without a copy or a system call.
#ifndef BARAM_SERVER_HTTP2_GUARD_H_
#define BARAM_SERVER_HTTP2_GUARD_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

namespace baram::server {

// Follows the frames that a client sends on one connection. One thread at a time.
class Http2Guard {
 public:
  enum class Broken : uint8_t { kNothing, kHeaderBytes, kResets };

  // A header block counts each of its frames as this at least: gRPC keeps to its own limit within a
  // frame, and a frame of a few bytes can name as much as one frame may hold.
  static constexpr uint32_t kLeastPartBytes = 1024;
  // RST_STREAM frames: so many at once, and from then on one a pause. Until gRPC has done with it a
  // call that is reset holds 12 to 18 KB, so what a connection can pile up is of the size of what
  // --max-streams lets stand open. Who stops all its calls at once, several times over, may.
  static constexpr int kResetsAtOnce = 1000;
  static constexpr std::chrono::milliseconds kResetPause{5};

  // A new connection, of which nothing was read yet.
  void Begin(int32_t max_header_bytes);
  // The next bytes of the client, as they came.
  void Read(std::span<const uint8_t> bytes, std::chrono::steady_clock::time_point now);
  // The first rule that was broken.
  Broken broken() const { return broken_; }

 private:
  void BeginFrame(std::chrono::steady_clock::time_point now);

  std::chrono::steady_clock::time_point resets_until_;  // each puts it off by a pause
  uint32_t max_header_bytes_ = 0;
  uint32_t left_ = 0;         // to skip, before the next frame's head
  uint32_t block_bytes_ = 0;  // of the header block that came last, up to here
  std::array<uint8_t, 9> head_{};
  uint8_t head_bytes_ = 0;  // of head_, that have come
  Broken broken_ = Broken::kNothing;
};

// Guards the connection `fd` from its first byte until gRPC closes it: where it breaks a rule, it
// is shut down, and gRPC reads its end instead of what broke the rule. False: the number is too
// large.
bool GuardHttp2(int fd, int32_t max_header_bytes);
// How many connections of this process were shut down for `rule` since this was asked before. They
// are counted before they are shut down.
int64_t TakeShutDown(Http2Guard::Broken rule);

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP2_GUARD_H_
