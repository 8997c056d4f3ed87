// HttpSession: one HTTP connection: reads a request, passes it to a route, writes the answer,
// repeats.
#ifndef BARAM_SERVER_HTTP_SESSION_H_
#define BARAM_SERVER_HTTP_SESSION_H_

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <cstdint>
#include <deque>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/steady_time.h"
#include "server/http_body.h"
#include "server/http_head.h"
#include "server/http_server.h"

namespace baram::server {

class HttpSession;

// Answers, and pieces of streams, in flight that are not small (HttpServer::kSmallBodyBytes).
struct LargeAnswers {
  struct One {
    uint64_t number;
    int64_t bytes;
    std::weak_ptr<HttpSession> session;
  };
  std::mutex mutex;      // guards what follows
  std::deque<One> all;   // oldest first
  int64_t bytes = 0;     // of all
  uint64_t numbers = 0;  // assigned so far; the first is 1
};

// State shared by a listener's sessions.
struct HttpListenerState {
  // Owned here, so that an answer made after the listener is gone still finds its executor.
  boost::asio::io_context io;
  HttpListenOptions options;
  std::atomic<int64_t> connections{0};
  std::atomic<int64_t> evicted{0};        // of those: they are about to go
  std::atomic<int64_t> body_bytes{0};     // held by bodies being read, or read and not yet taken
  std::atomic<bool> sending_away{false};  // no request on a connection that had an answer
  std::atomic<bool> closing{false};       // no request after the current one
  LargeAnswers answers;

  void Report(const HttpError& error) const {
    if (options.on_error) options.on_error(error);
  }
  // Runs `job` on `executor`. Returns false, and does nothing, once the listener has been
  // destroyed: a job that is never run would keep its session, and so this object, alive forever.
  template <typename Executor, typename Job>
  bool Post(const Executor& executor, Job&& job) {
    std::lock_guard lock(mutex);
    if (stopped) return false;
    boost::asio::post(executor, std::forward<Job>(job));
    return true;
  }
  std::mutex mutex;      // guards stopped
  bool stopped = false;  // no thread runs `io` any more
};

// Members are touched only on the socket's strand.
class HttpSession : public std::enable_shared_from_this<HttpSession> {
 public:
  // The socket's executor is a strand.
  HttpSession(boost::asio::ip::tcp::socket socket, std::shared_ptr<HttpListenerState> listener);
  ~HttpSession();

  // Thread-safe. Serves the connection; or answers 503 and closes it: there are too many.
  void Start(bool refuse);
  // Thread-safe, once the listener sends clients away or is closing. Closes the connection if it is
  // between requests; when closing, also one that has had no request yet, and a request being
  // received must arrive soon.
  void EndSoon();
  // From any thread. When it began to wait for a request's head, or for the rest of one, on the
  // steady clock; for the rest of a body, kInBody more; kNotWaiting or more: it does not.
  int64_t waits_since() const { return waits_since_.load(std::memory_order_relaxed); }
  // From any thread. Closes the connection; returns false if it no longer waits since `since`.
  bool Evict(int64_t since);
  static constexpr int64_t kNotWaiting = std::numeric_limits<int64_t>::max() - 1;
  // More than the clock ever shows: connections that wait for a body are evicted last.
  static constexpr int64_t kInBody = kNotWaiting / 2;

  // The client has gone, or is to be dropped. Only when no thread runs the listener any more.
  void Drop() { Gone(HttpEnd::kGone); }

  // The exchange's side, thread-safe; see HttpExchange. In http_session_answer.cc.
  void CountBody(int64_t bytes) { listener_->body_bytes.fetch_add(bytes); }
  void PostOnGone(OnHttpEnd gone);
  void PostRespond(int status, HttpHeaders headers, std::string body, OnHttpEnd ended);
  void PostError(HttpError error);
  void PostStartStream(int status, HttpHeaders headers);
  bool PostWrite(std::string piece, OnHttpEnd written);
  void PostEndStream(std::string piece, OnHttpEnd ended);
  void PostAbort();

 private:
  using Error = boost::system::error_code;
  using Parser = boost::beast::http::request_parser<HttpBody>;

  enum class Phase : uint8_t {
    kIdle,         // no byte of the next request has been seen
    kReading,      // a request
    kAnswering,    // from Dispatch to the end of the answer
    kEndingWatch,  // the answer was sent; waiting for the watch to be cancelled
    kLingering,    // our side is shut down; reading the client's until it ends
    kClosed,
  };

  // A handler that calls job(*this, arguments...) on the strand. It keeps the session, and what it
  // throws ends this session alone: Beast throws where a header is too long for it, and so does
  // whatever finds no memory.
  template <typename Job>
  auto Guarded(Job job);
  template <typename Job>
  bool Post(Job job);  // job(*this), on the strand
  // Whether this answer must be the connection's last, whatever its client requested.
  bool LastAnswer() const {
    return listener_->sending_away.load(std::memory_order_relaxed) ||
           listener_->closing.load(std::memory_order_relaxed);
  }
  // Why an operation on the socket failed.
  HttpEnd Failure() const { return timed_out_ ? HttpEnd::kSlow : HttpEnd::kGone; }

