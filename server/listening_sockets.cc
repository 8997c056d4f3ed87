// ListeningSockets: see the header.
#include "server/listening_sockets.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace baram::server {
namespace {

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

absl::StatusOr<ListeningSockets> ListeningSockets::Bind(const Endpoint& endpoint) {
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed =
      getaddrinfo(endpoint.host.c_str(), absl::StrCat(endpoint.port).c_str(), &hints, &found);
  if (failed != 0) return absl::InvalidArgumentError(gai_strerror(failed));
  auto sockets = Bind(found, endpoint.port);
  freeaddrinfo(found);
  return sockets;
}

absl::StatusOr<ListeningSockets> ListeningSockets::Bind(const addrinfo* addresses, uint16_t port) {
  ListeningSockets bound;
  bound.port_ = port;
  int error = 0;
  for (const addrinfo* one = addresses; one != nullptr; one = one->ai_next) {
    const addrinfo* first = addresses;
    while (!SameAddress(*first, *one)) first = first->ai_next;
    if (first != one) continue;
    const int fd = ListenOn(*one, &bound.port_);
    if (fd >= 0) {
      bound.sockets_.push_back({fd, one->ai_family == AF_INET6});
    } else if (error == 0 || errno == EADDRINUSE) {
      error = errno;
    }
  }
  // A name may have an address that this machine has not, ::1 of localhost for one; one in use is
  // an error.
  if (bound.sockets_.empty() || error == EADDRINUSE) {
    return absl::UnavailableError(strerror(error));
  }
  return bound;
}

void ListeningSockets::Close() {
  for (const Socket& socket : Release()) close(socket.fd);
}

}  // namespace baram::server
