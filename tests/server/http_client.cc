// A raw HTTP client for tests: see the header.
#include "tests/server/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cctype>
#include <cstdlib>
#include <utility>

namespace baram::server {

RawClient::RawClient(const std::string& address, int receive_buffer_bytes)
    : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
  const timeval patience{.tv_sec = 30, .tv_usec = 0};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  const int on = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (receive_buffer_bytes > 0) {
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof(receive_buffer_bytes));
  }
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::atoi(address.c_str() + address.rfind(':') + 1)));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ended_ = connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0;
}

RawClient::~RawClient() { Close(); }

bool RawClient::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool RawClient::Fill() {
  if (ended_) return false;
  char bytes[65536];
  const ssize_t got = recv(fd_, bytes, sizeof(bytes), 0);
  if (got <= 0) {
    ended_ = true;
    return false;
  }
  buffer_.append(bytes, static_cast<size_t>(got));
  return true;
}

std::string RawClient::ReadLine() {
  size_t end;
  while ((end = buffer_.find("\r\n")) == std::string::npos) {
    if (!Fill()) return std::exchange(buffer_, "");
  }
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end + 2);
  return line;
}

std::string RawClient::ReadBytes(size_t count) {
  while (buffer_.size() < count && Fill()) {
  }
  std::string bytes = buffer_.substr(0, count);
  buffer_.erase(0, count);
  return bytes;
}

RawResponse RawClient::Read(bool head) {
  RawResponse response;
  const std::string first = ReadLine();
  if (first.rfind("HTTP/1.1 ", 0) != 0) return response;
  response.status = std::atoi(first.c_str() + 9);
  for (std::string line = ReadLine(); !line.empty(); line = ReadLine()) {
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) return response;
    std::string name = line.substr(0, colon);
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    response.headers[name] = line.substr(colon + 2);
  }
  if (head || response.status == 204 || response.status < 200) {
    response.whole = true;
  } else if (response.headers.count("content-length") > 0) {
    const size_t size = std::strtoul(response.headers["content-length"].c_str(), nullptr, 10);
    response.body = ReadBytes(size);
    response.whole = response.body.size() == size;
  } else if (response.headers.count("transfer-encoding") > 0) {
    while (true) {
      const std::string line = ReadLine();
      if (line.empty()) return response;
      const size_t size = std::strtoul(line.c_str(), nullptr, 16);
      std::string piece = ReadBytes(size + 2);
      response.whole = size == 0 && piece == "\r\n";
      if (piece.size() != size + 2 || size == 0) return response;
      response.body.append(piece, 0, size);
    }
  } else {
    response.body = ReadToEnd();
    response.whole = true;
  }
  return response;
}

size_t RawClient::ReadSome(size_t count, std::string* text) {
  std::string bytes(count, '\0');
  const ssize_t got = recv(fd_, bytes.data(), count, 0);
  if (got <= 0) return 0;
  if (text != nullptr) text->append(bytes, 0, static_cast<size_t>(got));
  return static_cast<size_t>(got);
}

std::string RawClient::ReadToEnd() {
  while (Fill()) {
  }
  return std::exchange(buffer_, "");
}

bool RawClient::HasMore() {
  char byte;
  return !buffer_.empty() || recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void RawClient::ShutdownSend() { shutdown(fd_, SHUT_WR); }

void RawClient::Close() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

void RawClient::Reset() {
  const linger now{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  Close();
}

std::string RawRequest(std::string_view method, std::string_view path, std::string_view body,
                       std::string_view headers) {
  std::string text(method);
  text += " ";
  text += path;
  text += " HTTP/1.1\r\nHost: test\r\n";
  text += headers;
  if (!body.empty() || method == "POST") {
    text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  }
  text += "\r\n";
  text += body;
  return text;
}

}  // namespace baram::server
