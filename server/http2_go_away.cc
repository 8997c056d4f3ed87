// Http2GoAway: see the header.
#include "server/http2_go_away.h"

#include <array>

namespace baram::server {
namespace {

constexpr uint8_t kEndHeaders = 4;

// RFC 9113, 6.8: NO_ERROR with the largest possible stream id, so that it refuses no call.
constexpr std::array<uint8_t, 17> kGoAway = {0,    0,    8,    7,    0, 0, 0, 0, 0,
                                             0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0};

}  // namespace

void Http2GoAway::Begin() {
  *this = {};
  frames_.Begin(/*skipped=*/0);
}

void Http2GoAway::Ask(When when) {
  if (asked_) return;
  asked_ = true;
  when_ = when;
}

void Http2GoAway::Sent(std::span<const uint8_t> bytes) {
  frames_.Read(bytes, [this](const Http2Frames::Head& head) {
    begun_ = true;
    const uint8_t type = Http2Frames::Type(head);
    if (type == Http2Frames::kHeaders || type == Http2Frames::kContinuation) {
      in_block_ = (Http2Frames::Flags(head) & kEndHeaders) == 0;
    }
    return true;
  });
}

std::span<const uint8_t> Http2GoAway::Due(bool called) const {
  const std::span<const uint8_t> rest = std::span(kGoAway).subspan(said_);
  if (said_ > 0) return rest;
  const bool may = frames_.between() && begun_ && !in_block_;
  const bool due = asked_ && (when_ == When::kNow || called);
  return may && due ? rest : std::span<const uint8_t>();
}

}  // namespace baram::server
