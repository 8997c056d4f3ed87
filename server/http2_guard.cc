// Http2Guard: what frames break a rule, the connections that are guarded, and the recvmsg, sendmsg
// and close that gRPC calls.
#include "server/http2_guard.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <mutex>

namespace baram::server {
namespace {

using std::chrono::steady_clock;

constexpr uint32_t kPrefaceBytes = 24;  // what a client sends before its first frame

}  // namespace

void Http2Guard::Begin(const Http2Limits& limits) {
  *this = {};
  max_header_bytes_ = static_cast<uint32_t>(limits.max_header_bytes);
  unasked_ = static_cast<uint32_t>(std::max(limits.max_streams, kUnaskedStreams));
  frames_.Begin(kPrefaceBytes);
}

void Http2Guard::Read(std::span<const uint8_t> bytes, steady_clock::time_point now) {
  if (broken_ != Broken::kNothing) return;
  frames_.Read(bytes, [&](const Http2Frames::Head& head) {
    BeginFrame(head, now);
    return broken_ == Broken::kNothing;
  });
}

// gRPC itself ends a connection whose header block is not followed up to its end, so there is no
// need to look at where it ends.
void Http2Guard::BeginFrame(const Http2Frames::Head& head, steady_clock::time_point now) {
  const uint8_t type = Http2Frames::Type(head);
  if (type == Http2Frames::kSettings && (Http2Frames::Flags(head) & Http2Frames::kAck) != 0) {
    if (!told_) broken_ = Broken::kStreams;
    acknowledged_ = true;
  }
  if (type == Http2Frames::kHeaders) {
    block_bytes_ = 0;
    called_ = true;
    BeginHeaders(Http2Frames::Stream(head));
  }
  if (type == Http2Frames::kHeaders || type == Http2Frames::kContinuation) {
    block_bytes_ += std::max(Http2Frames::Bytes(head), kLeastPartBytes);
    if (block_bytes_ > max_header_bytes_) broken_ = Broken::kHeaderBytes;
  }
  if (type == Http2Frames::kRstStream) {
    resets_until_ = std::max(resets_until_, now) + kResetPause;
    if (resets_until_ - now > kResetsAtOnce * kResetPause) broken_ = Broken::kResets;
  }
}

// gRPC skips those of an even number, and of one not above those before; the latter are trailers.
void Http2Guard::BeginHeaders(uint32_t stream) {
  if (stream % 2 == 0 || stream <= last_stream_) return;
  last_stream_ = stream;
  if (!acknowledged_ && unasked_-- == 0) broken_ = Broken::kStreams;
}

namespace {

struct Connection {
  std::atomic<bool> guarded;
  std::atomic<bool> told;  // gRPC has begun to write
  Http2Guard guard;  // touched by whoever reads the descriptor; before that, by who accepted it
  std::atomic<bool> called;  // the guard's, for who writes
  std::mutex mutex;          // guards the farewell, and that the descriptor is this connection's
  Http2Farewell farewell;
};

// By descriptor. All zero at first, so that of its 32 MiB only the pages in use take memory.
constexpr size_t kMostDescriptors = 1 << 18;
constinit std::array<Connection, kMostDescriptors> connections;
constinit std::array<std::atomic<int64_t>, 4> shut_down;  // by Http2Guard::Broken

Connection* Guarded(int fd) {
  if (fd < 0 || static_cast<size_t>(fd) >= kMostDescriptors) return nullptr;
  Connection& connection = connections[static_cast<size_t>(fd)];
  return connection.guarded.load(std::memory_order_acquire) ? &connection : nullptr;
}

// Calls `part` with the first `bytes` of the message, piece by piece.
template <typename OnPart>
void ForEachPart(const msghdr& message, size_t bytes, const OnPart& part) {
  for (size_t i = 0; i < message.msg_iovlen && bytes > 0; ++i) {
    const iovec& piece = message.msg_iov[i];
    const size_t size = std::min(piece.iov_len, bytes);
    part(std::span(static_cast<const uint8_t*>(piece.iov_base), size));
    bytes -= size;
  }
}

// Whether gRPC may see what it received.
bool Allows(Connection& connection, int fd, const msghdr& message, size_t received) {
  Http2Guard& guard = connection.guard;
  if (guard.broken() != Http2Guard::Broken::kNothing) return false;
  const auto now = steady_clock::now();
  ForEachPart(message, received, [&](std::span<const uint8_t> bytes) { guard.Read(bytes, now); });
  if (guard.called()) connection.called.store(true, std::memory_order_relaxed);
  if (guard.broken() == Http2Guard::Broken::kNothing) return true;
  shut_down[static_cast<size_t>(guard.broken())].fetch_add(1);
  (void)shutdown(fd, SHUT_RDWR);
  return false;
}

// Sends what is due of the farewell. False: the kernel did not take all of it now. With the
// connection's mutex held.
bool SayFarewell(Connection& connection, int fd) {
  const std::span<const uint8_t> due =
      connection.farewell.Due(connection.called.load(std::memory_order_relaxed));
  if (due.empty()) return true;
  const ssize_t sent = send(fd, due.data(), due.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  // Of a connection that has failed gRPC hears by itself.
  if (sent < 0) return errno != EAGAIN && errno != EWOULDBLOCK;
  connection.farewell.DueSent(static_cast<size_t>(sent));
  return static_cast<size_t>(sent) == due.size();
}

}  // namespace

bool GuardHttp2(int fd, const Http2Limits& limits) {
  if (fd < 0 || static_cast<size_t>(fd) >= kMostDescriptors) return false;
  Connection& connection = connections[static_cast<size_t>(fd)];
  std::lock_guard lock(connection.mutex);
  connection.guard.Begin(limits);
  connection.farewell.Begin();
  connection.called.store(false, std::memory_order_relaxed);
  connection.told.store(false, std::memory_order_relaxed);
  connection.guarded.store(true, std::memory_order_release);
  return true;
}

void SendAwayHttp2(int fd, Http2Farewell::When when) {
  Connection* const connection = Guarded(fd);
  if (connection == nullptr) return;
  std::lock_guard lock(connection->mutex);
  if (!connection->guarded.load(std::memory_order_relaxed)) return;
  connection->farewell.Ask(when);
  (void)SayFarewell(*connection, fd);
}

int64_t TakeShutDown(Http2Guard::Broken rule) {
  return shut_down[static_cast<size_t>(rule)].exchange(0);
}

}  // namespace baram::server

// In place of the C library's, for all that this program calls and links: what is not guarded goes
// to the kernel as ever.
extern "C" {

ssize_t recvmsg(int fd, msghdr* message, int flags) {
  const ssize_t received = syscall(SYS_recvmsg, fd, message, flags);
  if (received <= 0 || (flags & (MSG_ERRQUEUE | MSG_PEEK)) != 0) return received;
  baram::server::Connection* const connection = baram::server::Guarded(fd);
  if (connection == nullptr) return received;
  if (connection->told.load(std::memory_order_acquire)) connection->guard.Told();
  const auto bytes = static_cast<size_t>(received);
  return baram::server::Allows(*connection, fd, *message, bytes) ? received : 0;
}

// One that finds the socket full tells gRPC so, which tries again once there is room.
ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  baram::server::Connection* const connection = baram::server::Guarded(fd);
  if (connection == nullptr) return syscall(SYS_sendmsg, fd, message, flags);
  std::lock_guard lock(connection->mutex);
  connection->told.store(true, std::memory_order_release);  // before, as it may answer at once
  if (!baram::server::SayFarewell(*connection, fd)) {
    errno = EAGAIN;
    return -1;
  }
  const ssize_t sent = syscall(SYS_sendmsg, fd, message, flags);
  if (sent <= 0) return sent;
  baram::server::ForEachPart(
      *message, static_cast<size_t>(sent),
      [&](std::span<const uint8_t> bytes) { connection->farewell.Sent(bytes); });
  (void)baram::server::SayFarewell(*connection, fd);
  return sent;
}

// The number may be another's the moment it is free: what guarded it ends before.
int close(int fd) {
  if (baram::server::Connection* const connection = baram::server::Guarded(fd)) {
    std::lock_guard lock(connection->mutex);
    connection->guarded.store(false, std::memory_order_release);
  }
  return static_cast<int>(syscall(SYS_close, fd));
}

}  // extern "C"
