// GrpcAcceptor: see the header.
#include "server/grpc_acceptor.h"

#include <fcntl.h>
#include <netdb.h>
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
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/errors.h"

namespace baram::server {
namespace {

// Bytes that a peer does not acknowledge for so long end the connection, as gRPC's own listener has
// it.
constexpr int kUserTimeoutMs = 10'000;
// Before accepting is tried again when there are no descriptors: trying at once would spin.
constexpr auto kPause = std::chrono::milliseconds(50);

void Set(int fd, int level, int option, int value) {
  (void)setsockopt(fd, level, option, &value, sizeof(value));
}

// A listening socket, or -1 with errno set. `port` 0 takes a free one, and is set to it.
int ListenOn(const addrinfo& address, uint16_t* port) {
  const int fd = socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  Set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  sockaddr_storage bound{};
  std::memcpy(&bound, address.ai_addr, address.ai_addrlen);
  auto* const generic = reinterpret_cast<sockaddr*>(&bound);
  auto* const v4 = reinterpret_cast<sockaddr_in*>(&bound);
  auto* const v6 = reinterpret_cast<sockaddr_in6*>(&bound);
  const bool is_v6 = address.ai_family == AF_INET6;
  if (is_v6) Set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);  // [::] takes both
  (is_v6 ? v6->sin6_port : v4->sin_port) = htons(*port);
  socklen_t size = address.ai_addrlen;
  if (bind(fd, generic, size) != 0 || listen(fd, SOMAXCONN) != 0 ||
      getsockname(fd, generic, &size) != 0) {
    const int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  *port = ntohs(is_v6 ? v6->sin6_port : v4->sin_port);
  return fd;
}

bool SameAddress(const addrinfo& a, const addrinfo& b) {
  return a.ai_addrlen == b.ai_addrlen && std::memcmp(a.ai_addr, b.ai_addr, a.ai_addrlen) == 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcAcceptor>> GrpcAcceptor::Bind(const Endpoint& endpoint) {
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed =
      getaddrinfo(endpoint.host.c_str(), absl::StrCat(endpoint.port).c_str(), &hints, &found);
  if (failed != 0) return absl::UnavailableError(gai_strerror(failed));
  auto acceptor = Bind(found, endpoint.port);
  freeaddrinfo(found);
  return acceptor;
}

absl::StatusOr<std::unique_ptr<GrpcAcceptor>> GrpcAcceptor::Bind(const addrinfo* addresses,
                                                                 uint16_t port) {
  std::unique_ptr<GrpcAcceptor> acceptor(new GrpcAcceptor());
  acceptor->port_ = port;
  if (absl::Status listens = acceptor->Listen(addresses); !listens.ok()) return listens;
  return acceptor;
}

GrpcAcceptor::GrpcAcceptor()
    : epoll_(epoll_create1(EPOLL_CLOEXEC)), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

GrpcAcceptor::~GrpcAcceptor() {
  Stop();
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  Wake();
  if (thread_.joinable()) thread_.join();
  for (const int fd : watched_) close(fd);
  if (epoll_ >= 0) close(epoll_);
  if (wake_ >= 0) close(wake_);
}

absl::Status GrpcAcceptor::Listen(const addrinfo* addresses) {
  if (epoll_ < 0 || wake_ < 0) return absl::ErrnoToStatus(errno, "epoll");
  int error = 0;
  for (const addrinfo* one = addresses; one != nullptr; one = one->ai_next) {
    const addrinfo* first = addresses;
    while (!SameAddress(*first, *one)) first = first->ai_next;
    if (first != one) continue;
    const int fd = ListenOn(*one, &port_);
    if (fd >= 0) {
      listeners_.push_back(fd);
    } else if (error == 0 || errno == EADDRINUSE) {
      error = errno;
    }
  }
  // A name may have an address that this machine has not, ::1 of localhost for one; one in use is
  // an error.
  if (listeners_.empty() || error == EADDRINUSE) return absl::UnavailableError(strerror(error));
  return absl::OkStatus();
}

void GrpcAcceptor::Register(grpc::ServerBuilder& builder) {
  using Kind = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
  handler_ = builder.experimental().AddExternalConnectionAcceptor(
      Kind::FROM_FD, grpc::InsecureServerCredentials());
}

absl::Status GrpcAcceptor::Start(int32_t max_connections,
                                 std::function<void(const char* reason)> refused) {
  absl::Status watches = Watch(wake_, EPOLLIN);
  for (const int fd : listeners_) watches.Update(Watch(fd, EPOLLIN));
  if (!watches.ok()) return watches;
  max_connections_ = max_connections;
  refused_ = std::move(refused);
  thread_ = std::thread([this] { Loop(); });
  return absl::OkStatus();
}

absl::Status GrpcAcceptor::Watch(int fd, uint32_t events) const {
  epoll_event event{.events = events, .data = {.fd = fd}};
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "epoll");
}

// What gRPC is given after its shutdown it keeps and does nothing with: behind the lock nothing is.
void GrpcAcceptor::Stop() {
  std::lock_guard lock(mutex_);
  for (const int fd : listeners_) close(fd);
  listeners_.clear();
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
    bool exhausted = false;
    {
      std::lock_guard lock(mutex_);
      if (closing_) return;
      for (int i = 0; i < count; ++i) {
        const int fd = events[static_cast<size_t>(i)].data.fd;
        if (std::find(listeners_.begin(), listeners_.end(), fd) == listeners_.end()) {
          Forget(fd);
          continue;
        }
        const Accepted accepted = Accept(fd);
        too_many += accepted == Accepted::kTooMany;
        no_descriptors += accepted == Accepted::kNoDescriptors;
        exhausted |= accepted == Accepted::kExhausted || accepted == Accepted::kNoDescriptors;
      }
    }
    while (too_many-- > 0) refused_(kTooManyConnections);
    while (no_descriptors-- > 0) refused_(kNoDescriptors);
    if (exhausted) std::this_thread::sleep_for(kPause);
  }
}

GrpcAcceptor::Accepted GrpcAcceptor::Accept(int listener) {
  const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) {
    const bool exhausted =
        errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    return exhausted ? Accepted::kExhausted : Accepted::kNothing;
  }
  if (connections() >= max_connections_) {
    close(fd);
    return Accepted::kTooMany;
  }
  const int watched = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  // One whose end would not be seen would be counted for ever.
  if (watched < 0 || !Watch(watched, EPOLLRDHUP).ok()) {
    if (watched >= 0) close(watched);
    close(fd);
    return Accepted::kNoDescriptors;
  }
  Set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  Set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs);
  watched_.insert(watched);
  connections_.fetch_add(1, std::memory_order_relaxed);
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
  connection.listener_fd = listener;
  connection.fd = fd;
  handler_->HandleNewConnection(&connection);
  return Accepted::kYes;
}

// The client or gRPC has ended the connection. gRPC gives its own descriptor up by itself.
void GrpcAcceptor::Forget(int watched) {
  if (watched_.erase(watched) == 0) return;
  (void)epoll_ctl(epoll_, EPOLL_CTL_DEL, watched, nullptr);
  close(watched);
  connections_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace baram::server
