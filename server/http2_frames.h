// Http2Frames: finds HTTP/2 frame headers in one direction of a connection's bytes.
#ifndef BARAM_SERVER_HTTP2_FRAMES_H_
#define BARAM_SERVER_HTTP2_FRAMES_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace baram::server {

// One thread at a time.
class Http2Frames {
 public:
  using Head = std::array<uint8_t, 9>;  // length (3), type, flags, stream (4), big-endian
  static constexpr uint8_t kData = 0, kHeaders = 1, kRstStream = 3, kSettings = 4;
  static constexpr uint8_t kContinuation = 9;
  static constexpr uint8_t kAck = 1;        // of SETTINGS
  static constexpr uint8_t kEndStream = 1;  // of DATA and HEADERS

  static uint8_t Type(const Head& head) { return head[3]; }
  static uint8_t Flags(const Head& head) { return head[4]; }
  // The payload length.
  static uint32_t Bytes(const Head& head) {
    return uint32_t{head[0]} << 16 | uint32_t{head[1]} << 8 | head[2];
  }

  static uint32_t Stream(const Head& head) {
    return (head[5] & 0x7fu) << 24 | uint32_t{head[6]} << 16 | uint32_t{head[7]} << 8 | head[8];
  }

  // Starts at the beginning of a connection; `skipped` bytes precede its first frame.
  void Begin(uint32_t skipped) {
    *this = {};
    left_ = skipped;
  }
  // Takes the next bytes as they arrive: `frame` is called with each complete header, and returns
  // whether to continue. After it has returned false, Read must not be called again. `payload` is
  // called with the header and the size of each piece of the frame's payload, none of them empty.
  template <typename OnFrame, typename OnPayload>
  void Read(std::span<const uint8_t> bytes, const OnFrame& frame, const OnPayload& payload) {
    while (!bytes.empty()) {
      if (left_ > 0) {
        const size_t skipped = std::min<size_t>(left_, bytes.size());
        left_ -= static_cast<uint32_t>(skipped);
        bytes = bytes.subspan(skipped);
        payload(head_, skipped);
        continue;
      }
      const size_t taken = std::min(head_.size() - head_bytes_, bytes.size());
      std::copy_n(bytes.begin(), taken, head_.begin() + head_bytes_);
      head_bytes_ += static_cast<uint8_t>(taken);
      bytes = bytes.subspan(taken);
      if (head_bytes_ < head_.size()) return;
      head_bytes_ = 0;
      left_ = Bytes(head_);
      if (!frame(head_)) return;
    }
  }
  template <typename OnFrame>
  void Read(std::span<const uint8_t> bytes, const OnFrame& frame) {
    Read(bytes, frame, [](const Head& /*head*/, size_t /*size*/) {});
  }
  // Whether the last frame has ended and no other has started.
  bool between() const { return left_ == 0 && head_bytes_ == 0; }

 private:
  uint32_t left_ = 0;       // to skip before the next frame header
  Head head_{};             // before the first, one of stream 0
  uint8_t head_bytes_ = 0;  // bytes of head_ that have arrived
};

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP2_FRAMES_H_
