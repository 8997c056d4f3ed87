// Http2Guard: the walk over frames, the connections that are guarded, and the recvmsg and close
// that gRPC calls.
#include "server/http2_guard.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

namespace baram::server {
namespace {

using std::chrono::steady_clock;

constexpr uint32_t kPrefaceBytes = 24;  // what a client sends before its first frame
constexpr uint8_t kHeaders = 1, kRstStream = 3, kContinuation = 9;

}  // namespace

void Http2Guard::Begin(int32_t max_header_bytes) {
  *this = {};
  max_header_bytes_ = static_cast<uint32_t>(max_header_bytes);
  left_ = kPrefaceBytes;
}

void Http2Guard::Read(std::span<const uint8_t> bytes, steady_clock::time_point now) {
  while (broken_ == Broken::kNothing && !bytes.empty()) {
    if (left_ > 0) {
      const size_t skipped = std::min<size_t>(left_, bytes.size());
      left_ -= static_cast<uint32_t>(skipped);
      bytes = bytes.subspan(skipped);
      continue;
    }
    const size_t taken = std::min(head_.size() - head_bytes_, bytes.size());
    std::copy_n(bytes.begin(), taken, head_.begin() + head_bytes_);
    head_bytes_ += static_cast<uint8_t>(taken);
    bytes = bytes.subspan(taken);
    if (head_bytes_ == head_.size()) {
      head_bytes_ = 0;
      BeginFrame(now);
    }
  }
}

// gRPC itself ends a connection whose header block is not followed up to its end, so there is no
// need to look at where it ends.
void Http2Guard::BeginFrame(steady_clock::time_point now) {
  left_ = uint32_t{head_[0]} << 16 | uint32_t{head_[1]} << 8 | head_[2];
  const uint8_t type = head_[3];
  if (type == kHeaders) block_bytes_ = 0;
  if (type == kHeaders || type == kContinuation) {
    block_bytes_ += std::max(left_, kLeastPartBytes);
    if (block_bytes_ > max_header_bytes_) broken_ = Broken::kHeaderBytes;
  }
  if (type == kRstStream) {
    resets_until_ = std::max(resets_until_, now) + kResetPause;
    if (resets_until_ - now > kResetsAtOnce * kResetPause) broken_ = Broken::kResets;
  }
}

namespace {

struct Connection {
  std::atomic<bool> guarded;
  Http2Guard guard;  // touched by whoever reads the descriptor; before that, by who accepted it
};

// By descriptor. All zero at first, so that of its 10 MiB only the pages in use take memory.
constexpr size_t kMostDescriptors = 1 << 18;
constinit std::array<Connection, kMostDescriptors> connections;
constinit std::array<std::atomic<int64_t>, 3> shut_down;  // by Http2Guard::Broken

Connection* Guarded(int fd) {
  if (fd < 0 || static_cast<size_t>(fd) >= kMostDescriptors) return nullptr;
  Connection& connection = connections[static_cast<size_t>(fd)];
  return connection.guarded.load(std::memory_order_acquire) ? &connection : nullptr;
}

// Whether gRPC may see what it received.
bool Allows(Http2Guard& guard, int fd, const msghdr& message, size_t received) {
  if (guard.broken() == Http2Guard::Broken::kNothing) {
    const auto now = steady_clock::now();
    for (size_t i = 0; i < message.msg_iovlen && received > 0; ++i) {
      const iovec& part = message.msg_iov[i];
      const size_t bytes = std::min(part.iov_len, received);
      guard.Read({static_cast<const uint8_t*>(part.iov_base), bytes}, now);
      received -= bytes;
    }
    if (guard.broken() == Http2Guard::Broken::kNothing) return true;
    shut_down[static_cast<size_t>(guard.broken())].fetch_add(1);
    (void)shutdown(fd, SHUT_RDWR);
  }
  return false;
}

}  // namespace

bool GuardHttp2(int fd, int32_t max_header_bytes) {
  if (fd < 0 || static_cast<size_t>(fd) >= kMostDescriptors) return false;
  Connection& connection = connections[static_cast<size_t>(fd)];
  connection.guard.Begin(max_header_bytes);
  connection.guarded.store(true, std::memory_order_release);
  return true;
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
  const auto bytes = static_cast<size_t>(received);
  return baram::server::Allows(connection->guard, fd, *message, bytes) ? received : 0;
}

// The number may be another's the moment it is free: what guarded it ends before.
int close(int fd) {
  if (baram::server::Connection* const connection = baram::server::Guarded(fd)) {
    connection->guarded.store(false, std::memory_order_release);
  }
  return static_cast<int>(syscall(SYS_close, fd));
}

}  // extern "C"
