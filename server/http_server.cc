// HttpServer: see the header. Sessions are in http_session.cc.
#include "server/http_server.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/beast/http/status.hpp>
#include <charconv>
#include <mutex>
#include <thread>

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

const char* HttpReason(int status) {
  if (status == 429) return "Too Many Requests";
  // Beast's phrases are string literals.
  return boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(status)).data();
}

HttpExchange::HttpExchange(std::shared_ptr<HttpSession> session, HttpRequest request)
    : session_(std::move(session)), request_(std::move(request)) {}

HttpExchange::~HttpExchange() {
  if (answered_) return;
  session_->PostRespond(500, {{"Content-Type", "application/json"}},
                        R"({"error":{"message":"internal error","type":"InternalServerError",)"
                        R"("param":null,"code":500}})");
}

void HttpExchange::Respond(int status, HttpHeaders headers, std::string body) {
  if (answered_.exchange(true)) return;
  session_->PostRespond(status, std::move(headers), std::move(body));
}

void HttpExchange::StartStream(int status, HttpHeaders headers) {
  if (answered_.exchange(true)) return;
  session_->PostStartStream(status, std::move(headers));
}

void HttpExchange::Write(std::string piece, std::function<void(bool)> written) {
  session_->PostWrite(std::move(piece), std::move(written));
}

void HttpExchange::EndStream() { session_->PostEndStream(); }

void HttpExchange::OnGone(std::function<void()> gone) { session_->PostOnGone(std::move(gone)); }

struct HttpServer::Shared {
  std::shared_ptr<HttpListenerState> state = std::make_shared<HttpListenerState>();
  asio::io_context& io = state->io;
  tcp::acceptor acceptor{io};
  asio::steady_timer retry{io};
  std::string address;
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::vector<std::weak_ptr<HttpSession>> sessions;  // guarded by mutex

  void Accept() {
    acceptor.async_accept(asio::make_strand(io), [this](boost::system::error_code error, tcp::socket s) {
      if (error == asio::error::operation_aborted || !acceptor.is_open()) return;
      if (error) {
        // Out of descriptors: trying again at once would spin.
        retry.expires_after(std::chrono::milliseconds(50));
        retry.async_wait([this](boost::system::error_code) {
          if (acceptor.is_open()) Accept();
        });
        return;
      }
      auto session = std::make_shared<HttpSession>(std::move(s), state);
      if (state->connections.load(std::memory_order_relaxed) > state->limits.max_connections) {
        session->Refuse();
      } else {
        Remember(session);
        session->Start();
      }
      Accept();
    });
  }

  void Remember(const std::shared_ptr<HttpSession>& session) {
    std::lock_guard<std::mutex> lock(mutex);
    if (sessions.size() >= 2 * static_cast<size_t>(state->connections.load()) + 16) {
      std::erase_if(sessions, [](const std::weak_ptr<HttpSession>& s) { return s.expired(); });
    }
    sessions.push_back(session);
  }
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Listen(const std::string& address,
                                                               std::vector<HttpRoute> routes,
                                                               HttpErrorBody error_body,
                                                               const HttpLimits& limits, int threads,
                                                               std::string allowed_origins) {
  const size_t colon = address.rfind(':');
  unsigned port = 0;
  const char* end = address.data() + address.size();
  if (colon == std::string::npos || colon + 1 == address.size() ||
      std::from_chars(address.data() + colon + 1, end, port).ptr != end || port > 65535) {
    return absl::InvalidArgumentError("the address " + address + " is not HOST:PORT");
  }
  std::string host = address.substr(0, colon);
  if (host.size() > 1 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);

  auto shared = std::make_shared<Shared>();
  boost::system::error_code error;
  tcp::resolver resolver(shared->io);
  const auto found = resolver.resolve(host.empty() ? "0.0.0.0" : host, std::to_string(port),
                                      tcp::resolver::passive, error);
  if (error || found.empty()) {
    return absl::InvalidArgumentError("the host of " + address + " has no address: " + error.message());
  }
  const tcp::endpoint endpoint = *found.begin();
  shared->acceptor.open(endpoint.protocol(), error);
  if (!error) shared->acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) shared->acceptor.bind(endpoint, error);
  if (!error) shared->acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    return absl::UnavailableError("can't listen on " + address + ": " + error.message() +
                                  "; stop what uses it or choose another port");
  }
  shared->address = host + ":" + std::to_string(shared->acceptor.local_endpoint().port());
  shared->state->routes = std::move(routes);
  shared->state->error_body = std::move(error_body);
  shared->state->limits = limits;
  shared->state->allowed_origins = std::move(allowed_origins);
  shared->Accept();
  for (int i = 0; i < threads; ++i) {
    shared->threads.emplace_back([io = &shared->io] { io->run(); });
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(shared)));
}

HttpServer::HttpServer(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

HttpServer::~HttpServer() {
  shared_->io.stop();
  for (std::thread& thread : shared_->threads) thread.join();
  // What waited for the network ends now, so that sessions let go of the listener's state.
  shared_->acceptor.close();
  shared_->retry.cancel();
  for (const auto& weak : shared_->sessions) {
    if (auto session = weak.lock()) session->Close();
  }
  shared_->io.restart();
  shared_->io.poll();
}

void HttpServer::StopAccepting() {
  shared_->state->closing = true;
  asio::post(shared_->io, [shared = shared_] {
    boost::system::error_code ignored;
    shared->acceptor.close(ignored);
    std::lock_guard<std::mutex> lock(shared->mutex);
    for (const auto& weak : shared->sessions) {
      if (auto session = weak.lock()) session->CloseIfIdle();
    }
  });
}

const std::string& HttpServer::address() const { return shared_->address; }

int64_t HttpServer::connections() const {
  return shared_->state->connections.load(std::memory_order_relaxed);
}

}  // namespace baram::server
