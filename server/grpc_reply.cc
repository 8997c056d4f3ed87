// The reply half of baram.v1: see the header.
#include "server/grpc_reply.h"

#include <algorithm>
#include <utility>

#include "server/text/utf8.h"

namespace baram::server {
namespace {

// Clients accept 4 MiB by default. The last entry of a message may exceed this.
constexpr size_t kMessageBytes = size_t{1} << 20;
// Overhead of an entry: its tag and its length.
constexpr size_t kEntryBytes = 4;
constexpr size_t kIdBytes = 4;  // more than the varint of an id in any current vocabulary

}  // namespace

EventWriter::EventWriter(const text::Tokenizer& tokenizer, const v1::Output& output)
    : tokenizer_(tokenizer), token_ids_(output.token_ids()), logprobs_(output.has_logprobs()) {}

void EventWriter::Fill(const TokenResult& token, v1::TokenLogprob* out) const {
  out->set_token_id(static_cast<uint32_t>(token.token));
  out->set_token(std::string(tokenizer_.TokenBytes(token.token)));
  out->set_logprob(token.logprob);
  out->set_rank(static_cast<uint32_t>(token.rank));
  for (int32_t i = 0; i < token.top_count; ++i) {
    v1::TopLogprob* top = out->add_top();
    top->set_token_id(static_cast<uint32_t>(token.top_ids[i]));
    top->set_token(std::string(tokenizer_.TokenBytes(token.top_ids[i])));
    top->set_logprob(token.top_logprobs[i]);
  }
}

void EventWriter::Fill(const EndEvent& event, v1::Finish* out) {
  out->set_index(static_cast<uint32_t>(event.index));
  switch (event.reason) {
    case EndReason::kStop:
      out->set_reason(v1::FINISH_REASON_STOP);
      break;
    case EndReason::kLength:
      out->set_reason(v1::FINISH_REASON_LENGTH);
      break;
    case EndReason::kAbort:
      out->set_reason(v1::FINISH_REASON_ABORT);
      break;
  }
  if (event.stop_string) {
    out->set_stop(*event.stop_string);
  } else if (event.stop_id >= 0) {
    out->set_stop_token_id(static_cast<uint32_t>(event.stop_id));
  }
}

void EventWriter::Fill(const UsageEvent& event, v1::Usage* out) {
  out->set_prompt_tokens(static_cast<uint32_t>(event.prompt_tokens));
  out->set_cached_tokens(static_cast<uint32_t>(event.cached_tokens));
  out->set_completion_tokens(static_cast<uint32_t>(event.completion_tokens));
  out->set_queued_s(event.queued_s);
  out->set_first_token_s(event.first_token_s);
  out->set_total_s(event.total_s);
}

ChunkMessages::ChunkMessages(const EventWriter& writer, ReplyChunk chunk,
                             const std::string& request_id, const std::vector<int32_t>& prompt_ids)
    : writer_(writer), chunk_(std::move(chunk)), request_id_(request_id), prompt_ids_(prompt_ids) {}

bool ChunkMessages::Next(v1::GenerateResponse* out) {
  if (chunk_.prompt && NextOfPrompt(out->mutable_prompt())) return true;
  for (; delta_ < chunk_.deltas.size(); ++delta_, tokens_ = bytes_ = 0, told_delta_ = false) {
    if (NextOfDelta(chunk_.deltas[delta_], out->mutable_delta())) return true;
  }
  if (ends_ < chunk_.ends.size()) {
    EventWriter::Fill(chunk_.ends[ends_++], out->mutable_finish());
    return true;
  }
  if (chunk_.usage && !std::exchange(told_usage_, true)) {
    EventWriter::Fill(*chunk_.usage, out->mutable_usage());
    return true;
  }
  out->Clear();
  return false;
}

bool ChunkMessages::NextOfPrompt(v1::PromptInfo* out) {
  const std::vector<TokenResult>& scores = chunk_.prompt->scores;
  const size_t ids = writer_.token_ids() ? prompt_ids_.size() : 0;
  if (!std::exchange(begun_, true)) {
    out->set_request_id(request_id_);
    out->set_prompt_tokens(static_cast<uint32_t>(chunk_.prompt->prompt_tokens));
    out->set_cached_tokens(static_cast<uint32_t>(chunk_.prompt->cached_tokens));
  } else if (ids_ == ids && scores_ == scores.size()) {
    return false;
  }
  size_t bytes = 0;
  for (; ids_ < ids && bytes < kMessageBytes; bytes += kIdBytes) {
    out->add_token_ids(static_cast<uint32_t>(prompt_ids_[ids_++]));
  }
  while (scores_ < scores.size() && bytes < kMessageBytes) {
    v1::TokenLogprob* score = out->add_logprobs();
    writer_.Fill(scores[scores_++], score);
    bytes += score->ByteSizeLong() + kEntryBytes;
  }
  return true;
}

// Tokens first: a token may be sent before the text it completes, not after it.
bool ChunkMessages::NextOfDelta(const DeltaEvent& delta, v1::Delta* out) {
  const bool told = std::exchange(told_delta_, true) || delta.count == 0;
  if (told && tokens_ == delta.tokens.size() && bytes_ == delta.text.size()) return false;
  out->set_index(static_cast<uint32_t>(delta.index));
  size_t bytes = 0;
  for (; tokens_ < delta.tokens.size() && bytes < kMessageBytes; ++tokens_) {
    const TokenResult& token = delta.tokens[tokens_];
    if (writer_.token_ids()) {
      out->add_token_ids(static_cast<uint32_t>(token.token));
      bytes += kIdBytes;
    }
    if (writer_.logprobs()) {
      v1::TokenLogprob* score = out->add_logprobs();
      writer_.Fill(token, score);
      bytes += score->ByteSizeLong() + kEntryBytes;
    }
  }
  if (bytes >= kMessageBytes) return true;
  const std::string_view rest = std::string_view(delta.text).substr(bytes_);
  const size_t cut = text::FloorToCodePoint(rest, std::min(rest.size(), kMessageBytes - bytes));
  // The room left in this message may be less than a character; the next message always has room.
  out->set_text(std::string(rest.substr(0, cut)));
  bytes_ += cut;
  return true;
}

}  // namespace baram::server
