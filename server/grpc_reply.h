// The reply half of baram.v1: native events as messages, each small enough for any client.
#ifndef BARAM_SERVER_GRPC_REPLY_H_
#define BARAM_SERVER_GRPC_REPLY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "baram/v1/inference.pb.h"
#include "server/reply_events.h"
#include "server/text/tokenizer.h"

namespace baram::server {

// What the messages of one call have in common: the fields its client requested.
class EventWriter {
 public:
  // `tokenizer` must outlive this.
  EventWriter(const text::Tokenizer& tokenizer, const v1::Output& output);

  bool token_ids() const { return token_ids_; }
  bool logprobs() const { return logprobs_; }
  void Fill(const TokenResult& token, v1::TokenLogprob* out) const;
  static void Fill(const EndEvent& event, v1::Finish* out);
  static void Fill(const UsageEvent& event, v1::Usage* out);

 private:
  const text::Tokenizer& tokenizer_;
  const bool token_ids_;
  const bool logprobs_;
};

// The messages of one chunk, in the order the API promises. They are made one at a time, and what
// would exceed the size a client accepts by default is split: the log-probabilities of a long
// prompt are tens of megabytes. One thread at a time.
class ChunkMessages {
 public:
  // The references must outlive this. `prompt_ids` are sent if the client requested ids.
  ChunkMessages(const EventWriter& writer, ReplyChunk chunk, const std::string& request_id,
                const std::vector<int32_t>& prompt_ids);

  // Makes the next message in `out`, which must be empty; after the last returns false and leaves
  // it empty.
  bool Next(v1::GenerateResponse* out);

 private:
  bool NextOfPrompt(v1::PromptInfo* out);
  bool NextOfDelta(const DeltaEvent& delta, v1::Delta* out);

  const EventWriter& writer_;
  ReplyChunk chunk_;
  const std::string& request_id_;
  const std::vector<int32_t>& prompt_ids_;

  // What has been sent.
  bool begun_ = false;             // the prompt's first message
  size_t ids_ = 0, scores_ = 0;    // of the prompt
  size_t delta_ = 0;               // complete deltas; of the one after them:
  size_t tokens_ = 0, bytes_ = 0;  // bytes of text
  bool told_delta_ = false;        // it has had a message; one for tokens without text is empty
  size_t ends_ = 0;
  bool told_usage_ = false;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_REPLY_H_
