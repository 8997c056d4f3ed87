// ListeningSockets: the sockets of a listener, one per address of its HOST:PORT.
#ifndef BARAM_SERVER_LISTENING_SOCKETS_H_
#define BARAM_SERVER_LISTENING_SOCKETS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

struct addrinfo;  // of <netdb.h>

namespace baram::server {

// Sets a socket option, if the system supports it.
void SetOption(int fd, int level, int option, int value);

// Movable; one owner at a time.
class ListeningSockets {
 public:
  struct Socket {
    int fd = -1;  // non-blocking
    bool v6 = false;
  };

  // Binds every address of "HOST:PORT" ("[::1]:8000") to one port; for port 0 to the same free one.
  // [::] accepts IPv4 as well. InvalidArgument for a host without addresses, otherwise Unavailable;
  // the message names `host_port` and what to change. An address that this machine lacks is
  // skipped, with a warning in the log, if there is another.
  static absl::StatusOr<ListeningSockets> Bind(std::string_view host_port);
  // The same for each of `addresses`, as listed by getaddrinfo, which repeats some. The message is
  // the system's.
  static absl::StatusOr<ListeningSockets> Bind(const addrinfo* addresses, uint16_t port);

  ListeningSockets() = default;
  ListeningSockets(ListeningSockets&& other) noexcept
      : sockets_(std::exchange(other.sockets_, {})),
        port_(other.port_),
        address_(std::move(other.address_)) {}
  ListeningSockets& operator=(ListeningSockets&& other) noexcept {
    if (this == &other) return *this;
    Close();
    sockets_ = std::exchange(other.sockets_, {});
    port_ = other.port_;
    address_ = std::move(other.address_);
    return *this;
  }
  ~ListeningSockets() { Close(); }

  const std::vector<Socket>& sockets() const { return sockets_; }
  uint16_t port() const { return port_; }
  // "127.0.0.1:8000": the HOST:PORT that was bound, with the actual port.
  const std::string& address() const { return address_; }
  // Transfers one of them to the caller; nullopt after the last.
  std::optional<Socket> Take();
  void Close();

 private:
  std::vector<Socket> sockets_;
  uint16_t port_ = 0;
  std::string address_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_LISTENING_SOCKETS_H_
