// Http2Guard: what frames break a rule, the connections that are guarded, and the recvmsg, sendmsg
// and close that gRPC calls.
#include "server/http2_guard.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <iterator>
#include <mutex>

namespace baram::server {
namespace {

using std::chrono::steady_clock;

constexpr uint32_t kPrefaceBytes = 24;  // what a client sends before its first frame

// What one connection may have where all together have too much.
int64_t Share(int64_t of_all, int64_t least, const Http2Totals& all) {
  return std::max(least, of_all / std::max<int64_t>(all.connections.load(), 1));
}

bool EndsStream(const Http2Frames::Head& head) {
  const uint8_t type = Http2Frames::Type(head);
  return (type == Http2Frames::kData || type == Http2Frames::kHeaders) &&
         (Http2Frames::Flags(head) & Http2Frames::kEndStream) != 0;
}

}  // namespace

Http2Guard::Http2Guard(const Http2Limits& limits, Http2Totals& all)
    : max_header_bytes_(static_cast<uint32_t>(limits.max_header_bytes)),
      all_(all),
      unasked_(static_cast<uint32_t>(std::max(limits.max_streams, kUnaskedStreams))) {
  client_.Begin(kPrefaceBytes);
  all_.connections.fetch_add(1);
}

// The bytes until here: the calls that came with them go on behind the acknowledgment.
Http2Guard::~Http2Guard() {
  all_.half_sent.fetch_sub(std::ssize(half_sent_));
  all_.unasked_bytes.fetch_sub(unasked_bytes_);
  all_.connections.fetch_sub(1);
}

// Calls are weighed where the bytes end: a client may write several headers before the requests.
void Http2Guard::Read(std::span<const uint8_t> bytes, steady_clock::time_point now) {
  if (broken_ != Broken::kNothing) return;
  client_.Read(bytes, [&](const Http2Frames::Head& head) {
    Take(head, now);
    return broken_ == Broken::kNothing;
  });
  if (broken_ != Broken::kNothing) return;
  const bool many = all_.half_sent.load() > kHalfSent &&
                    std::ssize(half_sent_) > Share(kHalfSent, kLeastHalfSent, all_);
  const bool large = all_.unasked_bytes.load() > kUnaskedBytes &&
                     unasked_bytes_ > Share(kUnaskedBytes, kLeastUnaskedBytes, all_);
  if (many) broken_ = Broken::kHalfSent;
  if (large) broken_ = Broken::kHeaderBytes;
}

// What gRPC ends, as it does a request that is too large, its client need not.
void Http2Guard::Wrote(std::span<const uint8_t> bytes) {
  server_.Read(bytes, [this](const Http2Frames::Head& head) {
    if (EndsStream(head) || Http2Frames::Type(head) == Http2Frames::kRstStream) {
      NotHalfSent(Http2Frames::Stream(head));
    }
    return true;
  });
}

// gRPC itself ends a connection whose header block is not followed up to its end, so there is no
// need to look at where it ends.
void Http2Guard::Take(const Http2Frames::Head& head, steady_clock::time_point now) {
  const uint8_t type = Http2Frames::Type(head);
  if (type == Http2Frames::kSettings && (Http2Frames::Flags(head) & Http2Frames::kAck) != 0) {
    if (!told_) broken_ = Broken::kStreams;
    acknowledged_ = true;
  }
  if (type == Http2Frames::kHeaders) TakeHeaders(head);
  if (type == Http2Frames::kHeaders || type == Http2Frames::kContinuation) {
    const uint32_t bytes = Http2Frames::Bytes(head);
    block_bytes_ += std::max(bytes, kLeastPartBytes);
    if (!acknowledged_) {
      unasked_bytes_ += bytes;
      all_.unasked_bytes.fetch_add(bytes);
    }
    const bool many = unasked_bytes_ > kUnaskedBlocks * max_header_bytes_;
    if (many || block_bytes_ > max_header_bytes_) broken_ = Broken::kHeaderBytes;
  }
  if (EndsStream(head) || type == Http2Frames::kRstStream) NotHalfSent(Http2Frames::Stream(head));
  if (type == Http2Frames::kRstStream) {
    resets_until_ = std::max(resets_until_, now) + kResetPause;
    if (resets_until_ - now > kResetsAtOnce * kResetPause) broken_ = Broken::kResets;
  }
}

// gRPC skips those of an even number, and of one not above those before; the latter are trailers.
void Http2Guard::TakeHeaders(const Http2Frames::Head& head) {
  block_bytes_ = 0;
  const uint32_t stream = Http2Frames::Stream(head);
  if (stream % 2 == 0 || stream <= last_stream_) return;
  last_stream_ = stream;
  if (!acknowledged_ && unasked_-- == 0) broken_ = Broken::kStreams;
  half_sent_.push_back(stream);
  all_.half_sent.fetch_add(1);
}

void Http2Guard::NotHalfSent(uint32_t stream) {
  const auto at = std::ranges::lower_bound(half_sent_, stream);
  if (at == half_sent_.end() || *at != stream) return;
  half_sent_.erase(at);
  all_.half_sent.fetch_sub(1);
}

namespace {

struct Connection {
  Connection(const Http2Limits& limits, Http2Totals& all) : guard(limits, all) { farewell.Begin(); }
  Http2Guard guard;
  Http2Farewell farewell;
};

// Of a descriptor.
struct Place {
  std::atomic<bool> guarded;  // to be asked without the mutex
  std::mutex mutex;           // guards the connection, and that the descriptor is still its own
  Connection* connection = nullptr;  // owned; null if it is not guarded
};

// By descriptor. All zero at first, so that of its 28 MiB only the pages in use take memory.
constexpr size_t kMostDescriptors = 1 << 19;
constinit std::array<Place, kMostDescriptors> places;
constinit Http2Totals totals;
constinit std::array<std::atomic<int64_t>, 5> shut_down;  // by Http2Guard::Broken

Place* Guarded(int fd) {
  if (fd < 0 || static_cast<size_t>(fd) >= kMostDescriptors) return nullptr;
  Place& place = places[static_cast<size_t>(fd)];
  return place.guarded.load(std::memory_order_acquire) ? &place : nullptr;
}

// With the place's mutex held.
void SetConnection(Place& place, Connection* connection) {
  delete place.connection;
  place.connection = connection;
  place.guarded.store(connection != nullptr, std::memory_order_release);
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
bool Allows(Http2Guard& guard, int fd, const msghdr& message, size_t received) {
  if (guard.broken() != Http2Guard::Broken::kNothing) return false;
  const auto now = steady_clock::now();
  ForEachPart(message, received, [&](std::span<const uint8_t> bytes) { guard.Read(bytes, now); });
  if (guard.broken() == Http2Guard::Broken::kNothing) return true;
  shut_down[static_cast<size_t>(guard.broken())].fetch_add(1);
  (void)shutdown(fd, SHUT_RDWR);
  return false;
}

// Sends what is due of the farewell. False: the kernel did not take all of it now.
bool SayFarewell(Connection& connection, int fd) {
  const std::span<const uint8_t> due = connection.farewell.Due(connection.guard.called());
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
  Place& place = places[static_cast<size_t>(fd)];
  std::lock_guard lock(place.mutex);
  SetConnection(place, new Connection(limits, totals));
  return true;
}

void SendAwayHttp2(int fd, Http2Farewell::When when) {
  Place* const place = Guarded(fd);
  if (place == nullptr) return;
  std::lock_guard lock(place->mutex);
  if (place->connection == nullptr) return;
  place->connection->farewell.Ask(when);
  (void)SayFarewell(*place->connection, fd);
}

int64_t GuardedHttp2() { return totals.connections.load(); }

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
  baram::server::Place* const place = baram::server::Guarded(fd);
  if (place == nullptr) return received;
  std::lock_guard lock(place->mutex);
  if (place->connection == nullptr) return received;
  const auto bytes = static_cast<size_t>(received);
  return baram::server::Allows(place->connection->guard, fd, *message, bytes) ? received : 0;
}

// One that finds the socket full tells gRPC so, which tries again once there is room.
ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  baram::server::Place* const place = baram::server::Guarded(fd);
  if (place == nullptr) return syscall(SYS_sendmsg, fd, message, flags);
  std::lock_guard lock(place->mutex);
  baram::server::Connection* const connection = place->connection;
  if (connection == nullptr) return syscall(SYS_sendmsg, fd, message, flags);
  connection->guard.Told();
  if (!baram::server::SayFarewell(*connection, fd)) {
    errno = EAGAIN;
    return -1;
  }
  const ssize_t sent = syscall(SYS_sendmsg, fd, message, flags);
  if (sent <= 0) return sent;
  baram::server::ForEachPart(*message, static_cast<size_t>(sent),
                             [&](std::span<const uint8_t> bytes) {
                               connection->guard.Wrote(bytes);
                               connection->farewell.Sent(bytes);
                             });
  (void)baram::server::SayFarewell(*connection, fd);
  return sent;
}

// The number may be another's the moment it is free: what guarded it ends before.
int close(int fd) {
  if (baram::server::Place* const place = baram::server::Guarded(fd)) {
    std::lock_guard lock(place->mutex);
    baram::server::SetConnection(*place, nullptr);
  }
  return static_cast<int>(syscall(SYS_close, fd));
}

}  // extern "C"
