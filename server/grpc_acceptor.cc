// GrpcAcceptor: see the header.
#include "server/grpc_acceptor.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <span>
#include <utility>

#include "server/errors.h"
#include "server/http2_interpose.h"

namespace baram::server {
namespace {

// A connection whose peer leaves bytes unacknowledged for this long is closed, as by gRPC's own
// listener.
constexpr int kUserTimeoutMs = 10'000;
// The delay before accepting again when there are no descriptors: retrying at once would spin.
constexpr auto kPause = std::chrono::milliseconds(50);

}  // namespace

GrpcAcceptor::GrpcAcceptor(ListeningSockets listeners)
    : epoll_(epoll_create1(EPOLL_CLOEXEC)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      listeners_(std::move(listeners)) {}

GrpcAcceptor::~GrpcAcceptor() {
  Stop();
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  Wake();
  if (thread_.joinable()) thread_.join();
  for (const Watched& watched : watched_) close(watched.duplicate);
  if (epoll_ >= 0) close(epoll_);
  if (wake_ >= 0) close(wake_);
}

void GrpcAcceptor::Register(grpc::ServerBuilder& builder) {
  using Kind = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
  intake_ = builder.experimental().AddExternalConnectionAcceptor(Kind::FROM_FD,
                                                                 grpc::InsecureServerCredentials());
}

absl::Status GrpcAcceptor::Start(int32_t max_connections, int32_t max_closing,
                                 const Http2Limits& limits,
                                 std::function<void(const char* reason)> refused) {
  if (epoll_ < 0 || wake_ < 0) {
    return absl::ResourceExhaustedError("epoll: no descriptors or no memory");
  }
  absl::Status watches = Watch(wake_, EPOLLIN);
  for (const auto& listener : listeners_.sockets()) watches.Update(Watch(listener.fd, EPOLLIN));
  if (!watches.ok()) return watches;
  max_connections_ = max_connections;
  max_closing_ = max_closing;
  limits_ = limits;
  refused_ = std::move(refused);
  thread_ = std::thread([this] { Loop(); });
  return absl::OkStatus();
}

absl::Status GrpcAcceptor::Watch(int fd, uint32_t events) const {
  epoll_event event{.events = events, .data = {.fd = fd}};
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "epoll");
}

// gRPC would keep a connection handed over after its shutdown and do nothing with it: the lock
// ensures that it gets none.
void GrpcAcceptor::Stop() {
  std::lock_guard lock(mutex_);
  listeners_.Close();
}

void GrpcAcceptor::SendAway() {
  sending_away_.store(true);
  Wake();
}

void GrpcAcceptor::Wake() const {
  const uint64_t one = 1;
  (void)!write(wake_, &one, sizeof(one));
}

void GrpcAcceptor::Loop() {
  pthread_setname_np(pthread_self(), "baram-accept");
  std::array<epoll_event, 64> events;
  while (true) {
    const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
    int too_many = 0, no_descriptors = 0;
    {
      std::lock_guard lock(mutex_);
      if (closing_) return;
      const std::span reported(events.data(), static_cast<size_t>(std::max(count, 0)));
      // First, as a connection accepted now may get the number of one that is forgotten.
      for (const epoll_event& event : reported) Forget(event.data.fd);
      for (const epoll_event& event : reported) {
        if (event.data.fd == wake_) TellAll();
        if (!IsListener(event.data.fd)) continue;
        const Accepted accepted = Accept(event.data.fd);
        too_many += accepted == Accepted::kTooMany;
        no_descriptors += accepted == Accepted::kNoDescriptors;
      }
    }
    while (too_many-- > 0) refused_(kTooManyConnections);
    for (int i = 0; i < no_descriptors; ++i) refused_(kNoDescriptors);
    using Broken = Http2Guard::Broken;
    for (const auto& [rule, reason] :
         {std::pair(Broken::kHeaderBytes, kHeadersTooLarge),
          std::pair(Broken::kResets, kTooManyResets), std::pair(Broken::kStreams, kTooManyStreams),
          std::pair(Broken::kHalfSent, kTooManyHalfSent),
          std::pair(Broken::kFrames, kTooManyFrames)}) {
      for (auto n = TakeShutDown(rule); n > 0; --n) refused_(reason);
    }
    if (no_descriptors > 0) std::this_thread::sleep_for(kPause);
  }
}

// gRPC may have closed a descriptor before its end was noticed: its number is then unguarded, or
// belongs to another connection, which is sent away as well.
void GrpcAcceptor::TellAll() {
  uint64_t count;
  (void)!read(wake_, &count, sizeof(count));
  if (!sending_away_.load() || std::exchange(told_, true)) return;
  for (const Watched& watched : watched_) SendAwayHttp2(watched.fd, Http2GoAway::When::kNow);
}

bool GrpcAcceptor::IsListener(int fd) const {
  return std::ranges::any_of(listeners_.sockets(),
                             [fd](const auto& listener) { return listener.fd == fd; });
}

GrpcAcceptor::Accepted GrpcAcceptor::Accept(int listener) {
  const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) {
    const bool exhausted =
        errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    return exhausted ? Accepted::kNoDescriptors : Accepted::kDone;
  }
  // gRPC may keep a dead connection's resources until its last call has ended.
  const bool full = std::max(connections(), GuardedHttp2()) >= max_connections_;
  if (full && !MakeRoom()) {
    close(fd);
    return Accepted::kTooMany;
  }
  const int watched = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  // A connection whose end is not noticed would be counted forever; an unguarded one could take all
  // memory.
  if (watched < 0 || !Watch(watched, 0).ok() || !GuardHttp2(fd, limits_)) {
    if (watched >= 0) close(watched);
    close(fd);
    return Accepted::kNoDescriptors;
  }
  SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  SetOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs);
  if (told_) SendAwayHttp2(fd, Http2GoAway::When::kWithCall);
  watched_.push_back({.duplicate = watched, .fd = fd});
  connections_.fetch_add(1, std::memory_order_relaxed);
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
  connection.listener_fd = listener;
  connection.fd = fd;
  intake_->HandleNewConnection(&connection);
  return full ? Accepted::kTooMany : Accepted::kDone;
}

// gRPC closes its descriptor as soon as it notices.
bool GrpcAcceptor::MakeRoom() {
  if (GuardedHttp2() >= max_connections_ + max_closing_) return false;
  const auto oldest = std::ranges::find_if(
      watched_, [](const Watched& watched) { return IsSilentHttp2(watched.fd); });
  if (oldest == watched_.end()) return false;
  (void)shutdown(oldest->duplicate, SHUT_RDWR);
  Forget(oldest->duplicate);
  return true;
}

// EPOLLHUP: both directions are shut down. The client's shutdown alone (EPOLLRDHUP) is not the end:
// gRPC keeps its descriptor and its unsent data for as long as the client takes to read. gRPC
// closes the descriptor itself.
void GrpcAcceptor::Forget(int duplicate) {
  if (std::erase_if(watched_, [=](const Watched& w) { return w.duplicate == duplicate; }) == 0) {
    return;
  }
  (void)epoll_ctl(epoll_, EPOLL_CTL_DEL, duplicate, nullptr);
  close(duplicate);
  connections_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace baram::server
