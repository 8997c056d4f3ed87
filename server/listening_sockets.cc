// ListeningSockets: see the header.
#include "server/listening_sockets.h"

#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/setting_values.h"
#include "server/text_piece.h"

namespace baram::server {
namespace {

// Returns a listening socket, or -1 with errno set. If *port is 0, takes a free port and stores it
// there.
int ListenOn(const addrinfo& address, uint16_t* port) {
  const int fd = socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  SetOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  sockaddr_storage bound{};
  std::memcpy(&bound, address.ai_addr, address.ai_addrlen);
  auto* const generic = reinterpret_cast<sockaddr*>(&bound);
  auto* const v4 = reinterpret_cast<sockaddr_in*>(&bound);
  auto* const v6 = reinterpret_cast<sockaddr_in6*>(&bound);
  const bool is_v6 = address.ai_family == AF_INET6;
  if (is_v6) SetOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);  // so that [::] accepts both
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

// "::1", without its port.
std::string HostOf(const addrinfo& address) {
  std::array<char, INET6_ADDRSTRLEN + IF_NAMESIZE> host{};
  const int failed = getnameinfo(address.ai_addr, address.ai_addrlen, host.data(), host.size(),
                                 nullptr, 0, NI_NUMERICHOST);
  return failed == 0 ? host.data() : "an address";
}

// Whether a lookup failed for a reason that is not the host's, and may be temporary.
bool MayBeFound(int failed) {
  return failed == EAI_AGAIN || failed == EAI_MEMORY || failed == EAI_SYSTEM;
}

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

absl::StatusOr<Addresses> Resolve(const Endpoint& endpoint) {
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed =
      getaddrinfo(endpoint.host.c_str(), absl::StrCat(endpoint.port).c_str(), &hints, &found);
  if (failed == 0) return Addresses(found, freeaddrinfo);
  const char* const why = failed == EAI_SYSTEM ? strerror(errno) : gai_strerror(failed);
  return MayBeFound(failed) ? absl::UnavailableError(why) : absl::InvalidArgumentError(why);
}

}  // namespace

void SetOption(int fd, int level, int option, int value) {
  (void)setsockopt(fd, level, option, &value, sizeof(value));
}

absl::StatusOr<ListeningSockets> ListeningSockets::Bind(std::string_view host_port) {
  const auto endpoint = ParseEndpoint(host_port);
  if (!endpoint.ok()) return endpoint.status();
  const auto addresses = Resolve(*endpoint);
  auto bound = addresses.ok() ? Bind(addresses->get(), endpoint->port) : addresses.status();
  if (!bound.ok()) {
    return absl::Status(bound.status().code(),
                        absl::StrCat("can't listen on ", Piece(host_port), ": ",
                                     bound.status().message(), "; choose another HOST:PORT"));
  }
  const std::string_view host = host_port.substr(0, host_port.rfind(':'));
  bound->address_ = absl::StrCat(Piece(host), ":", bound->port_);
  return bound;
}

absl::StatusOr<ListeningSockets> ListeningSockets::Bind(const addrinfo* addresses, uint16_t port) {
  ListeningSockets bound;
  bound.port_ = port;
  int error = 0;
  std::vector<std::string> left_out;  // with the reason
  for (const addrinfo* one = addresses; one != nullptr; one = one->ai_next) {
    const addrinfo* first = addresses;
    while (!SameAddress(*first, *one)) first = first->ai_next;
    if (first != one) continue;
    const int fd = ListenOn(*one, &bound.port_);
    if (fd >= 0) {
      bound.sockets_.push_back({fd, one->ai_family == AF_INET6});
      continue;
    }
    const int why = errno;
    if (error == 0 || why == EADDRINUSE) error = why;
    left_out.push_back(absl::StrCat(HostOf(*one), ": ", strerror(why)));
  }
  // A name may have an address that this machine lacks, e.g. localhost's ::1; an address in use is
  // an error.
  if (bound.sockets_.empty() || error == EADDRINUSE) {
    return absl::UnavailableError(strerror(error));
  }
  for (const std::string& one : left_out) {
    spdlog::warn("can't listen on {}; the other addresses of its host are served", one);
  }
  return bound;
}

std::optional<ListeningSockets::Socket> ListeningSockets::Take() {
  if (sockets_.empty()) return std::nullopt;
  const Socket socket = sockets_.back();
  sockets_.pop_back();
  return socket;
}

void ListeningSockets::Close() {
  while (const auto socket = Take()) close(socket->fd);
}

}  // namespace baram::server
