// HttpSession: sending answers, and requests from other threads to do so.
#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <cstdio>
#include <ctime>

#include "absl/strings/str_cat.h"
#include "server/http_session.h"
#include "server/http_text.h"
#include "server/slow_reader.h"

namespace baram::server {

namespace asio = boost::asio;
namespace http = boost::beast::http;

namespace {

std::string HttpDate() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  return {text, std::strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &utc)};
}

}  // namespace

void HttpSession::AnswerReadError(Error error) {
  const HttpLimits& limits = listener_->options.limits;
  if (error == http::error::buffer_overflow) {
    return AnswerError({431, "FRAMING_TOO_LARGE",
                        absl::StrCat("Chunk extensions or trailers exceed the limit of ",
                                     limits.max_header_bytes, " bytes.")});
  }
  if (error == http::error::body_limit) {
    return AnswerError({413, "BODY_TOO_LARGE",
                        absl::StrCat("The request's body exceeds the limit of ",
                                     limits.max_body_bytes, " bytes (--max-body-bytes).")});
  }
  if (timed_out_) {
    return AnswerError({408, "SLOW_REQUEST", "The request did not arrive in time."});
  }
  const bool ended = error == http::error::end_of_stream || error == http::error::partial_message;
  if (ended || error.category() != http::make_error_code(http::error::bad_method).category()) {
    return Close();
  }
  AnswerError(
      {400, "NOT_HTTP", absl::StrCat("This is not an HTTP/1.1 request: ", error.message(), ".")});
}

void HttpSession::AnswerError(const HttpError& error, HttpHeaders headers) {
  if (!WaitsFrom(kNotWaiting)) return Close();
  phase_ = Phase::kAnswering;
  streaming_ = false;
  DropBody();
  // The rest of the bad request can't be told apart from what follows on this connection.
  keep_alive_ = false;
  RespondError(error, std::move(headers));
}

void HttpSession::RespondError(HttpError error, HttpHeaders headers) {
  if (began_ != SteadyTime{}) {
    error.total_s = SecondsSince(began_);
  }
  error.peer = peer_;
  error.request_id = request_id_;
  headers.emplace_back("Content-Type", "application/json");
  // Some clients retry by themselves, which helps only after a slow request or with a full
  // listener.
  if (error.status != 408 && error.status != 503) headers.emplace_back("x-should-retry", "false");
  listener_->Report(error);
  Respond(error.status, headers, listener_->options.error_body(error));
}

// Browsers send this before a page's script may send a request.
void HttpSession::AnswerPreflight(const HttpRequest& request) {
  HttpHeaders headers = {{"Access-Control-Allow-Methods", "GET, POST, OPTIONS"},
                         {"Access-Control-Max-Age", "600"}};
  const std::string_view asked = request.Header("access-control-request-headers");
  if (!asked.empty()) headers.emplace_back("Access-Control-Allow-Headers", std::string(asked));
  Respond(204, headers, "");
}

std::string HttpSession::Head(int status, const HttpHeaders& headers) const {
  std::string head =
      "HTTP/1.1 " + std::to_string(status) + " " + std::string(HttpReason(status)) + "\r\n";
  head += "Date: " + HttpDate() + "\r\n";
  bool id_sent = request_id_.empty();
  for (const auto& [name, value] : headers) {
    if (name == "X-Request-Id") {
      if (id_is_clients_) continue;
      id_sent = true;
    }
    head += name + ": " + HeaderSafe(value) + "\r\n";
  }
  if (!id_sent) head += "X-Request-Id: " + request_id_ + "\r\n";
  if (!origin_.empty()) {
    head += "Access-Control-Allow-Origin: " + origin_ +
            "\r\nAccess-Control-Expose-Headers: X-Request-Id, Retry-After, Retry-After-Ms, "
            "x-should-retry\r\n";
  }
  if (!listener_->options.allowed_origins.empty()) head += "Vary: Origin\r\n";
  if (!keep_alive_) {
    head += "Connection: close\r\n";
  } else if (!http11_) {
    head += "Connection: keep-alive\r\n";
  }
  return head;
}