  // --- http_session.cc: reading
  // Whoever may evict the session sees that it waits from now on, or no longer does; false: it has
  // been evicted.
  bool WaitsFrom(int64_t when);
  void ReadRequest();
  // Reads until a request begins; empty lines before it buy no time.
  void AwaitRequest();
  void BeginRequest();
  // Looks at the last `count` bytes of the buffer, which are new, and reads on to the head's end.
  void ReadHead(size_t count);
  void OnHead(Error error);
  void ReadBody();
  // Counts the memory of the body so far; false if that exceeds the listener's total.
  bool HoldBody();
  void DropBody();
  void TakeHead();
  void Dispatch();
  // After an answer, when no read is pending: goes to the next request, if there may be one.
  void ReadNextOrEnd();
  // Reads while an answer is produced, so that the client's end is noticed; data received is kept,
  // up to max_header_bytes.
  void Watch();
  void DropLater();
  void OnWatched(Error error);
  void Linger();

  // --- http_session_end.cc: the connection's end, limits
  void Gone(HttpEnd how);
  void TellGone(HttpEnd how);
  // A handler has thrown `error`.
  void Break(const std::exception& error) noexcept;
  void Close();
  // Cancels what is in flight at `when`, unless the limit is changed first.
  void LimitUntil(SteadyTime when);
  void Wait();  // for the limit
  void LimitFor(double seconds);
  // For a request being received: sooner, if the listener is closing.
  void LimitReadUntil(SteadyTime when);

  // --- http_session_answer.cc: answers
  // Answers a failed read, or closes if the client can't read an answer.
  void AnswerReadError(Error error);
  // Answers, then closes.
  void AnswerError(const HttpError& error, HttpHeaders headers = {});
  void RespondError(HttpError error, HttpHeaders headers = {});
  void AnswerPreflight(const HttpRequest& request);
  std::string Head(int status, const HttpHeaders& headers) const;
  void Respond(int status, const HttpHeaders& headers, std::string body);
  std::string Chunk(std::string_view piece) const;
  // Sends `bytes`, then `body`, which is not copied; then calls `then` with the outcome.
  void Send(std::string bytes, std::string body, OnHttpEnd then);
  void SendRest();
  // Counts a large answer that starts. If the total is exceeded the oldest are cut off: those are
  // the ones that their readers neglect, and a new one would otherwise wait for them.
  void HoldAnswer(int64_t bytes);
  void DropAnswer();
  void FinishAnswer();
  // Keeps `ended` for the end of the answer that starts now; false if the client is gone.
  bool EndsWith(OnHttpEnd ended);

  const std::shared_ptr<HttpListenerState> listener_;  // before socket_, whose executor it owns
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer timer_;
  boost::asio::steady_timer drop_timer_;
  // The timer may fire before the limit: setting it costs as much as writing a short piece of a
  // stream, so extending the limit leaves the timer alone.
  SteadyTime limit_ = SteadyTime::max();
  SteadyTime wakes_ = SteadyTime::max();
  bool timed_out_ = false;
  boost::beast::flat_buffer buffer_;
  std::optional<HttpHead> head_;
  std::optional<Parser> parser_;  // from the head's end to the body's
  Phase phase_ = Phase::kIdle;
  SteadyTime idle_limit_;
  static constexpr int64_t kEvicted = kNotWaiting + 1;
  std::atomic<int64_t> waits_since_{kNotWaiting};
  bool kept_ = false;  // it has had an answer
  bool watching_ = false;
  bool read_end_ = false;       // the client sends no more; a second read would not report that
  bool ended_unheard_ = false;  // the client's end arrived while bytes were in flight

  std::string peer_;  // see HttpRequest

  // The current request.
  SteadyTime began_;  // at its first byte
  bool is_head_ = false;
  bool http11_ = true;
  HttpRequest request_;     // the body is set last
  std::string origin_;      // if allowed
  std::string request_id_;  // and the next: as in HttpRequest
  bool id_is_clients_ = false;
  int64_t body_bytes_ = 0;  // as received, including chunk framing
  int64_t held_bytes_ = 0;  // of the body, as counted in listener_->body_bytes

  // Its answer.
  bool keep_alive_ = true;  // after the answer
  bool streaming_ = false;
  std::string buffered_head_;  // of a stream, held until its first piece
  OnHttpEnd on_gone_;
  OnHttpEnd ended_;
  HttpEnd gone_as_ = HttpEnd::kGone;  // once closed

  uint64_t answer_ = 0;       // its number in listener_->answers, while listed there
  std::string sending_;       // bytes in flight,
  std::string sending_body_;  // and those after them: `sent_` bytes of both are sent
  size_t sent_ = 0;
  bool writing_ = false;
  SteadyTime send_limit_;  // for all of them
  OnHttpEnd sent_then_;
};

template <typename Job>
auto HttpSession::Guarded(Job job) {
  return [self = shared_from_this(), job = std::move(job)](auto&&... arguments) mutable {
    try {
      job(*self, arguments...);
    } catch (const std::exception& error) {
      self->Break(error);
    }
  };
}

template <typename Job>
bool HttpSession::Post(Job job) {
  return listener_->Post(socket_.get_executor(), Guarded(std::move(job)));
}

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP_SESSION_H_
