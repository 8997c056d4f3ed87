// HttpServer: an HTTP/1.1 listener with limits, keep-alive and event streams. It deals in
// connections and bytes; the meaning of a path is up to its routes.
#ifndef BARAM_SERVER_HTTP_SERVER_H_
#define BARAM_SERVER_HTTP_SERVER_H_

#include <algorithm>
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
#include "server/listening_sockets.h"

namespace baram::server {

struct HttpLimits {
  int64_t max_body_bytes = 8 << 20;  // chunked framing may take as much again
  // The memory held by bodies that are being read, or were read and not yet taken. Past it a body
  // is refused unless it is small; small ones are still read, so that clients which send large
  // bodies by halves shut nobody else out.
  int64_t max_bodies_bytes = 256 << 20;
  // The total held by answers, and pieces of streams, in flight that are not small. Past it the
  // oldest are cut off as too slow; a single one may be larger.
  int64_t max_answers_bytes = int64_t{2} << 30;
  // Request line and headers together; also the framing of a chunk, and the trailers.
  int32_t max_header_bytes = 16 << 10;
  int32_t max_headers = 100;  // in number; Beast takes some 100 bytes for each, however short
  // Above that the one that has waited longest for a whole head makes room, if any does.
  int32_t max_connections = 1024;
  int32_t max_refused = 64;  // connections beyond that, which are sent the reason for their refusal
  double idle_s = 75;        // between requests of a kept-alive connection
  double first_idle_s = 75;  // before the first one, if that is less
  double request_s = 30;     // from a request's first byte to its last
  double closing_s = 1;      // the same after StopAccepting, for a half-sent request
  // A client that reads nothing for this long is cut off as too slow; so is one that has not read
  // an answer, or a piece of one, after this long plus as long again for each MiB of it.
  double write_s = 30;
};

// The headers that routes may read: a request keeps no others, as a call may wait for long.
inline constexpr std::string_view kKeptHeaders[] = {
    "access-control-request-headers", "content-type", "x-request-id", "x-request-timeout"};

// The name of one of them; of any other it does not compile.
struct KeptHeader {
  consteval KeptHeader(const char* text) : name(text) {  // NOLINT: a literal is one
    if (std::ranges::count(kKeptHeaders, name) == 0) throw "add it to kKeptHeaders";
  }
  std::string_view name;
};

struct HttpRequest {
  std::string method;  // GET for a HEAD request, whose answer is sent without a body
  std::string path;    // without the query, percent-decoded
  std::string peer;    // "10.0.0.7:51234"; a proxy's, if there is one in between
  // The first of each name in kKeptHeaders, without trailers.
  std::vector<std::pair<std::string_view, std::string>> headers;
  // Of the header X-Request-Id: the client's id if valid (request_id.h), else one of ours instead;
  // empty without that header.
  std::string id;
  bool id_is_clients = false;
  std::string body;
  std::string_view Header(KeptHeader header) const;  // or ""
};

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

class HttpSession;  // one connection, in http_session.h

// One request and its answer, held by the answering code. Methods are thread-safe, and do nothing
// once the client has disconnected or the listener is gone. An exchange dropped without an answer
// answers 500; one dropped in the middle of a stream breaks the connection, so that the client sees
// the truncation.
class HttpExchange {
 public:
  HttpExchange(std::shared_ptr<HttpSession> session, HttpRequest request);
  ~HttpExchange();
  HttpExchange(const HttpExchange&) = delete;
  HttpExchange& operator=(const HttpExchange&) = delete;

