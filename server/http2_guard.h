// Http2Guard: bounds per-connection costs that gRPC 1.51 leaves unbounded: a call's header block,
// over however many frames it spans; calls started only to be reset; calls of a client that has not
// acknowledged gRPC's SETTINGS, which alone limit them; and, over all connections, calls whose
// requests are half sent. All of these consume practically unlimited memory, and the resource quota
// holds none of them back. It does hold back the bytes of half-sent requests, but by ending calls
// of any client: so they are bounded here as well. Frames that bring no part of a request cost a
// core: gRPC reads as many as come, and other connections wait.
//
// This class holds the rules for one connection; http2_interpose.h describes how it gets to see the
// bytes that gRPC reads and writes.
#ifndef BARAM_SERVER_HTTP2_GUARD_H_
#define BARAM_SERVER_HTTP2_GUARD_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/steady_time.h"
#include "server/http2_frames.h"

namespace baram::server {

struct Http2Limits {
  int32_t max_header_bytes = 0;     // per header block
  int32_t max_streams = 0;          // as in gRPC's SETTINGS
  int64_t max_half_sent_bytes = 0;  // of messages, over all connections
};

// Totals over the open connections.
struct Http2Totals {
  std::atomic<int64_t> connections{0};
  std::atomic<int64_t> half_sent{0};        // calls whose requests are half sent
  std::atomic<int64_t> half_sent_bytes{0};  // that have arrived of them
  std::atomic<int64_t> unasked_bytes{0};    // of header blocks before an acknowledgment
};

// Follows the frames of one connection. One thread at a time, except as stated.
class Http2Guard {
 public:
  enum class Broken : uint8_t { kNothing, kHeaderBytes, kResets, kStreams, kHalfSent, kFrames };

  // The least that each frame of a header block counts: gRPC enforces its own limit only within a
  // frame, and a frame of a few bytes can name as much as one frame may hold.
  static constexpr uint32_t kMinPartBytes = 1024;
  // RST_STREAM frames: a burst of this many, then one per pause. A call that was reset holds 12 to
  // 18 KB until gRPC is done with it, so a connection can pile up about as much as --max-streams
  // lets it keep open. A client may still cancel all its calls at once, several times over.
  static constexpr int kResetsAtOnce = 1000;
  static constexpr std::chrono::milliseconds kResetPause{5};
  // Frames that bring no part of a request, such as WINDOW_UPDATE, PRIORITY and unknown ones: a
  // burst of this many, then one per pause; each KiB in one counts as one more. DATA counts too, as
  // it may be empty, except where it ends a request.
  static constexpr int kFramesAtOnce = 10'000;
  static constexpr std::chrono::microseconds kFramePause{500};
  // What makes up for them, so that only time limits a client without any other traffic. gRPC's own
  // client sends two WINDOW_UPDATEs per call, others up to four frames of DATA; on a fast stream
  // some clients and proxies send one or two WINDOW_UPDATEs for each DATA frame, most one per 4 KiB
  // or more. A message has at least 5 bytes: a window opened by less makes up for less than it
  // costs.
  static constexpr int64_t kFramesPerCall = 8;
  static constexpr int64_t kFramesPerData = 2, kMinDataBytes = 5;  // of DATA that gRPC sends
  static constexpr int64_t kBytesPerFrame = 128;                   // of DATA either side sends
  // Calls before the client has acknowledged the SETTINGS: max_streams, or this if it is more. It
  // is what client libraries start unasked, following RFC 9113 (6.5.2). After the acknowledgment
  // gRPC itself ends a connection that exceeds the limit.
  static constexpr int32_t kUnaskedStreams = 100;
  // Before the acknowledgment gRPC has no limit within a frame either, and can expand one byte to
  // 160: all header blocks together may take this many times max_header_bytes.
  static constexpr int64_t kUnaskedBlocks = 4;
  // Over all connections: calls whose requests are half sent, and bytes of header blocks before the
  // acknowledgment. Past these totals no connection may hold more than an equal share, but at least
  // what a busy client needs: a client that uses up the total shuts nobody else out.
  static constexpr int64_t kHalfSent = 4096, kMinHalfSent = 4;
  static constexpr int64_t kUnaskedBytes = 4 << 20, kMinUnaskedBytes = 4 << 10;
  // A connection with at most this many half-sent bytes is not closed for them, however old.
  static constexpr int64_t kFewHalfSentBytes = 64 << 10;

  // A new connection. `all` must outlive this.
  Http2Guard(const Http2Limits& limits, Http2Totals& all);
  ~Http2Guard();
  Http2Guard(const Http2Guard&) = delete;
  Http2Guard& operator=(const Http2Guard&) = delete;

  // gRPC is about to write, its SETTINGS first. After an earlier acknowledgment gRPC would take its
  // defaults, which are no limit, for acknowledged.
  void Told() { told_ = true; }
  // The next bytes gRPC wrote.
  void Wrote(std::span<const uint8_t> bytes);
  // The next bytes the client sent. True: they broke a rule, as with Break.
  bool Read(std::span<const uint8_t> bytes, SteadyTime now);
  // Records that this connection broke `rule`; its half-sent bytes no longer count. False: it had
  // broken one before, which remains. Thread-safe.
  bool Break(Broken rule);
  // The rule that was broken. Thread-safe.
  Broken broken() const { return broken_; }
  // What has arrived of requests that are half sent. Thread-safe.
  int64_t half_sent_bytes() const { return half_sent_bytes_; }
  // When the oldest request that is half sent began, or the last one that was. Thread-safe.
  SteadyTime half_sent_since() const { return half_sent_since_; }
  // Whether the client has started a call.
  bool called() const { return last_stream_ > 0; }

 private:
  Broken OnFrame(const Http2Frames::Head& head, SteadyTime now);
  bool OnHeaders(const Http2Frames::Head& head, SteadyTime now);  // false: one call too many
  bool IsBare(const Http2Frames::Head& head);                     // counts for kFramesAtOnce
  bool OnBare(const Http2Frames::Head& head, SteadyTime now);     // false: one too many
  bool StartsCall(uint32_t stream) const;                         // if HEADERS are for it
  void OnPayload(const Http2Frames::Head& head, size_t size);
  struct HalfSent {
    uint32_t stream;
    int64_t bytes;
    SteadyTime since;
  };
  std::vector<HalfSent>::iterator FindHalfSent(uint32_t stream);  // end() if it is not
  void NotHalfSent(uint32_t stream);
  void CountHalfSent(int64_t bytes);

  const uint32_t max_header_bytes_;
  Http2Totals& all_;
  Http2Frames client_, server_;
  SteadyTime resets_until_;    // each reset moves it one pause ahead
  SteadyTime frames_until_;    // likewise, and what makes up for frames moves it back
  uint32_t block_bytes_ = 0;   // of the most recent header block so far
  uint32_t unasked_;           // calls that may still begin before the SETTINGS are acknowledged
  int64_t unasked_bytes_ = 0;  // of header blocks before the acknowledgment
  uint32_t last_stream_ = 0;   // highest that was opened
  std::vector<HalfSent> half_sent_;           // in order of their streams, so the oldest first
  std::atomic<SteadyTime> half_sent_since_;   // of the first of those
  std::atomic<int64_t> half_sent_bytes_{0};   // of those; less after Break
  bool told_ = false, acknowledged_ = false;  // gRPC's SETTINGS
  std::atomic<Broken> broken_{Broken::kNothing};
};

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP2_GUARD_H_
