// Delivery: one thread that pulls finished tokens, detokenizes them, finds stop strings and hands
// chunks to the front ends' sinks. It never blocks on a client: while a sink's write is in flight,
// text piles up, bounded; past the bound tokens stay in the outbox's ring, and the engine pauses that
// sequence. A slow client costs only itself.
#ifndef BARAM_SERVER_DELIVERY_H_
#define BARAM_SERVER_DELIVERY_H_

#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "server/reply.h"
#include "server/text/tokenizer.h"

namespace baram::server {

// What delivery must know of a request to turn its tokens into text.
struct ReplyOptions {
  int32_t outputs = 1;
  bool text = true;
  bool skip_special_tokens = true;
  std::vector<std::string> stop;
  bool include_stop = false;
};

class Delivery;

// A reply in progress; shared by delivery and the front end's stream. The first may outlive the
// second: a handle whose stream has gone drops everything.
class ReplyHandle : public std::enable_shared_from_this<ReplyHandle> {
 public:
  virtual ~ReplyHandle() = default;
  // From any thread: the sink can take the next chunk.
  virtual void WriteDone() = 0;
  // From any thread: the client has gone or its deadline passed. The sink still gets its last chunk
  // unless it was detached.
  virtual void Cancel(FinishReason reason) = 0;
  // From any thread: after it returns the sink is never called again. Cancels what runs.
  virtual void Detach() = 0;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_DELIVERY_H_
