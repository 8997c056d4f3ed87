// The guarded connections, and the recvmsg, sendmsg and close that gRPC calls: see the header.
#include "server/http2_interpose.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <span>

namespace baram::server {
namespace {

struct Connection {
  Connection(int fd, const Http2Limits& limits, Http2Totals& all)
      : fd(fd), max_half_sent_bytes(limits.max_half_sent_bytes), guard(limits, all) {
    go_away.Begin();
  }
  const int fd;
  const int64_t max_half_sent_bytes;
  Http2Guard guard;
  Http2GoAway go_away;
  Connection *previous = nullptr, *next = nullptr;  // in the list of all
};

// One per descriptor.
struct Place {
  std::atomic<bool> guarded;  // readable without the mutex
  std::mutex mutex;           // guards the connection, and that the descriptor still belongs to it
  Connection* connection = nullptr;  // owned; null if it is not guarded
};

// Indexed by descriptor. Zero-initialized, so that of its 28 MiB only pages in use take memory.
constexpr size_t kMaxDescriptors = 1 << 19;
constinit std::array<Place, kMaxDescriptors> places;
constinit Http2Totals totals;
constinit std::array<std::atomic<int64_t>, 6> shut_down;  // by Http2Guard::Broken

// All that are guarded. Their descriptors stay open as long as they are listed.
constinit std::mutex connections_mutex;            // may be locked while a place's mutex is held
constinit Connection* first_connection = nullptr;  // guarded by connections_mutex, as are the links

Place* Guarded(int fd) {
  if (fd < 0 || static_cast<size_t>(fd) >= kMaxDescriptors) return nullptr;
  Place& place = places[static_cast<size_t>(fd)];
  return place.guarded.load(std::memory_order_acquire) ? &place : nullptr;
}

void List(Connection& connection) {
  std::lock_guard lock(connections_mutex);
  connection.next = first_connection;
  if (first_connection != nullptr) first_connection->previous = &connection;
  first_connection = &connection;
}

void Unlist(Connection& connection) {
  std::lock_guard lock(connections_mutex);
  (connection.previous != nullptr ? connection.previous->next : first_connection) = connection.next;
  if (connection.next != nullptr) connection.next->previous = connection.previous;
}

// Requires the place's mutex.
void SetConnection(Place& place, Connection* connection) {
  if (place.connection != nullptr) Unlist(*place.connection);
  delete place.connection;
  place.connection = connection;
  if (connection != nullptr) List(*connection);
  place.guarded.store(connection != nullptr, std::memory_order_release);
}

// Calls `part` with each piece of the message's first `bytes` bytes.
template <typename OnPart>
void ForEachPart(const msghdr& message, size_t bytes, const OnPart& part) {
  for (size_t i = 0; i < message.msg_iovlen && bytes > 0; ++i) {
    const iovec& piece = message.msg_iov[i];
    const size_t size = std::min(piece.iov_len, bytes);
    part(std::span(static_cast<const uint8_t*>(piece.iov_base), size));
    bytes -= size;
  }
}

// Call once, after the guard was broken.
void ShutDown(const Connection& connection) {
  shut_down[static_cast<size_t>(connection.guard.broken())].fetch_add(1);
  (void)shutdown(connection.fd, SHUT_RDWR);
}

// While there are more than `max_bytes` bytes of half-sent requests, shuts down the connection
// whose oldest began first: clients that keep sending are done with theirs before.
void BoundHalfSent(int64_t max_bytes) {
  if (totals.half_sent_bytes.load() <= max_bytes) return;
  std::lock_guard lock(connections_mutex);
  while (totals.half_sent_bytes.load() > max_bytes) {
    Connection* oldest = nullptr;
    for (Connection* other = first_connection; other != nullptr; other = other->next) {
      const Http2Guard& guard = other->guard;
      if (guard.broken() != Http2Guard::Broken::kNothing ||
          guard.half_sent_bytes() <= Http2Guard::kFewHalfSentBytes) {
        continue;
      }
      if (oldest == nullptr || guard.half_sent_since() < oldest->guard.half_sent_since()) {
        oldest = other;
      }
    }
    if (oldest == nullptr) return;
    if (oldest->guard.Break(Http2Guard::Broken::kHalfSent)) ShutDown(*oldest);
  }
}

// Whether gRPC may see what was received.
bool Allows(Connection& connection, const msghdr& message, size_t received) {
  Http2Guard& guard = connection.guard;
  if (guard.broken() != Http2Guard::Broken::kNothing) return false;
  const auto now = std::chrono::steady_clock::now();
  ForEachPart(message, received, [&](std::span<const uint8_t> bytes) {
    if (guard.Read(bytes, now)) ShutDown(connection);
  });
  BoundHalfSent(connection.max_half_sent_bytes);
  return guard.broken() == Http2Guard::Broken::kNothing;
}

// Sends what is due of the GOAWAY. False: the kernel did not accept all of it yet.
bool SendGoAway(Connection& connection, int fd) {
  const std::span<const uint8_t> due = connection.go_away.Due(connection.guard.called());
  if (due.empty()) return true;
  const ssize_t sent = send(fd, due.data(), due.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  // gRPC finds out by itself that a connection has failed.
  if (sent < 0) return errno != EAGAIN && errno != EWOULDBLOCK;
  connection.go_away.DueSent(static_cast<size_t>(sent));
  return static_cast<size_t>(sent) == due.size();
}

}  // namespace

bool GuardHttp2(int fd, const Http2Limits& limits) {
  if (fd < 0 || static_cast<size_t>(fd) >= kMaxDescriptors) return false;
  Place& place = places[static_cast<size_t>(fd)];
  std::lock_guard lock(place.mutex);
  SetConnection(place, new Connection(fd, limits, totals));
  return true;
}

void SendAwayHttp2(int fd, Http2GoAway::When when) {
  Place* const place = Guarded(fd);
  if (place == nullptr) return;
  std::lock_guard lock(place->mutex);
  if (place->connection == nullptr) return;
  place->connection->go_away.Ask(when);
  (void)SendGoAway(*place->connection, fd);
}

bool IsSilentHttp2(int fd) {
  Place* const place = Guarded(fd);
  if (place == nullptr) return false;
  std::lock_guard lock(place->mutex);
  return place->connection != nullptr && !place->connection->guard.called();
}

int64_t GuardedHttp2() { return totals.connections.load(); }

int64_t TakeShutDown(Http2Guard::Broken rule) {
  return shut_down[static_cast<size_t>(rule)].exchange(0);
}

}  // namespace baram::server

// These replace the C library's functions for everything this program calls and links: unguarded
// descriptors go straight to the kernel.
extern "C" {

ssize_t recvmsg(int fd, msghdr* message, int flags) {
  const ssize_t received = syscall(SYS_recvmsg, fd, message, flags);
  if (received <= 0 || (flags & (MSG_ERRQUEUE | MSG_PEEK)) != 0) return received;
  baram::server::Place* const place = baram::server::Guarded(fd);
  if (place == nullptr) return received;
  std::lock_guard lock(place->mutex);
  if (place->connection == nullptr) return received;
  const auto bytes = static_cast<size_t>(received);
  return baram::server::Allows(*place->connection, *message, bytes) ? received : 0;
}

// If the socket is full, gRPC is told so and tries again once there is room.
ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  baram::server::Place* const place = baram::server::Guarded(fd);
  if (place == nullptr) return syscall(SYS_sendmsg, fd, message, flags);
  std::lock_guard lock(place->mutex);
  baram::server::Connection* const connection = place->connection;
  if (connection == nullptr) return syscall(SYS_sendmsg, fd, message, flags);
  connection->guard.Told();
  if (!baram::server::SendGoAway(*connection, fd)) {
    errno = EAGAIN;
    return -1;
  }
  const ssize_t sent = syscall(SYS_sendmsg, fd, message, flags);
  if (sent <= 0) return sent;
  baram::server::ForEachPart(*message, static_cast<size_t>(sent),
                             [&](std::span<const uint8_t> bytes) {
                               connection->guard.Wrote(bytes);
                               connection->go_away.Sent(bytes);
                             });
  (void)baram::server::SendGoAway(*connection, fd);
  return sent;
}

// The number may be reused as soon as it is free, so its guard ends first.
int close(int fd) {
  if (baram::server::Place* const place = baram::server::Guarded(fd)) {
    std::lock_guard lock(place->mutex);
    baram::server::SetConnection(*place, nullptr);
  }
  return static_cast<int>(syscall(SYS_close, fd));
}

}  // extern "C"
