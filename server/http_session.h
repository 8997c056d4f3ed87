// HttpSession: one HTTP connection: reads a request, hands it to a route, writes the answer, again.
#ifndef BARAM_SERVER_HTTP_SESSION_H_
#define BARAM_SERVER_HTTP_SESSION_H_

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/steady_time.h"
#include "server/http_server.h"

namespace baram::server {

class HttpSession;

// Whole answers on their way that are not small (HttpServer::kSmallBodyBytes).
struct LargeAnswers {
  struct One {
    uint64_t number;
    int64_t bytes;
    std::weak_ptr<HttpSession> session;
  };
  std::mutex mutex;      // guards what follows
  std::deque<One> all;   // the oldest first
  int64_t bytes = 0;     // of all
  uint64_t numbers = 0;  // given out; the first is 1
};

// What the sessions of a listener share.
struct HttpListenerState {
  // Here, so that an answer made after the listener has gone still finds its executor.
  boost::asio::io_context io;
  std::vector<HttpRoute> routes;
  HttpErrorBody error_body;
  HttpLimits limits;
  std::vector<std::string> allowed_origins;
  std::atomic<int64_t> connections{0};
  std::atomic<int64_t> body_bytes{0};     // of bodies being read, or read and not taken
  std::atomic<bool> sending_away{false};  // no request on a connection that had an answer
  std::atomic<bool> closing{false};       // no request after the current one
  LargeAnswers answers;

  // Runs `job` on `executor`. False, and nothing happens, once the listener has been destroyed: a
  // job that is never run would keep its session, and so this, alive for ever.
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

// Members are touched on the socket's strand only.
class HttpSession : public std::enable_shared_from_this<HttpSession> {
 public:
  // The socket's executor is a strand.
  HttpSession(boost::asio::ip::tcp::socket socket, std::shared_ptr<HttpListenerState> listener);
  ~HttpSession();

  // From any thread. Serves the connection; or answers 503 and closes it: there are too many.
  void Start(bool refuse);
  // From any thread, once the listener sends clients away or is closing. Closes the connection if
  // it is between requests; in the latter case one without any is closed too, and a request on its
  // way must arrive soon.
  void EndSoon();
  // The client has gone, or is to be. Only when no thread runs the listener any more.
  void Drop() { Gone(HttpEnd::kGone); }

  // The exchange's side, from any thread; see HttpExchange. In http_session_answer.cc.
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
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  enum class Phase : uint8_t {
    kIdle,         // no byte of the next request has been seen
    kReading,      // a request
    kAnswering,    // from Dispatch to the end of the answer
    kEndingWatch,  // the answer is out, the watch has been told to end
    kLingering,    // our side is shut, the client's is read until it ends
    kClosed,
  };

  template <typename Job>
  bool Post(Job job);  // job(*this), on the strand
  // Whether this answer is to be the connection's last, whatever its client asked for.
  bool LastAnswer() const {
    return listener_->sending_away.load(std::memory_order_relaxed) ||
           listener_->closing.load(std::memory_order_relaxed);
  }
  // Why an operation on the socket failed.
  HttpEnd Failure() const { return timed_out_ ? HttpEnd::kSlow : HttpEnd::kGone; }

  // --- http_session.cc: reading, limits, the connection's end
  void ReadRequest();
  void ReadHeader();
  void OnHeader(Error error);
  void ReadBody();
  // Counts what has come of the body; false if the listener holds too much with it.
  bool HoldBody();
  void DropBody();
  void OnBody(Error error);
  void TakeHeader();
  void Dispatch();
  // After an answer, once nothing is read any more: to the next request, if there may be one.
  void ReadNextOrEnd();
  // Reads while an answer is made, so that the client's end is noticed; what comes is kept.
  void Watch();
  void OnWatched(Error error);
  void Linger();
  void Gone(HttpEnd how);
  void Close();
  // Cuts what is in flight off at `when`, unless the limit is changed first.
  void LimitUntil(SteadyTime when);
  void Wait();  // for the limit
  void LimitFor(double seconds);
  // For a request on its way: sooner, if the listener is closing.
  void LimitReadUntil(SteadyTime when);

  // --- http_session_answer.cc: answers
  // Answers a read that failed, or closes where nobody is left to hear.
  void AnswerReadError(Error error);
  // Answers, and closes.
  void AnswerError(const HttpError& error, HttpHeaders headers = {});
  void RespondError(HttpError error, HttpHeaders headers = {});
  std::string NothingAt(const std::string& path) const;
  void AnswerPreflight(const HttpRequest& request);
  std::string Head(int status, const HttpHeaders& headers) const;
  void Respond(int status, const HttpHeaders& headers, std::string body);
  std::string Chunk(std::string_view piece) const;
  // Sends bytes, and `body` after them, which is not copied; then calls `then` with what became of
  // them.
  void Send(std::string bytes, std::string body, OnHttpEnd then);
  void SendRest();
  // Counts a large answer that begins. Where all hold too much with it the oldest are cut off: they
  // are the ones that their readers leave waiting, and a new one would otherwise wait for those.
  void HoldAnswer(int64_t bytes);
  void DropAnswer();
  void FinishAnswer();
  // Keeps `ended` for the end of the answer that begins now; false if there is nobody to answer.
  bool EndsWith(OnHttpEnd ended);

  const std::shared_ptr<HttpListenerState> listener_;  // before socket_, whose executor it owns
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer timer_;
  // The timer may wake before the limit: to set it costs as much as to write a short piece of a
  // stream, so one that moves back leaves it alone.
  SteadyTime limit_ = SteadyTime::max();
  SteadyTime wakes_ = SteadyTime::max();
  bool timed_out_ = false;
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  Phase phase_ = Phase::kIdle;
  bool kept_ = false;  // it has had an answer
  bool watching_ = false;
  bool read_end_ = false;       // the client sends no more; a second read would not hear of that
  bool ended_unheard_ = false;  // the client's end came while bytes were in flight

  std::string peer_;  // see HttpRequest

  // The current request.
  SteadyTime began_;  // with its first byte
  bool is_head_ = false;
  bool http11_ = true;
  HttpRequest request_;     // its body comes last
  std::string origin_;      // if it is allowed
  std::string request_id_;  // the client's, if it is one
  int64_t body_bytes_ = 0;  // as they came, with the framing of chunks
  int64_t held_bytes_ = 0;  // of the body, as counted in listener_->body_bytes

  // The answer to it.
  bool keep_alive_ = true;  // after it
  bool streaming_ = false;
  std::string buffered_head_;  // of a stream, until its first piece
  OnHttpEnd on_gone_;
  OnHttpEnd ended_;
  HttpEnd gone_as_ = HttpEnd::kGone;  // once closed

  uint64_t answer_ = 0;       // its number in listener_->answers, while it is there
  std::string sending_;       // bytes in flight,
  std::string sending_body_;  // and those after them: `sent_` of both are out
  size_t sent_ = 0;
  SteadyTime send_limit_;  // for all of them
  OnHttpEnd sent_then_;
};

template <typename Job>
bool HttpSession::Post(Job job) {
  return listener_->Post(socket_.get_executor(), [self = shared_from_this(),
                                                  job = std::move(job)]() mutable { job(*self); });
}

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP_SESSION_H_
