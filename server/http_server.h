// HttpServer: an HTTP/1.1 listener with limits, keep-alive and event streams. It knows connections
// and bytes; what a path means is its routes' business.
#ifndef BARAM_SERVER_HTTP_SERVER_H_
#define BARAM_SERVER_HTTP_SERVER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/http_end.h"

namespace baram::server {

struct HttpLimits {
  int64_t max_body_bytes = 8 << 20;  // the framing of its chunks may take as much again
  // Bodies that are being read, or were and not taken, hold so much together. Past that a body is
  // refused once it is not small; small ones are still read, so that whoever sends large ones by
  // halves keeps nobody else out.
  int64_t max_bodies_bytes = 256 << 20;
  // Whole answers on their way that are not small hold so much together. Past that the oldest are
  // cut off as too slow; one that is alone may be larger.
  int64_t max_answers_bytes = int64_t{2} << 30;
  // Request line and headers together; also what lies around a chunk, and the trailers.
  int32_t max_header_bytes = 16 << 10;
  int32_t max_connections = 1024;
  int32_t max_refused = 64;  // connections above those, which are told why they are refused
  double idle_s = 75;        // between requests of a kept connection
  double request_s = 30;     // from a request's first byte to its last
  double closing_s = 1;      // the same after StopAccepting, for a request that is half sent
  // A client that takes nothing for that long is cut off as too slow; so is one that has not taken
  // an answer, or a piece of one, after that long and as long again for each MiB of it.
  double write_s = 30;
};

struct HttpRequest {
  std::string method;  // GET for a HEAD request, whose answer is sent without its body
  std::string path;    // without the query, percent-decoded
  std::string peer;    // "10.0.0.7:51234"; of a proxy, where one is between
  // Names in lower case; trailers are not among them.
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  // The first header of this lower-case name, or "".
  std::string_view Header(std::string_view name) const;
};

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

class HttpSession;  // a connection, in http_session.h

// One request and its answer. Held by whoever answers; methods may be called from any thread, and
// do nothing once the client or the listener has gone. An exchange dropped without an answer
// answers 500; one dropped within a stream breaks the connection, so that the client sees it is cut
// short.
class HttpExchange {
 public:
  HttpExchange(std::shared_ptr<HttpSession> session, HttpRequest request);
  ~HttpExchange();
  HttpExchange(const HttpExchange&) = delete;
  HttpExchange& operator=(const HttpExchange&) = delete;

  const HttpRequest& request() const { return request_; }
  // The request's body, which request() has no longer: calls live longer than their bodies are
  // needed. By whoever answers, once.
  std::string TakeBody();
  // Call it before answering; a later call replaces the earlier. `gone` is called at most once, on
  // a listener's thread, if the client goes or is cut off before the answer is complete; soon, if
  // it has gone already. A client that closes its sending side counts as gone, since nothing tells
  // it from one that vanished. What is in flight then is still sent; its own callback tells how
  // that ended.
  void OnGone(OnHttpEnd gone);
  // The whole answer. Once, and not after StartStream. A request's x-request-id, if it is one
  // (request_id.h), is sent back with every answer; an X-Request-Id among `headers` counts only for
  // a request without. `ended` is called once: on a listener's thread, or, once the listener has
  // been destroyed, on this one before Respond returns.
  void Respond(int status, HttpHeaders headers, std::string body, OnHttpEnd ended = nullptr);
  // An answer in pieces. The headers leave with the first one.
  void StartStream(int status, HttpHeaders headers);
  // The next piece, after `written` was called for the last one, on a listener's thread. Returns
  // false if the listener has been destroyed; then `written` is never called.
  bool Write(std::string piece, OnHttpEnd written);
  // After the last `written`, with a last piece that may be empty. `ended` as with Respond, for the
  // whole stream.
  void EndStream(std::string piece, OnHttpEnd ended = nullptr);

 private:
  enum class State : uint8_t { kOpen, kStreaming, kAnswered };

  const std::shared_ptr<HttpSession> session_;
  HttpRequest request_;
  std::atomic<State> state_{State::kOpen};
};

struct HttpRoute {
  std::string method;
  std::string path;  // exact; one that ends in '*' takes what begins with the rest
  std::function<void(std::shared_ptr<HttpExchange>)> answer;  // on a listener's thread: be quick
};

// What the listener itself answers a request that no route takes, or that breaks a limit.
struct HttpError {
  int status;          // 400, 404, 405, 408, 413, 415, 431, 500 or 503
  const char* reason;  // one upper-case word from a fixed set, for logs and metrics
  std::string message;
  double total_s = 0;     // since the request's first byte; 0 for a connection too many
  std::string peer = {};  // as HttpRequest's; empty for a connection too many
};
// Called once for each error, also for a connection too many (503) that is closed unanswered, and
// for each time that accepting one fails as there are no descriptors (503, kNoDescriptors).
// Returns the body; the content type is application/json.
using HttpErrorBody = std::function<std::string(const HttpError&)>;

class HttpServer {
 public:
  // How long a client may take to read its last answer before the connection closes. Without that
  // time a request that was refused half-read would reset the connection and destroy its own
  // answer.
  static constexpr double kLingerS = 1;
  // Bodies up to this, of requests and of answers, are small: taken and sent whatever is held.
  static constexpr int64_t kSmallBodyBytes = 64 << 10;

  // Binds "HOST:PORT" ("[::1]:8000", port 0: any) and starts `threads` threads. The error names the
  // address and what to change. Browsers' pages from `allowed_origins` may read the answers; "*" is
  // any page.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Listen(
      const std::string& address, std::vector<HttpRoute> routes, HttpErrorBody error_body,
      const HttpLimits& limits, int threads, std::vector<std::string> allowed_origins = {});
  // Stops at once: connections are closed, and whoever waits is told that its client has gone. Not
  // from a listener's thread.
  ~HttpServer();

  // From now on each answer is the last of its connection, which closes after it, and those that
  // are between requests are closed. New ones are taken, each for one answer. From any thread.
  void SendAway();
  // Refuses new connections and closes those that are between requests; requests on their way have
  // closing_s to arrive, and kLingerS to read that they did not; answers go on, and their
  // connections close after them.
  void StopAccepting();
  // "127.0.0.1:8000", with the port that was bound.
  const std::string& address() const;
  // Open now. After StopAccepting and the last answer it falls to 0 within seconds.
  int64_t connections() const;

 private:
  struct Shared;
  explicit HttpServer(std::unique_ptr<Shared> shared);
  std::unique_ptr<Shared> shared_;
};

// The standard phrase of a status: "Not Found".
std::string_view HttpReason(int status);

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP_SERVER_H_
