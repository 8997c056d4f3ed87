// OpenAiStream: see the header.
#include "server/openai_stream.h"

#include <algorithm>
#include <chrono>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/errors.h"
#include "server/openai_errors.h"

namespace baram::server {

namespace {

// Larger replies, which take milliseconds, are written on the text pool.
constexpr size_t kQuickReplyBytes = 256 << 10;

OpenAiHeader HeaderOf(const OpenAiRequest& request, const Serving& serving,
                      const std::string& request_id) {
  const bool chat = request.format.endpoint == OpenAiEndpoint::kChat;
  const std::string& asked = request.call.model;
  return {absl::StrCat(chat ? "chatcmpl-" : "cmpl-", request_id),
          asked.empty() ? serving.served_names()[0] : asked,
          std::chrono::duration_cast<std::chrono::seconds>(
              std::chrono::system_clock::now().time_since_epoch())
              .count()};
}

// The EOS id after which a reply has no stop_reason. If EOS ids are ignored, one that ends a reply
// is among its client's stop ids.
int32_t SilentEos(const Call& call, const Serving& serving) {
  return call.ignore_eos || serving.eos_ids().empty() ? -1 : serving.eos_ids()[0];
}

// The text of a prompt given as ids. If the prompt ends inside a character and a reply follows, the
// reply starts with that character, complete; without a reply it becomes U+FFFD.
std::string EchoOf(const text::Tokenizer& tokenizer, std::span<const int32_t> ids,
                   bool reply_follows) {
  text::StreamDecoder decoder(tokenizer, /*skip_special_tokens=*/false);
  std::string text;
  for (const int32_t id : ids) decoder.Step(id, &text);
  if (!reply_follows) decoder.End(&text);
  return text;
}

}  // namespace

OpenAiStream::OpenAiStream(const OpenAiCall& call, const OpenAiRequest& request,
                           std::string request_id)
    : call_(call),
      format_(request.format),
      max_tokens_name_(request.call.max_tokens_name),
      request_id_(std::move(request_id)),
      kept_(call.serving.kept()),
      reply_(request.format, request.call.prompts.size(),
             HeaderOf(request, call.serving, request_id_), call.serving.prompts().tokenizer(),
             SilentEos(request.call, call.serving), call.serving.config().max_http_reply_bytes,
             kept_) {}

void OpenAiStream::Start(Call call, bool on_text_pool) {
  const size_t count = call.prompts.size();
  std::vector<ReplySink*> sinks;
  const std::shared_ptr<OpenAiStream> self = shared_from_this();
  {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < count; ++i) {
      parts_.push_back(std::make_unique<Part>(*this, i));
      sinks.push_back(parts_.back().get());
      const auto* text = std::get_if<TextPrompt>(&call.prompts[i]);
      if (format_.echo && text != nullptr) parts_[i]->echo = text->text;
    }
    undecided_ = running_ = count;
    self_ = self;
  }
  call_.exchange->OnGone([weak = weak_from_this()](HttpEnd how) {
    if (const auto stream = weak.lock()) stream->OnGone(how);
  });
  // Whoever cuts this off may hold the lock of a stream, so this must not run at once: nor does it,
  // as all clients have gone before the pool closes.
  kept_.OnCut([weak = weak_from_this(), &pool = call_.serving.pool()] {
    pool.RunOutput([weak] {
      if (const auto stream = weak.lock()) stream->OnCut();
    });
  });
  call.request_id = request_id_;
  // Streamed or not, a reply shows all of a prompt at once.
  call.one_message = {
      .max_bytes = call_.serving.config().max_http_reply_bytes,
      .setting = "--max-http-reply-bytes",
      .scores = format_.prompt_logprobs ? "output.prompt_logprobs" : "output.logprobs"};
  const auto done = [self](size_t index, absl::StatusOr<Accepted> accepted) {
    return self->OnAccepted(index, std::move(accepted));
  };
  if (on_text_pool) return call_.serving.Read(call, sinks, done, *call_.place);
  call_.serving.Start(std::move(call), std::move(sinks), done, call_.place);
}