void HttpSession::Respond(int status, const HttpHeaders& headers, std::string body) {
  if (LastAnswer()) keep_alive_ = false;
  std::string head = Head(status, headers);
  if (status != 204) head += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  head += "\r\n";
  if (is_head_) body.clear();
  Send(std::move(head), std::move(body), [this](HttpEnd end) {
    if (end == HttpEnd::kSent) FinishAnswer();
  });
}

// A piece of a stream as sent over the wire.
std::string HttpSession::Chunk(std::string_view piece) const {
  if (is_head_ || piece.empty()) return "";
  if (!http11_) return std::string(piece);
  char size[20];
  std::snprintf(size, sizeof(size), "%zx\r\n", piece.size());
  std::string chunk = size;
  chunk += piece;
  chunk += "\r\n";
  return chunk;
}

void HttpSession::Send(std::string bytes, std::string body, OnHttpEnd then) {
  if (phase_ == Phase::kClosed) return then(gone_as_);
  const int64_t content = std::ssize(body.empty() ? bytes : body);
  if (content > HttpServer::kSmallBodyBytes) HoldAnswer(content);
  const auto size = static_cast<double>(bytes.size() + body.size());
  send_limit_ = FromNow(PatienceFor(size, listener_->options.limits.write_s));
  sending_ = std::move(bytes);
  sending_body_ = std::move(body);
  sent_ = 0;
  sent_then_ = std::move(then);
  SendRest();
}

void HttpSession::SendRest() {
  LimitUntil(std::min(FromNow(listener_->options.limits.write_s), send_limit_));
  const size_t of_body = sent_ - std::min(sent_, sending_.size());
  const std::array<asio::const_buffer, 2> rest = {asio::buffer(sending_) + sent_,
                                                  asio::buffer(sending_body_) + of_body};
  socket_.async_write_some(
      rest, Guarded([](HttpSession& self, Error error, size_t count) {
        self.writing_ = false;
        self.sent_ += count;
        const size_t size = self.sending_.size() + self.sending_body_.size();
        if (!error && self.sent_ < size) return self.SendRest();
        self.sending_body_ = std::string();  // it may be large
        self.DropAnswer();
        if (error) self.Gone(self.Failure());
        self.LimitUntil(SteadyTime::max());
        std::exchange(self.sent_then_, nullptr)(error ? self.gone_as_ : HttpEnd::kSent);
        const bool more_to_come = self.phase_ == Phase::kAnswering && !self.sent_then_;
        if (self.ended_unheard_ && more_to_come) self.Gone(HttpEnd::kGone);
      }));
  writing_ = true;
}

void HttpSession::HoldAnswer(int64_t bytes) {
  std::vector<LargeAnswers::One> cut;
  {
    LargeAnswers& answers = listener_->answers;
    std::lock_guard lock(answers.mutex);
    answer_ = ++answers.numbers;
    answers.all.push_back({answer_, bytes, weak_from_this()});
    answers.bytes += bytes;
    while (answers.bytes > listener_->options.limits.max_answers_bytes && answers.all.size() > 1) {
      cut.push_back(answers.all.front());  // first: it may throw
      answers.bytes -= answers.all.front().bytes;
      answers.all.pop_front();
    }
  }
  for (const LargeAnswers::One& one : cut) {
    const auto session = one.session.lock();
    if (!session) continue;
    session->Post([number = one.number](HttpSession& self) {
      if (self.answer_ == number) self.Gone(HttpEnd::kSlow);
    });
  }
}

void HttpSession::DropAnswer() {
  const uint64_t number = std::exchange(answer_, 0);
  if (number == 0) return;
  LargeAnswers& answers = listener_->answers;
  std::lock_guard lock(answers.mutex);
  const auto one = std::ranges::find(answers.all, number, &LargeAnswers::One::number);
  if (one == answers.all.end()) return;  // it was cut off
  answers.bytes -= one->bytes;
  answers.all.erase(one);
}

