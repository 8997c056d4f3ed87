// HttpSession: reads requests. Its answers are in http_session_answer.cc, its limits and its end in
// http_session_end.cc.
#include "server/http_session.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/beast/http/error.hpp>
#include <chrono>
#include <cstring>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/errors.h"
#include "server/http_framing.h"
#include "server/http_routes.h"
#include "server/http_text.h"
#include "server/request_id.h"

namespace baram::server {

namespace asio = boost::asio;
namespace http = boost::beast::http;

namespace {

constexpr size_t kReadBytes = 4096;
// How long pipelined data that is too much to keep may wait before it is dropped.
constexpr auto kKeepPipelined = std::chrono::seconds(1);
// The kernel's send buffer; the kernel doubles it for its own needs. Left alone it grows to
// megabytes: minutes of a stream before a stopped reader is noticed.
constexpr int kSendBufferBytes = 128 << 10;

int64_t Now() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

// For an IPv4 client of a dual-stack listener, its IPv4 address. Empty: it has disconnected.
std::string PeerOf(const asio::ip::tcp::socket& socket) {
  boost::system::error_code gone;
  const asio::ip::tcp::endpoint peer = socket.remote_endpoint(gone);
  if (gone) return "";
  asio::ip::address address = peer.address();
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    address = asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
  }
  const std::string host = address.to_string();
  return absl::StrCat(address.is_v6() ? "[" + host + "]" : host, ":", peer.port());
}

}  // namespace

HttpSession::HttpSession(asio::ip::tcp::socket socket, std::shared_ptr<HttpListenerState> listener)
    : listener_(std::move(listener)),
      socket_(std::move(socket)),
      timer_(socket_.get_executor()),
      drop_timer_(socket_.get_executor()),
      // Room for a header, and for the framing of a chunk, which Beast does not limit.
      buffer_(static_cast<size_t>(listener_->options.limits.max_header_bytes) + kReadBytes) {
  Error ignored;
  peer_ = PeerOf(socket_);
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  socket_.set_option(asio::socket_base::send_buffer_size(kSendBufferBytes), ignored);
  // Last: the destructor does not run if anything before throws.
  listener_->connections.fetch_add(1, std::memory_order_relaxed);
}

HttpSession::~HttpSession() {
  DropAnswer();
  if (waits_since() == kEvicted) listener_->evicted.fetch_sub(1);
  listener_->body_bytes.fetch_sub(held_bytes_);
  listener_->connections.fetch_sub(1, std::memory_order_relaxed);
}

void HttpSession::Start(bool refuse) {
  if (!refuse) WaitsFrom(Now());  // from now on, not from its turn on the strand
  asio::dispatch(socket_.get_executor(), Guarded([refuse](HttpSession& self) {
                   if (!refuse) return self.ReadRequest();
                   self.AnswerError({503, kTooManyConnections,
                                     "The server has too many connections; try again in a moment."},
                                    {{"Retry-After", "1"}});
                 }));
}

void HttpSession::EndSoon() {
  Post([](HttpSession& self) {
    const bool closing = self.listener_->closing.load(std::memory_order_relaxed);
    if (self.phase_ == Phase::kIdle && (closing || self.kept_)) self.Close();
    if (self.phase_ == Phase::kReading) self.LimitReadUntil(self.limit_);
  });
}

bool HttpSession::Evict(int64_t since) {
  if (!waits_since_.compare_exchange_strong(since, kEvicted)) return false;
  listener_->evicted.fetch_add(1);
  Post([](HttpSession& self) { self.Close(); });
  return true;
}

bool HttpSession::WaitsFrom(int64_t when) {
  int64_t since = waits_since();
  return since != kEvicted && waits_since_.compare_exchange_strong(since, when);
}

// --- reading

void HttpSession::ReadRequest() {
  if (listener_->closing.load(std::memory_order_relaxed)) return Close();
  phase_ = Phase::kIdle;
  is_head_ = false;
  http11_ = true;
  origin_.clear();
  request_id_.clear();
  id_is_clients_ = false;
  const HttpLimits& limits = listener_->options.limits;
  idle_limit_ = FromNow(kept_ ? limits.idle_s : std::min(limits.idle_s, limits.first_idle_s));
  if (!WaitsFrom(Now())) return Close();
  AwaitRequest();
}

void HttpSession::AwaitRequest() {
  // Some clients send an extra CRLF after a body.
  while (buffer_.size() >= 2 && std::memcmp(buffer_.data().data(), "\r\n", 2) == 0) {
    buffer_.consume(2);
  }
  // Only its first half may have arrived.
  const bool half_line =
      buffer_.size() == 1 && *static_cast<const char*>(buffer_.data().data()) == '\r';
  if (buffer_.size() > 0 && !half_line) return BeginRequest();
  Error ignored;
  if (kept_ && LastAnswer() && socket_.available(ignored) == 0) return Close();
  LimitUntil(idle_limit_);
  socket_.async_read_some(buffer_.prepare(kReadBytes),
                          Guarded([](HttpSession& self, Error error, size_t count) {
                            // A connection that ends or stays idle between requests is normal.
                            if (error || self.phase_ == Phase::kClosed) return self.Close();
                            self.buffer_.commit(count);
                            self.AwaitRequest();
                          }));
}

