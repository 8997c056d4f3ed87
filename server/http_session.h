// HttpSession: one HTTP connection: reads a request, hands it to a route, writes the answer, again.
#ifndef BARAM_SERVER_HTTP_SESSION_H_
#define BARAM_SERVER_HTTP_SESSION_H_

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/strand.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/http_server.h"

namespace baram::server {

// What every session of a listener shares; constant but for the counters and the set of sessions.
struct HttpListenerState {
  // Here, so that an answer made after the listener has gone still finds its executor.
  boost::asio::io_context io;
  std::vector<HttpRoute> routes;
  HttpErrorBody error_body;
  HttpLimits limits;
  std::string allowed_origins;  // "" none, "*" or one origin
  std::atomic<int64_t> connections{0};
  std::atomic<bool> closing{false};  // no request after the current one
};

// All members are touched on the stream's strand only.
class HttpSession : public std::enable_shared_from_this<HttpSession> {
 public:
  HttpSession(boost::asio::ip::tcp::socket socket, std::shared_ptr<HttpListenerState> listener);
  ~HttpSession();

  void Start();
  // Answers 503 and closes: the listener has too many connections.
  void Refuse();
  // From any thread: closes the connection if it is between requests.
  void CloseIfIdle();
  // Drops the connection. Only on the strand, or when no thread runs the listener any more.
  void Close();

  // The exchange's side, posted to the strand; see HttpExchange.
  void PostRespond(int status, HttpHeaders headers, std::string body);
  void PostStartStream(int status, HttpHeaders headers);
  void PostWrite(std::string piece, std::function<void(bool)> written);
  void PostEndStream();
  void PostOnGone(std::function<void()> gone);

 private:
  using Error = boost::system::error_code;
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  void ReadHeader();
  void OnHeader(Error error);
  void ReadBody();
  void OnBody(Error error);
  void Dispatch();
  void AnswerError(int status, const std::string& message);
  void Respond(int status, const HttpHeaders& headers, const std::string& body, bool keep_alive);
  std::string Head(int status, const HttpHeaders& headers, bool keep_alive) const;
  // Sends bytes, then calls `then` with whether they went out.
  void Send(std::string bytes, std::function<void(bool)> then);
  void FinishAnswer();
  void WatchForClose();
  void Gone();

  const std::shared_ptr<HttpListenerState> listener_;  // before stream_, whose executor it owns
  boost::beast::tcp_stream stream_;
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  bool is_head_ = false;
  bool http11_ = true;
  bool keep_alive_ = true;    // after the current answer
  bool answering_ = false;    // between Dispatch and the end of the answer
  bool streaming_ = false;
  bool gone_ = false;
  bool idle_ = true;          // no byte of the next request has been seen
  std::string origin_;        // the request's, if it is allowed
  std::string sending_;       // bytes in flight
  std::string buffered_head_; // of a stream, until its first piece
  std::function<void()> on_gone_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP_SESSION_H_
