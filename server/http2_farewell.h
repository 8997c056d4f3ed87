// Http2Farewell: where in what gRPC sends on a connection a GOAWAY of ours may stand, which has the
// client make its next calls on another one, and lets those that it has begun go on.
//
// gRPC 1.51 sends one only as it shuts its server down, which then answers nobody: neither a call
// that was on its way, nor who asks for its health or its load. So the frame comes from here,
// between two of gRPC's, written where gRPC writes (http2_interpose.h).
#ifndef BARAM_SERVER_HTTP2_FAREWELL_H_
#define BARAM_SERVER_HTTP2_FAREWELL_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "server/http2_frames.h"

namespace baram::server {

// One thread at a time.
class Http2Farewell {
 public:
  enum class When : uint8_t {
    kNow,       // but behind the server's first frame, which is its settings
    kWithCall,  // once the client has begun a call, whose answer follows: one that is sent away
                // before would only come back, and never hear why
  };

  // A new connection, of which nothing was sent yet.
  void Begin();
  // From now on the frame is due. What was asked for first holds.
  void Ask(When when);
  // The next bytes of gRPC's, as the kernel took them. None may follow before Due() has left, once
  // a part of it has.
  void Sent(std::span<const uint8_t> bytes);
  // What is to be sent before any more of gRPC's; empty: nothing. `called`: the client has begun a
  // call.
  std::span<const uint8_t> Due(bool called) const;
  // So many bytes of Due() have left.
  void DueSent(size_t bytes) { said_ += bytes; }

 private:
  Http2Frames frames_;
  size_t said_ = 0;  // bytes of the frame
  bool asked_ = false;
  When when_ = When::kNow;
  bool begun_ = false;     // a frame of gRPC's
  bool in_block_ = false;  // of headers, which no other frame may interrupt
};

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP2_FAREWELL_H_
