// Http2Guard: detects frames that break a rule.
#include "server/http2_guard.h"

#include <algorithm>
#include <iterator>

namespace baram::server {
namespace {

constexpr uint32_t kPrefaceBytes = 24;  // what a client sends before its first frame

// What one connection may have once the total is exceeded.
int64_t Share(int64_t of_all, int64_t least, const Http2Totals& all) {
  return std::max(least, of_all / std::max<int64_t>(all.connections.load(), 1));
}

bool EndsStream(const Http2Frames::Head& head) {
  const uint8_t type = Http2Frames::Type(head);
  return (type == Http2Frames::kData || type == Http2Frames::kHeaders) &&
         (Http2Frames::Flags(head) & Http2Frames::kEndStream) != 0;
}

}  // namespace

Http2Guard::Http2Guard(const Http2Limits& limits, Http2Totals& all)
    : max_header_bytes_(static_cast<uint32_t>(limits.max_header_bytes)),
      all_(all),
      unasked_(static_cast<uint32_t>(std::max(limits.max_streams, kUnaskedStreams))) {
  client_.Begin(kPrefaceBytes);
  all_.connections.fetch_add(1);
}

// Takes this connection out of the totals.
Http2Guard::~Http2Guard() {
  all_.half_sent.fetch_sub(std::ssize(half_sent_));
  all_.half_sent_bytes.fetch_sub(half_sent_bytes_);
  all_.unasked_bytes.fetch_sub(unasked_bytes_);
  all_.connections.fetch_sub(1);
}

// Totals are checked after all the bytes: a client may write several headers before the requests'
// bodies.
bool Http2Guard::Read(std::span<const uint8_t> bytes, SteadyTime now) {
  if (broken_ != Broken::kNothing) return false;
  Broken rule = Broken::kNothing;
  const auto on_frame = [&](const Http2Frames::Head& head) {
    rule = OnFrame(head, now);
    return rule == Broken::kNothing && broken_ == Broken::kNothing;
  };
  client_.Read(bytes, on_frame,
               [&](const Http2Frames::Head& head, size_t size) { OnPayload(head, size); });
  if (rule != Broken::kNothing) return Break(rule);
  const bool many = all_.half_sent.load() > kHalfSent &&
                    std::ssize(half_sent_) > Share(kHalfSent, kMinHalfSent, all_);
  const bool large = all_.unasked_bytes.load() > kUnaskedBytes &&
                     unasked_bytes_ > Share(kUnaskedBytes, kMinUnaskedBytes, all_);
  if (large) return Break(Broken::kHeaderBytes);
  return many && Break(Broken::kHalfSent);
}

bool Http2Guard::Break(Broken rule) {
  Broken none = Broken::kNothing;
  if (!broken_.compare_exchange_strong(none, rule)) return false;
  all_.half_sent_bytes -= half_sent_bytes_.exchange(0);
  return true;
}

// gRPC may end a stream that its client has not, as it does with a request that is too large.
void Http2Guard::Wrote(std::span<const uint8_t> bytes) {
  server_.Read(bytes, [this](const Http2Frames::Head& head) {
    if (Http2Frames::Type(head) == Http2Frames::kData) {
      const int64_t size = Http2Frames::Bytes(head);
      frames_until_ -= std::min(kFramesPerData, size / kMinDataBytes) * kFramePause;
      frames_until_ -= size * kFramePause / kBytesPerFrame;
    }
    if (EndsStream(head) || Http2Frames::Type(head) == Http2Frames::kRstStream) {
      NotHalfSent(Http2Frames::Stream(head));
    }
    return true;
  });
}

// gRPC itself ends a connection that interrupts a header block, so its end need not be checked
// here.
Http2Guard::Broken Http2Guard::OnFrame(const Http2Frames::Head& head, SteadyTime now) {
  Broken rule = Broken::kNothing;
  if (IsBare(head) && !OnBare(head, now)) rule = Broken::kFrames;
  const uint8_t type = Http2Frames::Type(head);
  if (type == Http2Frames::kSettings && (Http2Frames::Flags(head) & Http2Frames::kAck) != 0) {
    if (!told_) rule = Broken::kStreams;
    acknowledged_ = true;
  }
  if (type == Http2Frames::kHeaders && !OnHeaders(head, now)) rule = Broken::kStreams;
  if (type == Http2Frames::kHeaders || type == Http2Frames::kContinuation) {
    const uint32_t bytes = Http2Frames::Bytes(head);
    block_bytes_ += std::max(bytes, kMinPartBytes);
    if (!acknowledged_) {
      unasked_bytes_ += bytes;
      all_.unasked_bytes.fetch_add(bytes);
    }
    const bool many = unasked_bytes_ > kUnaskedBlocks * max_header_bytes_;
    if (many || block_bytes_ > max_header_bytes_) rule = Broken::kHeaderBytes;
  }
  const bool ends = EndsStream(head) && Http2Frames::Bytes(head) == 0;
  if (ends || type == Http2Frames::kRstStream) NotHalfSent(Http2Frames::Stream(head));
  if (type == Http2Frames::kRstStream) {
    resets_until_ = std::max(resets_until_, now) + kResetPause;
    if (resets_until_ - now > kResetsAtOnce * kResetPause) rule = Broken::kResets;
  }
  return rule;
}

// All but those that start a call or end its request, which are as many as the calls, and those
// with a rule of their own.
bool Http2Guard::IsBare(const Http2Frames::Head& head) {
  const uint32_t stream = Http2Frames::Stream(head);
  switch (Http2Frames::Type(head)) {
    case Http2Frames::kData:
      return !EndsStream(head) || FindHalfSent(stream) == half_sent_.end();
    case Http2Frames::kHeaders:
      return !StartsCall(stream);
    case Http2Frames::kContinuation:
    case Http2Frames::kRstStream:
      return false;
    default:
      return true;
  }
}

// Bytes of DATA do not count: they make up for frames as they arrive.
bool Http2Guard::OnBare(const Http2Frames::Head& head, SteadyTime now) {
  const bool data = Http2Frames::Type(head) == Http2Frames::kData;
  const int64_t frames = data ? 1 : 1 + Http2Frames::Bytes(head) / 1024;
  frames_until_ = std::max(frames_until_, now) + frames * kFramePause;
  return frames_until_ - now <= kFramesAtOnce * kFramePause;
}

// gRPC ignores even stream ids; an id that is not above all previous ones carries trailers.
bool Http2Guard::StartsCall(uint32_t stream) const {
  return stream % 2 != 0 && stream > last_stream_;
}

bool Http2Guard::OnHeaders(const Http2Frames::Head& head, SteadyTime now) {
  block_bytes_ = 0;
  const uint32_t stream = Http2Frames::Stream(head);
  if (!StartsCall(stream)) return true;
  frames_until_ -= kFramesPerCall * kFramePause;
  last_stream_ = stream;
  if (half_sent_.empty()) half_sent_since_ = now;
  half_sent_.push_back({.stream = stream, .bytes = 0, .since = now});
  all_.half_sent.fetch_add(1);
  return acknowledged_ || unasked_-- > 0;
}

// A frame's header is not enough: a large frame can be announced by a client that never sends it,
// or be the last of a request and stay half sent.
void Http2Guard::OnPayload(const Http2Frames::Head& head, size_t size) {
  const bool data = Http2Frames::Type(head) == Http2Frames::kData;
  if (data) frames_until_ -= static_cast<int64_t>(size) * kFramePause / kBytesPerFrame;
  const uint32_t stream = Http2Frames::Stream(head);
  const auto at = FindHalfSent(stream);
  if (at == half_sent_.end()) return;
  if (data) {
    at->bytes += static_cast<int64_t>(size);
    CountHalfSent(static_cast<int64_t>(size));
  }
  if (client_.between() && EndsStream(head)) NotHalfSent(stream);
}

std::vector<Http2Guard::HalfSent>::iterator Http2Guard::FindHalfSent(uint32_t stream) {
  const auto at = std::ranges::lower_bound(half_sent_, stream, {}, &HalfSent::stream);
  return at != half_sent_.end() && at->stream == stream ? at : half_sent_.end();
}

void Http2Guard::NotHalfSent(uint32_t stream) {
  const auto at = FindHalfSent(stream);
  if (at == half_sent_.end()) return;
  CountHalfSent(-at->bytes);
  half_sent_.erase(at);
  if (!half_sent_.empty()) half_sent_since_ = half_sent_.front().since;
  all_.half_sent.fetch_sub(1);
}

// The total changes by what this connection's count does, even if another thread takes it out.
void Http2Guard::CountHalfSent(int64_t bytes) {
  half_sent_bytes_ += bytes;
  all_.half_sent_bytes += bytes;
}

}  // namespace baram::server
