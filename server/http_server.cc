// HttpServer: see the header. Sessions are in http_session.cc.
#include "server/http_server.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/system/error_code.hpp>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "server/errors.h"
#include "server/http_session.h"

namespace baram::server {

namespace asio = boost::asio;
using asio::ip::tcp;

std::string_view HttpRequest::Header(KeptHeader header) const {
  for (const auto& [name, value] : headers) {
    if (name == header.name) return value;
  }
  return "";
}

std::string_view HttpReason(int status) {
  const auto text =
      boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(status));
  return {text.data(), text.size()};
}

HttpExchange::HttpExchange(std::shared_ptr<HttpSession> session, HttpRequest request)
    : session_(std::move(session)), request_(std::move(request)) {
  session_->CountBody(HeldBytes(request_.body));
}

HttpExchange::~HttpExchange() {
  TakeBody();
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

std::string HttpExchange::TakeBody() {
  session_->CountBody(-HeldBytes(request_.body));
  return std::exchange(request_.body, "");
}

void HttpExchange::OnGone(OnHttpEnd gone) { session_->PostOnGone(std::move(gone)); }

void HttpExchange::Respond(int status, HttpHeaders headers, std::string body, OnHttpEnd ended) {
  State open = State::kOpen;
  if (!state_.compare_exchange_strong(open, State::kAnswered)) return;
  session_->PostRespond(status, std::move(headers), std::move(body), std::move(ended));
}

void HttpExchange::StartStream(int status, HttpHeaders headers) {
  State open = State::kOpen;
  if (!state_.compare_exchange_strong(open, State::kStreaming)) return;
  session_->PostStartStream(status, std::move(headers));
}

bool HttpExchange::Write(std::string piece, OnHttpEnd written) {
  return session_->PostWrite(std::move(piece), std::move(written));
}

void HttpExchange::EndStream(std::string piece, OnHttpEnd ended) {
  State streaming = State::kStreaming;
  if (!state_.compare_exchange_strong(streaming, State::kAnswered)) return;
  session_->PostEndStream(std::move(piece), std::move(ended));
}

// Members used by the accept loops are touched only on `strand`.
struct HttpServer::Shared {
  // One of the listener's addresses.
  struct Door {
    explicit Door(const asio::strand<asio::io_context::executor_type>& strand)
        : acceptor(strand), retry(strand) {}
    tcp::acceptor acceptor;
    asio::steady_timer retry;
  };

  std::shared_ptr<HttpListenerState> state = std::make_shared<HttpListenerState>();
  asio::io_context& io = state->io;
  asio::strand<asio::io_context::executor_type> strand = asio::make_strand(io);
  std::vector<std::unique_ptr<Door>> doors;
  std::vector<std::weak_ptr<HttpSession>> sessions;
  std::string address;
  std::vector<std::thread> threads;

  void Accept(Door& door) {
    door.acceptor.async_accept(
        asio::make_strand(io), [this, &door](boost::system::error_code error, tcp::socket socket) {
          if (!door.acceptor.is_open()) return;
          if (error) return AcceptLater(door, error);
          try {
            Serve(std::move(socket));
            if (AcceptWaiting(door)) Accept(door);
          } catch (const std::exception&) {  // no memory, most likely
            namespace errc = boost::system::errc;
            AcceptLater(door, errc::make_error_code(errc::not_enough_memory));
          }
        });
  }

  // Accepts what else waits, up to a bound. A turn of this handler comes behind those of all busy
  // connections: one connection a turn would keep new ones out for as long as they are busy. Those
  // that are evicted or refused close in turns of their own, and have descriptors until then.
  // Returns false if no more can be accepted now.
  bool AcceptWaiting(Door& door) {
    constexpr int kMost = 256;
    const HttpLimits& limits = state->options.limits;
    const int64_t most = int64_t{limits.max_connections} + limits.max_refused;
    for (int i = 0; i < kMost && state->connections.load() < most; ++i) {
      boost::system::error_code error;
      tcp::socket socket(asio::make_strand(io));
      door.acceptor.accept(socket, error);
      if (error == asio::error::would_block || error == asio::error::try_again) return true;
      if (error) return AcceptLater(door, error), false;
      Serve(std::move(socket));
    }
    return true;
  }

  // Probably out of descriptors: retrying at once would spin.
  void AcceptLater(Door& door, boost::system::error_code reason) {
    namespace errc = boost::system::errc;
    const auto exhausted = {errc::too_many_files_open, errc::too_many_files_open_in_system,
                            errc::no_buffer_space, errc::not_enough_memory};
    if (std::ranges::any_of(exhausted, [&](errc::errc_t one) { return reason == one; })) {
      try {
        state->Report({503, kNoDescriptors, ""});
      } catch (const std::exception&) {  // not even reported, without memory
      }
    }
    door.retry.expires_after(std::chrono::milliseconds(50));
    door.retry.async_wait([this, &door](boost::system::error_code error) {
      if (!error && door.acceptor.is_open()) Accept(door);
    });
  }

  void Close() {
    boost::system::error_code ignored;
    for (const auto& door : doors) {
      door->acceptor.close(ignored);
      door->retry.cancel();
    }
  }

  void EndSessions() {
    for (const auto& weak : sessions) {
      if (auto session = weak.lock()) session->EndSoon();
    }
  }

  // Closes the connection that has waited longest for a request. False: none waits.
  bool MakeRoom() {
    while (true) {
      std::shared_ptr<HttpSession> oldest;
      int64_t since = HttpSession::kNotWaiting;
      for (const auto& weak : sessions) {
        auto session = weak.lock();
        const int64_t waits = session ? session->waits_since() : HttpSession::kNotWaiting;
        if (waits >= since) continue;
        since = waits;
        oldest = std::move(session);
      }
      if (!oldest) return false;
      if (oldest->Evict(since)) return true;
    }
  }

  void Serve(tcp::socket socket) {
    const int64_t limit = state->options.limits.max_connections;
    // An evicted connection is closed at once, or nearly: its place is free.
    const int64_t open = state->connections.load() - state->evicted.load();
    const bool full = open >= limit;
    const bool refuse = full && !MakeRoom();
    // Connections being refused are short-lived; a flood of them is dropped without a reply.
    const bool drop = refuse && open >= limit + state->options.limits.max_refused;
    // One that is sent the reason is reported with its answer.
    if (drop || (full && !refuse)) state->Report({503, kTooManyConnections, ""});
    if (drop) return;
    auto session = std::make_shared<HttpSession>(std::move(socket), state);
    // Amortized: each session is looked at twice over its life, however many there are.
    if (sessions.size() >= 2 * static_cast<size_t>(open) + 16) {
      std::erase_if(sessions, [](const std::weak_ptr<HttpSession>& one) { return one.expired(); });
    }
    sessions.push_back(session);
    session->Start(refuse);
  }
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Listen(ListeningSockets sockets,
                                                               HttpListenOptions options) {
  auto shared = std::make_unique<Shared>();
  shared->address = sockets.address();
  while (const auto socket = sockets.Take()) {
    auto& door = shared->doors.emplace_back(std::make_unique<Shared::Door>(shared->strand));
    boost::system::error_code error;
    door->acceptor.assign(socket->v6 ? tcp::v6() : tcp::v4(), socket->fd, error);
    if (!error) door->acceptor.non_blocking(true, error);
    if (!error) continue;
    if (!door->acceptor.is_open()) close(socket->fd);
    return absl::UnavailableError(
        absl::StrCat("can't watch ", shared->address, ": ", error.message()));
  }
  shared->state->options = std::move(options);
  for (const auto& door : shared->doors) shared->Accept(*door);
  for (int i = 0; i < shared->state->options.threads; ++i) {
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
    std::lock_guard lock(state.mutex);
    state.stopped = true;
  }
  // From here on this is the only thread. All pending network operations end now, and their
  // handlers run: they hold the sessions, which hold the state that holds the handlers.
  shared_->Close();
  for (const auto& weak : shared_->sessions) {
    if (auto session = weak.lock()) session->Drop();
  }
  shared_->io.restart();
  shared_->io.poll();
}

void HttpServer::SendAway() {
  if (shared_->state->sending_away.exchange(true)) return;
  asio::post(shared_->strand, [shared = shared_.get()] { shared->EndSessions(); });
}

void HttpServer::StopAccepting() {
  shared_->state->closing = true;
  asio::post(shared_->strand, [shared = shared_.get()] {
    shared->Close();
    shared->EndSessions();
  });
}

const std::string& HttpServer::address() const { return shared_->address; }

int64_t HttpServer::connections() const {
  return shared_->state->connections.load(std::memory_order_relaxed);
}

}  // namespace baram::server
