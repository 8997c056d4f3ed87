// HttpSession: its time limits, and the end of its connection.
//
// Limits are enforced by our own timer: Beast's tcp_stream closes the socket on timeout, and then a
// slow request can't be told why it failed.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/core/demangle.hpp>
#include <chrono>
#include <typeinfo>
#include <utility>

#include "server/http_session.h"

namespace baram::server {

namespace {

// How often operations that exceed their limit are cancelled again.
constexpr double kCutAgainS = 0.1;

}  // namespace

void HttpSession::Gone(HttpEnd how) {
  if (phase_ == Phase::kClosed) return;
  gone_as_ = how;
  Close();
  TellGone(how);
}

void HttpSession::TellGone(HttpEnd how) {
  if (const auto gone = std::exchange(on_gone_, nullptr)) gone(how);
  if (const auto ended = std::exchange(ended_, nullptr)) ended(how);
}

void HttpSession::Break(const std::exception& error) noexcept {
  Close();
  try {
    // Only its type: its message may quote a request.
    spdlog::error("HTTP connection closed: {} was thrown",
                  boost::core::demangle(typeid(error).name()));
  } catch (const std::exception&) {
  }
  // Every waiting callback is called, even if another one throws.
  while (on_gone_ || ended_ || (sent_then_ && !writing_)) {
    try {
      TellGone(gone_as_);
      if (!writing_ && sent_then_) std::exchange(sent_then_, nullptr)(gone_as_);
    } catch (const std::exception&) {
    }
  }
}

void HttpSession::Close() {
  phase_ = Phase::kClosed;
  LimitUntil(SteadyTime::max());
  timer_.cancel();
  drop_timer_.cancel();
  Error ignored;
  socket_.close(ignored);
}

void HttpSession::LimitFor(double seconds) { LimitUntil(FromNow(seconds)); }

void HttpSession::LimitReadUntil(SteadyTime when) {
  const bool closing = listener_->closing.load(std::memory_order_relaxed);
  LimitUntil(closing ? std::min(when, FromNow(listener_->options.limits.closing_s)) : when);
}

void HttpSession::LimitUntil(SteadyTime when) {
  timed_out_ = false;
  limit_ = when;
  if (limit_ < wakes_) Wait();
}

void HttpSession::Wait() {
  wakes_ = limit_;
  timer_.expires_at(wakes_);  // cancels a longer wait
  timer_.async_wait(Guarded([](HttpSession& self, Error error) {
    if (error) return;
    self.wakes_ = SteadyTime::max();
    if (self.limit_ == SteadyTime::max()) return;
    if (self.limit_ > std::chrono::steady_clock::now()) return self.Wait();  // it has moved
    // An operation that has completed and awaits its handler is not cancelled; it may start
    // another, which is.
    self.LimitFor(kCutAgainS);
    self.timed_out_ = true;
    Error ignored;
    self.socket_.cancel(ignored);
  }));
}

}  // namespace baram::server
