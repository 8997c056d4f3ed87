// HttpSession: see the header.
#include "server/http_session.h"

#include <sys/socket.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <cstdio>
#include <utility>

namespace baram::server {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

namespace {

std::chrono::milliseconds Milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

std::string Lower(beast::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
  }
  return lower;
}

// A header's value may hold what a client sent (x-request-id): line ends would forge headers.
std::string HeaderSafe(std::string_view text) {
  std::string safe;
  for (char c : text.substr(0, 1024)) {
    if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7F) safe.push_back(c);
  }
  return safe;
}

}  // namespace

HttpSession::HttpSession(asio::ip::tcp::socket socket, std::shared_ptr<HttpListenerState> listener)
    : listener_(std::move(listener)), stream_(std::move(socket)) {
  listener_->connections.fetch_add(1, std::memory_order_relaxed);
  Error ignored;
  stream_.socket().set_option(asio::ip::tcp::no_delay(true), ignored);
}

HttpSession::~HttpSession() { listener_->connections.fetch_sub(1, std::memory_order_relaxed); }

void HttpSession::Start() {
  asio::dispatch(stream_.get_executor(), [self = shared_from_this()] { self->ReadHeader(); });
}

void HttpSession::Refuse() {
  asio::dispatch(stream_.get_executor(), [self = shared_from_this()] {
    self->AnswerError(503, "too many connections: retry later or raise --http-max-connections");
  });
}

void HttpSession::CloseIfIdle() {
  asio::post(stream_.get_executor(), [self = shared_from_this()] {
    if (self->idle_ && !self->answering_) self->Close();
  });
}

void HttpSession::ReadHeader() {
  if (listener_->closing.load(std::memory_order_relaxed)) return Close();
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(listener_->limits.max_header_bytes));
  parser_->body_limit(static_cast<uint64_t>(listener_->limits.max_body_bytes));
  idle_ = buffer_.size() == 0;
  stream_.expires_after(Milliseconds(idle_ ? listener_->limits.idle_s : listener_->limits.request_s));
  http::async_read_header(stream_, buffer_, *parser_,
                          [self = shared_from_this()](Error error, size_t) { self->OnHeader(error); });
}

void HttpSession::OnHeader(Error error) {
  idle_ = false;
  if (error == http::error::header_limit) {
    return AnswerError(431, "the request's headers are larger than the server takes");
  }
  if (error == http::error::body_limit) {
    return AnswerError(413, "the request's body is larger than the server takes (" +
                                std::to_string(listener_->limits.max_body_bytes) + " bytes)");
  }
  // A connection that ends or stays silent between requests is normal.
  if (error == http::error::end_of_stream || error == beast::error::timeout ||
      error == asio::error::connection_reset || error == asio::error::operation_aborted ||
      error == asio::error::eof || error == http::error::partial_message) {
    return Close();
  }
  if (error) return AnswerError(400, "this is not an HTTP/1.1 request");
  if (Lower((*parser_).get()[http::field::expect]) == "100-continue") {
    return Send("HTTP/1.1 100 Continue\r\n\r\n", [this](bool sent) {
      if (sent) ReadBody();
    });
  }
  ReadBody();
}

void HttpSession::ReadBody() {
  stream_.expires_after(Milliseconds(listener_->limits.request_s));
  http::async_read(stream_, buffer_, *parser_,
                   [self = shared_from_this()](Error error, size_t) { self->OnBody(error); });
}

void HttpSession::OnBody(Error error) {
  if (error == http::error::body_limit) {
    return AnswerError(413, "the request's body is larger than the server takes (" +
                                std::to_string(listener_->limits.max_body_bytes) + " bytes)");
  }
  if (error == beast::error::timeout) return AnswerError(408, "the request did not arrive in time");
  if (error == http::error::end_of_stream || error == asio::error::connection_reset ||
      error == asio::error::operation_aborted || error == asio::error::eof ||
      error == http::error::partial_message) {
    return Close();
  }
  if (error) return AnswerError(400, "the request's body is malformed");
  Dispatch();
}

void HttpSession::Dispatch() {
  http::request<http::string_body> message = parser_->release();
  stream_.expires_never();
  http11_ = message.version() >= 11;
  keep_alive_ = message.keep_alive();
  is_head_ = message.method() == http::verb::head;
  HttpRequest request;
  request.method = is_head_ ? "GET" : std::string(message.method_string());
  const std::string target(message.target());
  request.path = target.substr(0, target.find('?'));
  for (const auto& field : message) {
    request.headers.emplace_back(Lower(field.name_string()), std::string(field.value()));
  }
  request.body = std::move(message.body());

  const std::string_view origin = request.Header("origin");
  const std::string& allowed = listener_->allowed_origins;
  origin_ = !origin.empty() && (allowed == "*" || allowed == origin) ? HeaderSafe(origin) : "";

  answering_ = true;
  streaming_ = false;
  if (request.method == "OPTIONS" && !origin_.empty()) {
    return Respond(204,
                   {{"Access-Control-Allow-Methods", "GET, POST, OPTIONS"},
                    {"Access-Control-Allow-Headers", "authorization, content-type, x-request-id"},
                    {"Access-Control-Max-Age", "600"}},
                   "", keep_alive_);
  }
  bool path_known = false;
  for (const HttpRoute& route : listener_->routes) {
    if (route.path != request.path) continue;
    path_known = true;
    if (route.method != request.method) continue;
    WatchForClose();
    route.answer(std::make_shared<HttpExchange>(shared_from_this(), std::move(request)));
    return;
  }
  const int status = path_known ? 405 : 404;
  const std::string message_text = path_known
                                       ? "the path " + HeaderSafe(request.path) + " does not take this method"
                                       : "there is nothing at " + HeaderSafe(request.path);
  Respond(status, {{"Content-Type", "application/json"}},
          listener_->error_body(status, message_text), keep_alive_);
}

