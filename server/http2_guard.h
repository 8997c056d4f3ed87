// Http2Guard: bounds what gRPC 1.51 does not bound of a connection: the header block that a call
// begins with, in however many frames it comes; the calls that are begun only to be reset; those of
// a client that has not acknowledged gRPC's SETTINGS, which alone limit them; and, over all
// connections, calls whose requests are half sent. All cost memory without end, or as good as, and
// none is held back by the resource quota.
//
// Here are the rules of one connection, as a class of its own; http2_interpose.h says how the bytes
// that gRPC reads and writes come to it.
#ifndef BARAM_SERVER_HTTP2_GUARD_H_
#define BARAM_SERVER_HTTP2_GUARD_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/steady_time.h"
#include "server/http2_frames.h"

namespace baram::server {

struct Http2Limits {
  int32_t max_header_bytes = 0;  // of a header block
  int32_t max_streams = 0;       // what gRPC's SETTINGS say
};

// Over the connections that are open.
struct Http2Totals {
  std::atomic<int64_t> connections{0};
  std::atomic<int64_t> half_sent{0};      // calls whose requests are
  std::atomic<int64_t> unasked_bytes{0};  // of header blocks before their clients acknowledged
};

// Follows the frames of one connection. One thread at a time.
class Http2Guard {
 public:
  enum class Broken : uint8_t { kNothing, kHeaderBytes, kResets, kStreams, kHalfSent };

  // A header block counts each of its frames as this at least: gRPC keeps to its own limit within a
  // frame, and a frame of a few bytes can name as much as one frame may hold.
  static constexpr uint32_t kMinPartBytes = 1024;
  // RST_STREAM frames: so many at once, and from then on one a pause. Until gRPC has done with it a
  // call that is reset holds 12 to 18 KB, so what a connection can pile up is of the size of what
  // --max-streams lets stand open. Who stops all its calls at once, several times over, may.
  static constexpr int kResetsAtOnce = 1000;
  static constexpr std::chrono::milliseconds kResetPause{5};
  // Calls before the client has acknowledged the SETTINGS: max_streams, or this if it is more. It
  // is what clients' libraries begin unasked, as RFC 9113 (6.5.2) has it. From then on gRPC ends a
  // connection with a call too many.
  static constexpr int32_t kUnaskedStreams = 100;
  // Before that gRPC has no limit of its own within a frame either, and makes 160 bytes of one: all
  // header blocks together may have so many times max_header_bytes.
  static constexpr int64_t kUnaskedBlocks = 4;
  // Of all connections: calls whose requests are half sent, and bytes of header blocks before the
  // acknowledgment. Past that no connection may have more than its share, an equal one of all, but
  // not less than one client in a hurry needs: whoever holds all keeps nobody else out.
  static constexpr int64_t kHalfSent = 4096, kMinHalfSent = 4;
  static constexpr int64_t kUnaskedBytes = 4 << 20, kMinUnaskedBytes = 4 << 10;

  // A new connection. `all` outlives this.
  Http2Guard(const Http2Limits& limits, Http2Totals& all);
  ~Http2Guard();
  Http2Guard(const Http2Guard&) = delete;
  Http2Guard& operator=(const Http2Guard&) = delete;

  // gRPC is about to write; its SETTINGS come first. An acknowledgment before that would make gRPC
  // take its defaults for acknowledged, which are no limit.
  void Told() { told_ = true; }
  // The next bytes of gRPC, as they went.
  void Wrote(std::span<const uint8_t> bytes);
  // The next bytes of the client, as they came.
  void Read(std::span<const uint8_t> bytes, SteadyTime now);
  // The first rule that was broken.
  Broken broken() const { return broken_; }
  // Whether a call was begun.
  bool called() const { return last_stream_ > 0; }

 private:
  void Take(const Http2Frames::Head& head, SteadyTime now);
  void TakeHeaders(const Http2Frames::Head& head);
  void NotHalfSent(uint32_t stream);

  const uint32_t max_header_bytes_;
  Http2Totals& all_;
  Http2Frames client_, server_;
  SteadyTime resets_until_;    // each puts it off by a pause
  uint32_t block_bytes_ = 0;   // of the header block that came last, up to here
  uint32_t unasked_;           // calls that may still begin before the SETTINGS are acknowledged
  int64_t unasked_bytes_ = 0;  // of header blocks before that
  uint32_t last_stream_ = 0;   // that was begun
  std::vector<uint32_t> half_sent_;           // streams, in order
  bool told_ = false, acknowledged_ = false;  // the SETTINGS
  Broken broken_ = Broken::kNothing;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP2_GUARD_H_