bool OpenAiStream::OnAccepted(size_t index, absl::StatusOr<Accepted> accepted) {
  if (accepted.ok()) {
    OpenAiPrompt prompt;
    prompt.ids = std::move(accepted->prompt_ids);
    std::optional<std::string>& as_it_came = parts_[index]->echo;
    // A prompt that was truncated, or came as ids, is shown decoded from its ids.
    if (as_it_came && !accepted->cut_after) {
      prompt.text = *std::move(as_it_came);
    } else if (format_.echo) {
      const text::Tokenizer& tokenizer = call_.serving.prompts().tokenizer();
      const std::span<const int32_t> ids(prompt.ids);
      prompt.text =
          EchoOf(tokenizer, ids.subspan(accepted->cut_after.value_or(0)), !format_.prompt_only);
    }
    as_it_came.reset();
    // Its chunks come only after this function has returned.
    reply_.SetPrompt(index, std::move(prompt));
  }
  std::lock_guard lock(mutex_);
  size_t next = index;
  if (accepted.ok()) {
    ++next;
    --undecided_;
    parts_[index]->reply = std::move(accepted->reply);
    if (!status_.ok() || aborted_) parts_[index]->reply->Cancel();
  } else if (aborted_ || absl::IsCancelled(accepted.status())) {
    EndAborted();
  } else {
    Fail(accepted.status());
  }
  // The other prompts are not read once the call has failed, was aborted, or its client has gone.
  const bool wanted = status_.ok() && !aborted_;
  for (; !wanted && next < parts_.size(); ++next) Skip(next);
  Advance();
  return wanted;
}

void OpenAiStream::Bring(size_t index, ReplyChunk chunk) {
  if (reply_.SizeOf(index, chunk) <= kQuickReplyBytes) return OnChunk(index, chunk);
  auto shared = std::make_shared<const ReplyChunk>(std::move(chunk));
  call_.serving.pool().RunOutput(
      [self = shared_from_this(), index, shared] { self->OnChunk(index, *shared); });
}

void OpenAiStream::OnChunk(size_t index, const ReplyChunk& chunk) {
  const std::shared_ptr<OpenAiStream> self = shared_from_this();
  bool wanted;
  {
    std::lock_guard lock(mutex_);
    wanted = status_.ok();
  }
  const std::string events = wanted ? reply_.OnChunk(index, chunk) : "";
  std::lock_guard lock(mutex_);
  Part& part = *parts_[index];
  NoteEnds(chunk.ends, &worst_end_);
  if (status_.ok()) Pend(events);
  if (!chunk.last) {
    part.waits = status_.ok() && !pending_.empty();
    if (!part.waits) part.reply->WriteDone();
  } else {
    part.over = true;
    --running_;
    if (chunk.usage) {
      usage_.prompt_tokens += chunk.usage->prompt_tokens;
      usage_.cached_tokens += chunk.usage->cached_tokens;
      if (!format_.prompt_only) usage_.completion_tokens += chunk.usage->completion_tokens;
      const double first_token_s = chunk.usage->first_token_s;
      const bool first = usage_.first_token_s == 0 || first_token_s < usage_.first_token_s;
      if (first && first_token_s > 0) usage_.first_token_s = first_token_s;
    }
    if (absl::IsCancelled(chunk.status)) {
      EndAborted();
    } else if (!chunk.status.ok()) {
      Fail(chunk.status);
    }
  }
  Advance();
}

void OpenAiStream::OnWritten(HttpEnd end) {
  std::lock_guard lock(mutex_);
  writing_ = false;
  for (const auto& part : parts_) {
    if (std::exchange(part->sending, false) && !part->over) part->reply->WriteDone();
  }
  if (end != HttpEnd::kSent) Abandon(end);
  Advance();
}

void OpenAiStream::OnGone(HttpEnd how) {
  std::lock_guard lock(mutex_);
  Abandon(how);
  Advance();
}

void OpenAiStream::OnCut() {
  std::lock_guard lock(mutex_);
  Advance();
}

void OpenAiStream::Pend(std::string_view events) {
  pending_ += events;
  kept_.Add(std::ssize(events));
}

std::string OpenAiStream::TakePending() {
  kept_.Add(-std::ssize(pending_));
  return std::exchange(pending_, "");
}

void OpenAiStream::Fail(const absl::Status& status) {
  if (status_.ok()) status_ = status;
  if (!streaming_) (void)TakePending();
  for (const auto& part : parts_) {
    if (part->reply == nullptr || part->over) continue;
    part->reply->Cancel(abandoned_ == HttpEnd::kSlow ? FinishReason::kSlowReader
                                                     : FinishReason::kCancelled);
    // Its events may never be sent; without this its last chunk would never come.
    if (std::exchange(part->waits, false)) part->reply->WriteDone();
  }
}