  const HttpRequest& request() const { return request_; }
  // Moves the body out of request(): calls live longer than their bodies are needed. Call at most
  // once.
  std::string TakeBody();
  // Call before answering; a later call replaces the earlier one. `gone` is called at most once, on
  // a listener thread, if the client disconnects or is cut off before the answer is complete; soon,
  // if it already has. A client that closes its sending side counts as disconnected, since it can't
  // be told apart from one that vanished. What is in flight then is still sent; its own callback
  // reports how that ended.
  void OnGone(OnHttpEnd gone);
  // Sends the whole answer. Once, and not after StartStream. The request's id is in every answer;
  // an X-Request-Id among `headers` replaces one that is not the client's. `ended` is called once:
  // on a listener thread, or, if the listener has been destroyed, on this thread before Respond
  // returns.
  void Respond(int status, HttpHeaders headers, std::string body, OnHttpEnd ended = nullptr);
  // Starts an answer in pieces. The headers are sent with the first piece.
  void StartStream(int status, HttpHeaders headers);
  // Sends the next piece, after `written` was called for the previous one, on a listener thread.
  // Returns false if the listener has been destroyed; then `written` is never called.
  bool Write(std::string piece, OnHttpEnd written);
  // Call after the last `written`, with a last piece that may be empty. `ended` is as in Respond,
  // for the whole stream.
  void EndStream(std::string piece, OnHttpEnd ended = nullptr);

 private:
  enum class State : uint8_t { kOpen, kStreaming, kAnswered };

  const std::shared_ptr<HttpSession> session_;
  HttpRequest request_;
  std::atomic<State> state_{State::kOpen};
};

struct HttpRoute {
  std::string method;
  std::string path;  // exact; one that ends in '*' matches by prefix
  std::function<void(std::shared_ptr<HttpExchange>)> answer;  // on a listener thread: must be quick
};

// The listener's own answer to a request that no route takes or that exceeds a limit.
struct HttpError {
  int status;          // 400, 404, 405, 408, 413, 415, 431, 500 or 503
  const char* reason;  // one upper-case word from a fixed set, for logs and metrics
  std::string message;
  double total_s = 0;           // since the request's first byte; 0 for a connection over the limit
  std::string peer = {};        // as in HttpRequest; empty for a connection over the limit
  std::string request_id = {};  // that of the answer; empty if it has none
};

struct HttpListenOptions {
  std::vector<HttpRoute> routes = {};
  // The JSON that tells a client of an error. Required.
  std::string (*error_body)(const HttpError& error) = nullptr;
  // Called once for each error, including for a connection over the limit (503) that is closed
  // without an answer, and for each failed accept because there are no descriptors (503,
  // kNoDescriptors). On the listener's threads, concurrently. May be null.
  std::function<void(const HttpError& error)> on_error = nullptr;
  HttpLimits limits = {};
  int threads = 1;
  // Pages from these may read the answers in browsers; "*" is any page.
  std::vector<std::string> allowed_origins = {};
};

class HttpServer {
 public:
  // How long a client may take to read its last answer before the connection closes. Without it,
  // refusing a half-read request would reset the connection and destroy the answer.
  static constexpr double kLingerS = 1;
  // Request and answer bodies up to this size are small: accepted and sent regardless of the
  // totals.
  static constexpr int64_t kSmallBodyBytes = 64 << 10;

  // Serves the connections to `sockets`, and starts the threads.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Listen(ListeningSockets sockets,
                                                            HttpListenOptions options);
  // Stops at once: connections are closed, and pending exchanges are told that their client has
  // gone. Not from a listener thread.
  ~HttpServer();

  // From now on each answer is the last on its connection, which then closes, and connections
  // between requests are closed. New ones are accepted, for one answer each. Thread-safe.
  void SendAway();
  // Refuses new connections and closes those between requests; requests being received have
  // closing_s to arrive, and kLingerS to read that they did not; answers in progress continue, and
  // their connections close after them.
  void StopAccepting();
  // "127.0.0.1:8000", with the port actually bound.
  const std::string& address() const;
  // Currently open. After StopAccepting and the last answer it drops to 0 within seconds.
  int64_t connections() const;

 private:
  struct Shared;
  explicit HttpServer(std::unique_ptr<Shared> shared);
  std::unique_ptr<Shared> shared_;
};

// The standard reason phrase of a status: "Not Found".
std::string_view HttpReason(int status);

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP_SERVER_H_
