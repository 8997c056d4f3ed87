// Between the messages of baram.v1 and native types.
#ifndef BARAM_SERVER_GRPC_MESSAGES_H_
#define BARAM_SERVER_GRPC_MESSAGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "baram/v1/inference.pb.h"
#include "server/reply.h"
#include "server/serving.h"
#include "server/text/tokenizer.h"

namespace baram::server {

// Fields as they are; serving checks them.
absl::StatusOr<Call> ToCall(const v1::GenerateRequest& request);
absl::StatusOr<ChatPrompt> ToChatPrompt(const v1::Chat& chat);

// Writes the events of one reply, with what its request asked for.
class EventWriter {
 public:
  EventWriter(const text::Tokenizer& tokenizer, const v1::Output& output);

  void Fill(const PromptEvent& event, const std::string& request_id,
            const std::vector<int32_t>& prompt_ids, v1::PromptInfo* out) const;
  // False if there is nothing in it for this client.
  bool Fill(const DeltaEvent& event, v1::Delta* out) const;
  static void Fill(const EndEvent& event, v1::Finish* out);
  static void Fill(const UsageEvent& event, v1::Usage* out);

 private:
  void Fill(const TokenResult& token, v1::TokenLogprob* out) const;

  const text::Tokenizer& tokenizer_;
  const bool token_ids_;
  const bool logprobs_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_MESSAGES_H_