void OpenAiStream::EndAborted() {
  aborted_ = true;
  for (const auto& part : parts_) {
    if (part->reply != nullptr && !part->over) part->reply->Cancel();
  }
}

void OpenAiStream::Skip(size_t index) {
  parts_[index]->over = true;
  --undecided_;
  --running_;
  if (!status_.ok()) return;
  ReplyChunk chunk;
  for (int32_t i = 0; i < format_.n; ++i) {
    chunk.ends.push_back({.index = i, .reason = EndReason::kAbort, .stop_string = {}});
  }
  worst_end_ = EndReason::kAbort;
  Pend(reply_.OnChunk(index, chunk));
}

void OpenAiStream::Abandon(HttpEnd how) {
  if (!abandoned_) abandoned_ = how;
  call_.place->Abandon();
  Fail(absl::CancelledError("nobody takes the answer"));
  (void)TakePending();
}

void OpenAiStream::Advance() {
  if (status_.ok() && reply_.too_large()) {
    Fail(format_.stream
             ? HttpEchoTooLarge(reply_.max_bytes())
             : HttpReplyTooLarge(reply_.max_bytes(), format_.echo || format_.token_ids
                                                         ? "ask for less"
                                                         : "set stream to true, or ask for less"));
  }
  if (status_.ok() && running_ > 0 && kept_.cut()) {
    Fail(TooMuchKept(format_.stream ? "read streams as they come" : "set stream to true"));
  }
  if (writing_ || undecided_ > 0) return;
  if (!pending_.empty()) {
    BeginStream();
    for (const auto& part : parts_) part->sending = std::exchange(part->waits, false);
    writing_ = call_.exchange->Write(
        TakePending(), [self = shared_from_this()](HttpEnd end) { self->OnWritten(end); });
    if (writing_) return;
    for (const auto& part : parts_) part->waits = std::exchange(part->sending, false);
    Abandon(HttpEnd::kGone);
  }
  if (running_ > 0 || self_ == nullptr) return;
  Finish();
  self_ = nullptr;  // every caller holds its own reference
}

void OpenAiStream::BeginStream() {
  if (std::exchange(streaming_, true)) return;
  HttpHeaders headers = Headers("text/event-stream; charset=utf-8");
  headers.emplace_back("Cache-Control", "no-cache");
  headers.emplace_back("X-Accel-Buffering", "no");
  call_.exchange->StartStream(200, std::move(headers));
}

void OpenAiStream::Finish() {
  const int code = HttpStatusOf(status_);
  if (abandoned_) return call_.log.RecordHttp(Record(), code, *abandoned_);
  const OnHttpEnd ended = call_.Ended(code, Record());
  const absl::Status told = Told();
  if (!status_.ok() && !streaming_) {
    RespondOpenAiError(*call_.exchange, told, request_id_, ended);
  } else if (!format_.stream) {
    // Every part is over, so no other thread touches the reply.
    const auto respond = [self = shared_from_this(), ended] {
      self->call_.exchange->Respond(200, self->Headers("application/json"), self->reply_.Whole(),
                                    ended);
    };
    if (reply_.WholeSize() <= kQuickReplyBytes) return respond();
    call_.serving.pool().RunOutput(respond);
  } else if (status_.ok()) {
    BeginStream();
    call_.exchange->EndStream(reply_.StreamEnd(), ended);
  } else {
    call_.exchange->EndStream(absl::StrCat("data: ", OpenAiError(told), "\n\ndata: [DONE]\n\n"),
                              ended);
  }
}

absl::Status OpenAiStream::Told() const {
  return InJsonNames(status_, format_.endpoint, max_tokens_name_);
}

CallRecord OpenAiStream::Record() const {
  CallRecord record = call_.Record(request_id_);
  record.SetError(Told());
  if (status_.ok() && worst_end_) record.reason = NameOf(*worst_end_);
  record.usage = usage_;
  return record;
}

HttpHeaders OpenAiStream::Headers(const char* content_type) const {
  return {{"Content-Type", content_type}, {"X-Request-Id", request_id_}};
}

}  // namespace baram::server
