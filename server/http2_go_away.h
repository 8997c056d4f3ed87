// Http2GoAway: finds where in gRPC's output on a connection our GOAWAY may be inserted. It makes
// the client start its next calls on another connection and lets those in progress finish.
//
// gRPC 1.51 sends a GOAWAY only when its server shuts down, after which it answers nothing: neither
// a call that was on its way nor a health or load query. So the frame is inserted here, between two
// of gRPC's frames, where gRPC writes (http2_interpose.h).
#ifndef BARAM_SERVER_HTTP2_GO_AWAY_H_
#define BARAM_SERVER_HTTP2_GO_AWAY_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "server/http2_frames.h"

namespace baram::server {

// One thread at a time.
class Http2GoAway {
 public:
  enum class When : uint8_t {
    kNow,       // but after the server's first frame, its SETTINGS
    kWithCall,  // once the client has started a call, so that an answer follows: a client sent away
                // before that would only reconnect, without learning why
  };

  // A new connection, on which nothing was sent yet.
  void Begin();
  // From now on the frame is due. The first request wins.
  void Ask(When when);
  // The next bytes of gRPC's, as accepted by the kernel. None may follow between the first and the
  // last byte of Due().
  void Sent(std::span<const uint8_t> bytes);
  // What must be sent before any more of gRPC's bytes; empty: nothing. `called`: the client has
  // started a call.
  std::span<const uint8_t> Due(bool called) const;
  // This many bytes of Due() were sent.
  void DueSent(size_t bytes) { said_ += bytes; }

 private:
  Http2Frames frames_;
  size_t said_ = 0;  // bytes of the frame sent
  bool asked_ = false;
  When when_ = When::kNow;
  bool begun_ = false;     // gRPC has sent a frame
  bool in_block_ = false;  // of headers, which no other frame may interrupt
};

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP2_GO_AWAY_H_