void HttpSession::FinishAnswer() {
  if (phase_ == Phase::kClosed) return;
  streaming_ = false;
  on_gone_ = nullptr;
  drop_timer_.cancel();
  if (const auto ended = std::exchange(ended_, nullptr)) ended(HttpEnd::kSent);
  kept_ = true;
  if (!keep_alive_) return Linger();
  if (!watching_) return ReadNextOrEnd();
  phase_ = Phase::kEndingWatch;
  socket_.cancel();
}

// --- the exchange's side

void HttpSession::PostOnGone(OnHttpEnd gone) {
  Post([gone = std::move(gone)](HttpSession& self) mutable {
    if (self.phase_ == Phase::kClosed) return gone(self.gone_as_);
    if (self.phase_ == Phase::kAnswering) self.on_gone_ = std::move(gone);
  });
}

void HttpSession::PostRespond(int status, HttpHeaders headers, std::string body, OnHttpEnd ended) {
  const bool posted = Post([status, headers = std::move(headers), body = std::move(body),
                            ended](HttpSession& self) mutable {
    if (!self.EndsWith(std::move(ended))) return;
    self.Respond(status, headers, std::move(body));
  });
  if (!posted && ended) ended(HttpEnd::kGone);
}

void HttpSession::PostError(HttpError error) {
  Post([error = std::move(error)](HttpSession& self) {
    if (self.phase_ != Phase::kAnswering) return;
    self.RespondError(error);
  });
}

void HttpSession::PostStartStream(int status, HttpHeaders headers) {
  Post([status, headers = std::move(headers)](HttpSession& self) mutable {
    if (self.phase_ != Phase::kAnswering) return;
    self.streaming_ = true;
    // HTTP/1.0 has no chunks: closing the connection ends the stream.
    if (!self.http11_ || self.LastAnswer()) self.keep_alive_ = false;
    if (self.http11_) headers.emplace_back("Transfer-Encoding", "chunked");
    self.buffered_head_ = self.Head(status, headers) + "\r\n";
  });
}

bool HttpSession::PostWrite(std::string piece, OnHttpEnd written) {
  return Post([piece = std::move(piece), written = std::move(written)](HttpSession& self) mutable {
    if (!self.streaming_) return written(self.gone_as_);
    self.sent_then_ = std::move(written);  // which is called also where there is no memory
    std::string bytes = std::exchange(self.buffered_head_, "") + self.Chunk(piece);
    OnHttpEnd then = std::exchange(self.sent_then_, nullptr);
    if (bytes.empty() && self.phase_ != Phase::kClosed) return then(HttpEnd::kSent);
    self.Send(std::move(bytes), "", std::move(then));
  });
}

void HttpSession::PostEndStream(std::string piece, OnHttpEnd ended) {
  const bool posted = Post([piece = std::move(piece), ended](HttpSession& self) mutable {
    if (!self.EndsWith(std::move(ended))) return;
    std::string bytes = std::exchange(self.buffered_head_, "") + self.Chunk(piece);
    if (self.http11_ && !self.is_head_) bytes += "0\r\n\r\n";
    if (bytes.empty()) return self.FinishAnswer();
    self.Send(std::move(bytes), "", [&self](HttpEnd end) {
      if (end == HttpEnd::kSent) self.FinishAnswer();
    });
  });
  if (!posted && ended) ended(HttpEnd::kGone);
}

void HttpSession::PostAbort() {
  Post([](HttpSession& self) { self.Gone(HttpEnd::kGone); });
}

bool HttpSession::EndsWith(OnHttpEnd ended) {
  if (phase_ != Phase::kAnswering) {
    if (ended) ended(gone_as_);
    return false;
  }
  ended_ = std::move(ended);
  return true;
}

}  // namespace baram::server