void HttpSession::BeginRequest() {
  phase_ = Phase::kReading;
  began_ = std::chrono::steady_clock::now();
  LimitFor(listener_->options.limits.request_s);
  body_bytes_ = 0;
  head_.emplace(static_cast<size_t>(listener_->options.limits.max_header_bytes),
                listener_->options.limits.max_headers);
  if (!WaitsFrom(Now())) return Close();
  ReadHead(buffer_.size());
}

void HttpSession::ReadHead(size_t count) {
  const std::string_view text(static_cast<const char*>(buffer_.data().data()), buffer_.size());
  is_head_ = text.starts_with("HEAD ");
  const HttpHead::State state = head_->Add(text.substr(text.size() - count));
  if (state == HttpHead::State::kWhole) {
    if (!WaitsFrom(kInBody + Now())) return Close();
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(listener_->options.limits.max_header_bytes));
    parser_->body_limit(static_cast<uint64_t>(listener_->options.limits.max_body_bytes));
    parser_->on_chunk_header(CheckChunk);
    Error error;
    parser_->put(asio::buffer(text.data(), head_->size()), error);
    // The head is whole: Beast misses the version.
    if (error == http::error::need_more || error == http::error::header_limit) {
      error = http::error::bad_version;
    }
    buffer_.consume(head_->size());
    return OnHead(error);
  }
  if (state != HttpHead::State::kMore) {
    return AnswerError(HeadFault(state, listener_->options.limits));
  }
  socket_.async_read_some(buffer_.prepare(kReadBytes),
                          Guarded([](HttpSession& self, Error error, size_t count) {
                            if (self.phase_ == Phase::kClosed) return;
                            if (error) return self.AnswerReadError(error);
                            self.buffer_.commit(count);
                            self.ReadHead(count);
                          }));
}

void HttpSession::OnHead(Error error) {
  if (!error || error == http::error::body_limit) TakeHead();
  if (error) return AnswerReadError(error);
  const http::fields& header = parser_->get();
  if (const auto fault = FramingFault(header, http11_)) return AnswerError(*fault);
  const std::string coding = LowerCase(header[http::field::content_encoding]);
  const bool has_body = parser_->chunked() || parser_->content_length().value_or(0) > 0;
  if (has_body && !coding.empty() && coding != "identity") {
    return AnswerError(
        {415, "COMPRESSED_BODY", "The request's body is compressed; send the body uncompressed."},
        {{"Accept-Encoding", "identity"}});
  }
  const bool waits = LowerCase(header[http::field::expect]) == "100-continue";
  if (!waits || !http11_) return ReadBody();
  const SteadyTime limit = limit_;
  Send("HTTP/1.1 100 Continue\r\n\r\n", "", [this, limit](HttpEnd end) {
    if (end != HttpEnd::kSent) return;
    LimitReadUntil(limit);
    ReadBody();
  });
}

void HttpSession::ReadBody() {
  const HttpLimits& limits = listener_->options.limits;
  Error error;
  parser_->eager(true);
  // By hand: Beast's own read reports the byte count only once it is complete.
  while (!parser_->is_done() && buffer_.size() > 0 && !error) {
    const size_t count = parser_->put(buffer_.data(), error);
    buffer_.consume(count);
    body_bytes_ += static_cast<int64_t>(count);
  }
  if (error && error != http::error::need_more) return AnswerReadError(error);
  if (body_bytes_ > 2 * limits.max_body_bytes + limits.max_header_bytes) {
    return AnswerError({413, "CHUNKS_TOO_SMALL",
                        "The request's body came in chunks too small for their framing; send "
                        "larger chunks."});
  }
  if (!HoldBody()) {
    return AnswerError({503, "TOO_MANY_BODIES",
                        "The server holds too much of other requests; try again in a moment."},
                       {{"Retry-After", "1"}});
  }
  if (parser_->is_done()) return Dispatch();
  const size_t room = buffer_.max_size() - buffer_.size();
  if (room == 0) return AnswerReadError(http::error::buffer_overflow);
  socket_.async_read_some(buffer_.prepare(room),
                          Guarded([](HttpSession& self, Error error, size_t count) {
                            if (self.phase_ == Phase::kClosed) return;
                            if (error) return self.AnswerReadError(error);
                            // One that goes on is not the one to be evicted.
                            if (!self.WaitsFrom(kInBody + Now())) return self.Close();
                            self.buffer_.commit(count);
                            self.ReadBody();
                          }));
}

bool HttpSession::HoldBody() {
  const std::string& body = parser_->get().body();
  const int64_t bytes = HeldBytes(body);
  const int64_t more = bytes - std::exchange(held_bytes_, bytes);
  const int64_t all = listener_->body_bytes.fetch_add(more) + more;
  return std::ssize(body) <= HttpServer::kSmallBodyBytes ||
         all <= listener_->options.limits.max_bodies_bytes;
}