void HttpSession::AnswerError(int status, const std::string& message) {
  answering_ = true;
  // What follows on this connection can't be told from the rest of the bad request.
  keep_alive_ = false;
  Respond(status, {{"Content-Type", "application/json"}}, listener_->error_body(status, message),
          false);
}

std::string HttpSession::Head(int status, const HttpHeaders& headers, bool keep_alive) const {
  std::string head = "HTTP/1.1 " + std::to_string(status) + " " + HttpReason(status) + "\r\n";
  for (const auto& [name, value] : headers) head += name + ": " + HeaderSafe(value) + "\r\n";
  if (!origin_.empty()) {
    head += "Access-Control-Allow-Origin: " + origin_ + "\r\nVary: Origin\r\n";
  }
  head += keep_alive ? (http11_ ? "" : "Connection: keep-alive\r\n") : "Connection: close\r\n";
  return head;
}

void HttpSession::Respond(int status, const HttpHeaders& headers, const std::string& body,
                          bool keep_alive) {
  keep_alive_ = keep_alive && !listener_->closing.load(std::memory_order_relaxed);
  std::string bytes = Head(status, headers, keep_alive_);
  if (status != 204) bytes += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  bytes += "\r\n";
  if (!is_head_) bytes += body;
  Send(std::move(bytes), [this](bool sent) {
    if (sent) FinishAnswer();
  });
}

void HttpSession::Send(std::string bytes, std::function<void(bool)> then) {
  if (gone_) return then(false);
  sending_ = std::move(bytes);
  stream_.expires_after(Milliseconds(listener_->limits.write_s));
  asio::async_write(stream_, asio::buffer(sending_),
                    [self = shared_from_this(), then = std::move(then)](Error error, size_t) {
                      if (error) self->Gone();
                      else self->stream_.expires_never();
                      then(!error);
                    });
}

void HttpSession::FinishAnswer() {
  answering_ = false;
  streaming_ = false;
  on_gone_ = nullptr;
  if (!keep_alive_ || gone_) return Close();
  // The watch reads from the socket's side only; it ends before the next request is read.
  stream_.cancel();
  ReadHeader();
}

// While an answer is being made nothing is read, so the end of the connection is noticed by peeking.
void HttpSession::WatchForClose() {
  stream_.socket().async_wait(
      asio::ip::tcp::socket::wait_read, [self = shared_from_this()](Error error) {
        if (error || !self->answering_) return;
        char byte;
        const ssize_t got = ::recv(self->stream_.socket().native_handle(), &byte, 1,
                                   MSG_PEEK | MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK)) self->Gone();
        // Bytes of a pipelined request: the end can't be seen behind them, writing will notice it.
      });
}

void HttpSession::Gone() {
  if (gone_) return;
  gone_ = true;
  keep_alive_ = false;
  if (auto gone = std::exchange(on_gone_, nullptr)) gone();
  Close();
}

void HttpSession::Close() {
  gone_ = true;
  Error ignored;
  stream_.socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  stream_.close();
}

void HttpSession::PostRespond(int status, HttpHeaders headers, std::string body) {
  asio::post(stream_.get_executor(), [self = shared_from_this(), status, headers = std::move(headers),
                                      body = std::move(body)] {
    if (self->answering_ && !self->gone_) self->Respond(status, headers, body, self->keep_alive_);
  });
}

void HttpSession::PostStartStream(int status, HttpHeaders headers) {
  asio::post(stream_.get_executor(),
             [self = shared_from_this(), status, headers = std::move(headers)]() mutable {
               if (!self->answering_ || self->gone_) return;
               self->streaming_ = true;
               // HTTP/1.0 has no chunks: the end of the connection ends the stream.
               if (!self->http11_) self->keep_alive_ = false;
               if (self->http11_) headers.emplace_back("Transfer-Encoding", "chunked");
               // Leaves with the first piece.
               self->buffered_head_ = self->Head(status, headers, self->keep_alive_) + "\r\n";
             });
}

void HttpSession::PostWrite(std::string piece, std::function<void(bool)> written) {
  asio::post(stream_.get_executor(), [self = shared_from_this(), piece = std::move(piece),
                                      written = std::move(written)] {
    if (!self->streaming_ || self->gone_) return written(false);
    std::string bytes = std::exchange(self->buffered_head_, "");
    if (self->is_head_ || piece.empty()) {
      if (bytes.empty()) return written(true);
    } else if (self->http11_) {
      char size[20];
      std::snprintf(size, sizeof(size), "%zx\r\n", piece.size());
      bytes += size + piece + "\r\n";
    } else {
      bytes += piece;
    }
    self->Send(std::move(bytes), written);
  });
}

void HttpSession::PostEndStream() {
  asio::post(stream_.get_executor(), [self = shared_from_this()] {
    if (!self->streaming_ || self->gone_) return;
    std::string bytes = std::exchange(self->buffered_head_, "");
    if (self->http11_ && !self->is_head_) bytes += "0\r\n\r\n";
    self->Send(std::move(bytes), [self](bool sent) {
      if (sent) self->FinishAnswer();
    });
  });
}

void HttpSession::PostOnGone(std::function<void()> gone) {
  asio::post(stream_.get_executor(), [self = shared_from_this(), gone = std::move(gone)]() mutable {
    if (self->gone_) return gone();
    if (self->answering_) self->on_gone_ = std::move(gone);
  });
}

}  // namespace baram::server
