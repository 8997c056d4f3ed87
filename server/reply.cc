// Reply: turns tokens into text, and text into chunks.
#include "server/reply.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "server/delivery.h"
#include "server/errors.h"
#include "server/slow_reader.h"

namespace baram::server {
namespace {

// 0 unless both have happened.
double Elapsed(SteadyTime from, SteadyTime to) {
  return from == SteadyTime{} || to == SteadyTime{} ? 0 : SecondsBetween(from, to);
}

// The call's status for an output that did not end by itself.
absl::Status StatusOf(const Finish& finish, const std::string& request_id) {
  switch (finish.reason) {
    case FinishReason::kStop:
    case FinishReason::kLength:
      return absl::OkStatus();
    case FinishReason::kCancelled:
      return absl::CancelledError("The request was cancelled.");
    case FinishReason::kDeadline:
      return absl::DeadlineExceededError("The deadline passed before the reply was complete.");
    case FinishReason::kDrained:
      return GoingDown();
    case FinishReason::kSlowReader:
      return SlowReader();
    case FinishReason::kFailed:
      if (finish.unavailable) return DeviceLost();
      spdlog::error("request {} failed: {}", request_id, finish.message);
      return Incident(request_id);
  }
  return absl::InternalError("unknown end");
}

}  // namespace

Reply::Reply(Delivery& delivery, const ReplyLimits& limits, const text::Tokenizer& tokenizer,
             ReplyOptions options, std::span<const int32_t> prompt, std::shared_ptr<Outbox> outbox,
             ReplySink* sink)
    : delivery_(delivery),
      limits_(limits),
      options_(std::move(options)),
      outbox_(std::move(outbox)),
      sink_(sink) {
  const auto stops = std::make_shared<const text::StopStrings>(options_.stop);
  outputs_.reserve(options_.outputs);
  for (int32_t i = 0; i < options_.outputs; ++i) {
    outputs_.push_back({.decoder = text::StreamDecoder(tokenizer, options_.skip_special_tokens),
                        .matcher = text::StopMatcher(stops, options_.include_stop),
                        .delta = {.index = i, .text = {}, .count = 0, .tokens = {}}});
    outputs_.back().decoder.Follow(prompt);
  }
}

void Reply::WriteDone() {
  // Once this is reported, the next chunk may be the last, and no other reference may keep the
  // reply alive.
  std::shared_ptr<Reply> self = shared_from_this();
  {
    std::lock_guard lock(write_mutex_);
    writing_ = false;
    if (std::exchange(queued_, true)) return;
  }
  delivery_.Ready(std::move(self));
}

void Reply::WriteWaits() {
  std::lock_guard lock(write_mutex_);
  write_began_ = write_moved_ = SteadyTime::max();
}

void Reply::WriteBegins(int64_t unseen_bytes) {
  std::lock_guard lock(write_mutex_);
  write_began_ = std::chrono::steady_clock::now();
  write_moved_ = unseen_bytes > 0 ? SteadyTime::max() : write_began_;
  write_bytes_ = unseen_bytes;
}

void Reply::Progressed(int64_t bytes) {
  std::lock_guard lock(write_mutex_);
  write_moved_ = std::chrono::steady_clock::now();
  write_bytes_ += bytes;
}

void Reply::Over() {
  bool last;
  {
    std::lock_guard lock(mutex_);
    sink_ = nullptr;
    last = last_sent_;
  }
  if (last) delivery_.Forget(*outbox_);  // otherwise the engine is still to end it
}

void Reply::Cancel(FinishReason reason) { outbox_->Cancel(reason); }

void Reply::Pump() {
  Take();
  if (!HasNews()) return;
  {
    std::lock_guard lock(write_mutex_);
    if (writing_) return;
    writing_ = true;
    write_began_ = write_moved_ = std::chrono::steady_clock::now();
    write_bytes_ = 0;
  }
  ReplyChunk chunk = TakeChunk();
  const bool last = chunk.last;
  bool heard = false;
  watched_ = false;
  {
    std::lock_guard lock(mutex_);
    last_sent_ = last;
    if (sink_ != nullptr) {
      heard = true;
      watched_ = sink_->Write(std::move(chunk));
      if (last && !watched_) sink_ = nullptr;
    }
  }
  if (last) {
    if (!watched_) delivery_.Forget(*outbox_);
  } else if (!heard) {
    WriteDone();  // no sink listens: continue until the engine has ended it
  }
}

void Reply::PumpReady() {
  {
    std::lock_guard lock(write_mutex_);
    queued_ = false;
  }
  Pump();
}

void Reply::BreakIfStalled(SteadyTime now) {
  if (!Stalled(now)) return;
  {
    std::lock_guard lock(mutex_);
    // A slow client that holds nothing up costs nothing. The last chunk is different: no news can
    // follow it, so it must be sent in any case.
    if (!last_sent_ && !HasNews()) return;
    if (ReplySink* sink = std::exchange(sink_, nullptr)) sink->Break(SlowReader(), Usage());
  }
  Cancel(FinishReason::kSlowReader);
  WriteDone();
}

bool Reply::HasNews() const {
  if (prompt_ || !ends_.empty() || usage_) return true;
  return std::any_of(outputs_.begin(), outputs_.end(), [](const Output& output) {
    // A token whose text is held back, or that has none, is news too: clients time tokens by it.
    return !output.delta.text.empty() || output.delta.count > 0;
  });
}

bool Reply::Full() const {
  return pending_bytes_ >= limits_.pending_bytes || pending_tokens_ >= limits_.pending_tokens;
}

void Reply::Take() {
  if (usage_ || finished_ == options_.outputs) return;
  // An output that filled the reply has had its turn: the next chunk starts with the one after it,
  // however fast the first one's ring fills again.
  for (size_t i = 0, first = turn_; i < outputs_.size(); ++i) {
    const size_t index = (first + i) % outputs_.size();
    Output& output = outputs_[index];
    if (output.finished) continue;
    const bool was_full = Full();
    TokenResult token;
    while ((output.matched || !Full()) && outbox_->Pop(output.delta.index, &token)) {
      if (!prompt_made_) TakePrompt();
      if (!output.matched) TakeToken(output, token);
    }
    if (!was_full && Full()) turn_ = index + 1;
    Finish finish;
    if (outbox_->Finished(output.delta.index, &finish)) EndOutput(output, finish);
  }
  if (finished_ == options_.outputs) usage_ = Usage();
}

// Sent with the first token, so that clients which time the first event time the first token.
void Reply::TakePrompt() {
  prompt_made_ = true;
  prompt_.emplace();
  prompt_->prompt_tokens = outbox_->prompt_tokens();
  prompt_->cached_tokens = std::max(0, outbox_->cached_tokens());
  for (TokenResult score; outbox_->PopPromptScore(&score);) prompt_->scores.push_back(score);
}

void Reply::TakeToken(Output& output, const TokenResult& token) {
  ++output.tokens;
  ++output.delta.count;
  if (options_.tokens) {
    output.delta.tokens.push_back(token);
    ++pending_tokens_;  // replies without tokens hold nothing back: a full reply always has news to
                        // send
  }
  if (!options_.text && options_.stop.empty()) return;

  const std::vector<int32_t>& ids = options_.stop_ids;
  const bool ends = std::find(ids.begin(), ids.end(), token.token) != ids.end();
  std::string piece;
  if (!ends || options_.include_stop) output.decoder.Step(token.token, &piece);
  Feed(output, piece);
  if (ends) FlushText(output, /*whole=*/true);
  CheckMatch(output);
}

void Reply::Feed(Output& output, std::string_view piece) {
  std::string shown;
  output.matcher.Feed(piece, &shown, /*may_match=*/output.tokens > options_.min_tokens);
  Show(output, std::move(shown));
}

void Reply::Show(Output& output, std::string text) {
  if (!options_.text || text.empty()) return;
  pending_bytes_ += static_cast<int64_t>(text.size());
  if (output.delta.text.empty()) {
    output.delta.text = std::move(text);
  } else {
    output.delta.text += text;
  }
}

void Reply::FlushText(Output& output, bool whole) {
  std::string piece, shown;
  if (whole) output.decoder.End(&piece);
  Feed(output, piece);
  if (!output.matcher.match()) output.matcher.End(&shown);
  Show(output, std::move(shown));
}

void Reply::CheckMatch(Output& output) {
  if (output.matched || !output.matcher.match()) return;
  output.matched = true;
  outbox_->StopAt(output.delta.index);
  ends_.push_back({.index = output.delta.index,
                   .reason = EndReason::kStop,
                   .stop_string = *output.matcher.match()});
}

void Reply::EndOutput(Output& output, const Finish& finish) {
  output.finished = true;
  ++finished_;
  if (output.matched) return;
  const absl::Status status = StatusOf(finish, options_.request_id);
  // An end that the model did not choose may cut the text inside a character, whose first bytes are
  // not the model's text.
  FlushText(output, /*whole=*/status.ok());
  EndEvent end{.index = output.delta.index, .reason = EndReason::kStop, .stop_string = {}};
  if (output.matcher.match()) {
    // The match's last characters were waiting for a token that never came.
    end.stop_string = *output.matcher.match();
  } else if (!status.ok()) {
    end.reason = EndReason::kAbort;
    status_.Update(status);
  } else if (finish.reason == FinishReason::kLength) {
    end.reason = EndReason::kLength;
  } else {
    end.stop_id = finish.stop_id;
  }
  ends_.push_back(std::move(end));
}

UsageEvent Reply::Usage() const {
  const Timeline times = outbox_->timeline();
  UsageEvent usage;
  usage.prompt_tokens = outbox_->prompt_tokens();
  usage.cached_tokens = std::max(0, outbox_->cached_tokens());
  for (const Output& output : outputs_) usage.completion_tokens += output.tokens;
  usage.queued_s = Elapsed(times.arrival, times.admitted);
  usage.first_token_s = Elapsed(times.arrival, times.first_token);
  usage.total_s = Elapsed(times.arrival, times.finished);
  return usage;
}

ReplyChunk Reply::TakeChunk() {
  ReplyChunk chunk;
  chunk.prompt = std::exchange(prompt_, std::nullopt);
  for (Output& output : outputs_) {
    DeltaEvent& delta = output.delta;
    if (delta.text.empty() && delta.count == 0) continue;
    const int32_t index = delta.index;
    chunk.deltas.push_back(std::exchange(delta, DeltaEvent{}));
    delta.index = index;
  }
  chunk.ends = std::exchange(ends_, {});
  if (usage_) {
    chunk.usage = std::exchange(usage_, std::nullopt);
    chunk.last = true;
    chunk.status = status_;
  }
  pending_bytes_ = 0;
  pending_tokens_ = 0;
  return chunk;
}

// A write's size is unknown until it is sent, so the time limit grows with the bytes already sent:
// a client that keeps up the pace stays within it, and one that reads only now and then gains no
// time.
bool Reply::Stalled(SteadyTime now) {
  if (!watched_) return false;
  std::lock_guard lock(write_mutex_);
  if (!writing_) return false;
  const double limit = limits_.slow_reader_s;
  return Elapsed(write_moved_, now) >= limit ||
         Elapsed(write_began_, now) >= PatienceFor(static_cast<double>(write_bytes_), limit);
}

}  // namespace baram::server
