// HttpServer: see the header. Sessions are in http_session.cc.
#include "server/http_server.h"

#include <pthread.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/beast/http/status.hpp>
#include <charconv>
#include <chrono>
#include <mutex>
#include <thread>

#include "server/errors.h"
#include "server/http_session.h"

namespace baram::server {

namespace asio = boost::asio;
using asio::ip::tcp;

std::string_view HttpRequest::Header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return "";
}

std::string_view HttpReason(int status) {
  const auto text =
      boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(status));
  return {text.data(), text.size()};
}

HttpExchange::HttpExchange(std::shared_ptr<HttpSession> session, HttpRequest request)
    : session_(std::move(session)), request_(std::move(request)) {}

HttpExchange::~HttpExchange() {
  switch (state_.load()) {
    case State::kOpen:
      session_->PostError({500, "UNANSWERED", "The server failed to answer this request."});
      break;
    case State::kStreaming:
      session_->PostAbort();
      break;
    case State::kAnswered:
      break;
  }
}

void HttpExchange::OnGone(HttpEnded gone) { session_->PostOnGone(std::move(gone)); }

void HttpExchange::Respond(int status, HttpHeaders headers, std::string body, HttpEnded ended) {
  State open = State::kOpen;
  if (!state_.compare_exchange_strong(open, State::kAnswered)) return;
  session_->PostRespond(status, std::move(headers), std::move(body), std::move(ended));
}

void HttpExchange::StartStream(int status, HttpHeaders headers) {
  State open = State::kOpen;
  if (!state_.compare_exchange_strong(open, State::kStreaming)) return;
  session_->PostStartStream(status, std::move(headers));
}

bool HttpExchange::Write(std::string piece, HttpEnded written) {
  return session_->PostWrite(std::move(piece), std::move(written));
}

void HttpExchange::EndStream(std::string piece, HttpEnded ended) {
  State streaming = State::kStreaming;
  if (!state_.compare_exchange_strong(streaming, State::kAnswered)) return;
  session_->PostEndStream(std::move(piece), std::move(ended));
}

// Members that the accept loop uses are touched on the acceptor's strand only.
struct HttpServer::Shared {
  std::shared_ptr<HttpListenerState> state = std::make_shared<HttpListenerState>();
  asio::io_context& io = state->io;
  tcp::acceptor acceptor{asio::make_strand(io)};
  asio::steady_timer retry{acceptor.get_executor()};
  std::vector<std::weak_ptr<HttpSession>> sessions;
  std::string address;
  std::vector<std::thread> threads;

  void Accept() {
    acceptor.async_accept(asio::make_strand(io),
                          [this](boost::system::error_code error, tcp::socket socket) {
                            if (!acceptor.is_open()) return;
                            if (error) return AcceptLater();
                            Serve(std::move(socket));
                            Accept();
                          });
  }

  // Out of descriptors, likely: trying again at once would spin.
  void AcceptLater() {
    retry.expires_after(std::chrono::milliseconds(50));
    retry.async_wait([this](boost::system::error_code error) {
      if (!error && acceptor.is_open()) Accept();
    });
  }

  void Serve(tcp::socket socket) {
    const int64_t limit = state->limits.max_connections;
    const int64_t open = state->connections.load(std::memory_order_relaxed);
    // Those that are being refused take a moment; a flood of them is dropped without a word.
    if (open >= limit + kMaxRefused) {
      (void)state->error_body({503, kTooManyConnections, ""});  // it is counted all the same
      return;
    }
    auto session = std::make_shared<HttpSession>(std::move(socket), state);
    // Each session is looked at twice over its life, however many there are.
    if (sessions.size() >= 2 * static_cast<size_t>(open) + 16) {
      std::erase_if(sessions, [](const std::weak_ptr<HttpSession>& one) { return one.expired(); });
    }
    sessions.push_back(session);
    session->Start(/*refuse=*/open >= limit);
  }
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Listen(
    const std::string& address, std::vector<HttpRoute> routes, HttpErrorBody error_body,
    const HttpLimits& limits, int threads, std::vector<std::string> allowed_origins) {
  const size_t colon = address.rfind(':');
  unsigned port = 0;
  const char* end = address.data() + address.size();
  if (colon == std::string::npos || colon + 1 == address.size() ||
      std::from_chars(address.data() + colon + 1, end, port).ptr != end || port > 65535) {
    return absl::InvalidArgumentError("the address " + address + " is not HOST:PORT");
  }
  const std::string shown_host = address.substr(0, colon);
  std::string host = shown_host;
  if (host.size() > 1 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }

  auto shared = std::make_unique<Shared>();
  boost::system::error_code error;
  tcp::resolver resolver(shared->io);
  const auto found = resolver.resolve(host.empty() ? "0.0.0.0" : host, std::to_string(port),
                                      tcp::resolver::passive, error);
  if (error || found.empty()) {
    return absl::InvalidArgumentError("the host of " + address +
                                      " has no address: " + error.message());
  }
  const tcp::endpoint endpoint = *found.begin();
  tcp::endpoint bound;
  shared->acceptor.open(endpoint.protocol(), error);
  if (!error) shared->acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) shared->acceptor.bind(endpoint, error);
  if (!error) shared->acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (!error) bound = shared->acceptor.local_endpoint(error);
  if (error) {
    const bool in_use = error == asio::error::address_in_use;
    return absl::UnavailableError("can't listen on " + address + ": " + error.message() +
                                  (in_use ? "; stop what uses it or choose another port"
                                          : "; give an address of this machine"));
  }
  shared->address = shown_host + ":" + std::to_string(bound.port());
  shared->state->routes = std::move(routes);
  shared->state->error_body = std::move(error_body);
  shared->state->limits = limits;
  shared->state->allowed_origins = std::move(allowed_origins);
  shared->Accept();
  for (int i = 0; i < threads; ++i) {
    shared->threads.emplace_back([io = &shared->io] {
      pthread_setname_np(pthread_self(), "baram-http");
      io->run();
    });
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(shared)));
}

HttpServer::HttpServer(std::unique_ptr<Shared> shared) : shared_(std::move(shared)) {}

HttpServer::~HttpServer() {
  HttpListenerState& state = *shared_->state;
  shared_->io.stop();
  for (std::thread& thread : shared_->threads) thread.join();
  {
    std::lock_guard<std::mutex> lock(state.mutex);
    state.stopped = true;
  }
  // From here on this thread is the only one. All that waits for the network ends now, and is run:
  // it holds the sessions, and they hold the state that holds it.
  boost::system::error_code ignored;
  shared_->acceptor.close(ignored);
  shared_->retry.cancel();
  for (const auto& weak : shared_->sessions) {
    if (auto session = weak.lock()) session->Drop();
  }
  shared_->io.restart();
  shared_->io.poll();
}

void HttpServer::StopAccepting() {
  shared_->state->closing = true;
  asio::post(shared_->acceptor.get_executor(), [shared = shared_.get()] {
    boost::system::error_code ignored;
    shared->acceptor.close(ignored);
    for (const auto& weak : shared->sessions) {
      if (auto session = weak.lock()) session->EndSoon();
    }
  });
}

const std::string& HttpServer::address() const { return shared_->address; }

int64_t HttpServer::connections() const {
  return shared_->state->connections.load(std::memory_order_relaxed);
}

}  // namespace baram::server