// Must not be called while an operation uses the parser.
void HttpSession::DropBody() {
  parser_.reset();
  listener_->body_bytes.fetch_sub(std::exchange(held_bytes_, 0));
}

// Takes the request without its body. Beast adds trailers to the fields later, and trailers have
// bypassed whatever a proxy in front of us does with headers: they are ignored.
void HttpSession::TakeHead() {
  const auto& header = parser_->get();
  http11_ = header.version() >= 11;
  keep_alive_ = header.keep_alive();
  request_ = {};
  request_.method = is_head_ ? "GET" : std::string(header.method_string());
  request_.path = PathOf(header.target());
  for (const std::string_view name : kKeptHeaders) {
    const auto field = header.find({name.data(), name.size()});
    if (field != header.end()) request_.headers.emplace_back(name, std::string(field->value()));
  }
  if (header.find("x-request-id") != header.end()) {
    const std::string_view id = request_.Header("x-request-id");
    id_is_clients_ = IsRequestId(id);
    request_id_ = id_is_clients_ ? std::string(id) : NewRequestId();
  }
  request_.id = request_id_;
  request_.id_is_clients = id_is_clients_;
  const std::vector<std::string>& allowed = listener_->options.allowed_origins;
  const std::string origin = HeaderSafe(header[http::field::origin]);
  const bool known = std::any_of(allowed.begin(), allowed.end(), [&](const std::string& one) {
    return one == "*" || one == origin;
  });
  if (known) origin_ = origin;
}

void HttpSession::Dispatch() {
  if (!WaitsFrom(kNotWaiting)) return Close();
  HttpRequest request = std::exchange(request_, {});
  request.peer = peer_;
  request.body = parser_->release().body();
  DropBody();  // the exchange counts it from now on
  LimitUntil(SteadyTime::max());
  phase_ = Phase::kAnswering;
  streaming_ = false;
  on_gone_ = ended_ = nullptr;
  ended_unheard_ = false;
  Watch();

  if (request.method == "OPTIONS" && !origin_.empty()) return AnswerPreflight(request);

  const auto found = FindRoute(listener_->options.routes, request.method, request.path);
  if (const auto* none = std::get_if<NoRoute>(&found)) {
    return RespondError(none->error, none->headers);
  }
  std::get<const HttpRoute*>(found)->answer(
      std::make_shared<HttpExchange>(shared_from_this(), std::move(request)));
}

// --- after an answer

// When clients are being sent away, only requests that have already arrived are read.
void HttpSession::ReadNextOrEnd() {
  if (read_end_ && buffer_.size() == 0) return Close();
  Error ignored;
  const bool more = buffer_.size() > 0 || socket_.available(ignored) > 0;
  const bool sending_away = listener_->sending_away.load(std::memory_order_relaxed);
  return sending_away && !more ? Linger() : ReadRequest();
}

void HttpSession::Watch() {
  if (buffer_.size() >= static_cast<size_t>(listener_->options.limits.max_header_bytes)) {
    if (keep_alive_) return DropLater();
    buffer_.clear();
  }
  watching_ = true;
  socket_.async_read_some(buffer_.prepare(kReadBytes),
                          Guarded([](HttpSession& self, Error error, size_t count) {
                            self.watching_ = false;
                            self.buffer_.commit(count);
                            self.OnWatched(error);
                          }));
}

// The client's end comes after what it has pipelined. An answer that is made soon has no need to
// see it; for any other the requests that follow are given up.
void HttpSession::DropLater() {
  drop_timer_.expires_after(kKeepPipelined);
  drop_timer_.async_wait(Guarded([](HttpSession& self, Error error) {
    if (error || self.phase_ != Phase::kAnswering || self.watching_) return;
    self.keep_alive_ = false;
    self.Watch();
  }));
}

void HttpSession::OnWatched(Error error) {
  if (error && error != asio::error::operation_aborted) read_end_ = true;
  switch (phase_) {
    case Phase::kAnswering:
      // An abort comes from our own limit on the bytes in flight: their write reports it.
      if (!error || error == asio::error::operation_aborted) return Watch();
      // A client that has read everything may close before we learn that everything was sent. So
      // the write in flight reports its own outcome; only what would follow it can no longer be
      // sent.
      if (sent_then_) {
        ended_unheard_ = true;
        return;
      }
      return Gone(HttpEnd::kGone);
    case Phase::kEndingWatch:
      return ReadNextOrEnd();
    case Phase::kLingering:
      buffer_.clear();
      // If data keeps arriving, no read is ever pending that the limit could cancel.
      return error || timed_out_ ? Close() : Watch();
    default:
      return;
  }
}

void HttpSession::Linger() {
  if (read_end_) return Close();
  phase_ = Phase::kLingering;
  LimitFor(HttpServer::kLingerS);
  Error ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  if (watching_) return;
  buffer_.clear();
  Watch();
}

}  // namespace baram::server
