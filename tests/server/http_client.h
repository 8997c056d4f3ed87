// A raw HTTP client for tests: one blocking socket, bytes as they come.
#ifndef BARAM_TESTS_SERVER_HTTP_CLIENT_H_
#define BARAM_TESTS_SERVER_HTTP_CLIENT_H_

#include <map>
#include <string>
#include <string_view>

namespace baram::server {

struct RawResponse {
  int status = 0;                              // 0: the connection ended before an answer
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // without chunk framing
  bool whole = false;  // complete: by length, last chunk, or end of the connection
};

// A read that takes longer than 30 s ends the connection, so that a test fails instead of hanging.
class RawClient {
 public:
  // `address` is "127.0.0.1:PORT".
  explicit RawClient(const std::string& address, int receive_buffer_bytes = 0);
  ~RawClient();
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  // False once the server has closed.
  bool Send(std::string_view bytes);
  // Reads the next response; `head`: to a HEAD request, which has no body.
  RawResponse Read(bool head = false);
  // Reads at most `count` bytes as they arrive, appending them to `text` if given; returns 0 at the
  // end. Bypasses the other methods' buffer.
  size_t ReadSome(size_t count, std::string* text = nullptr);
  // Everything until the server closes or resets the connection.
  std::string ReadToEnd();
  // Whether unread data has arrived.
  bool HasMore();
  void ShutdownSend();
  void Close();
  void Reset();  // so that the server sees an error, not an end

 private:
  bool Fill();  // reads more bytes into buffer_
  std::string ReadLine();
  std::string ReadBytes(size_t count);

  int fd_;
  bool ended_ = false;
  std::string buffer_;
};

// "METHOD path HTTP/1.1" with Host, Content-Length and `headers` ("name: value\r\n").
std::string RawRequest(std::string_view method, std::string_view path, std::string_view body = "",
                       std::string_view headers = "");

}  // namespace baram::server

#endif  // BARAM_TESTS_SERVER_HTTP_CLIENT_H_
