// OpenAiStream: see the header.
#include "server/openai_stream.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/errors.h"

namespace baram::server {

namespace {

using Clock = std::chrono::steady_clock;

OpenAiHeader HeaderOf(const OpenAiRequest& request, const Serving& serving,
                      const std::string& request_id) {
  const bool chat = request.endpoint == OpenAiEndpoint::kChat;
  const std::string& asked = request.calls[0].model;
  return {absl::StrCat(chat ? "chatcmpl-" : "cmpl-", request_id),
          asked.empty() ? serving.served_names()[0] : asked,
          std::chrono::duration_cast<std::chrono::seconds>(
              std::chrono::system_clock::now().time_since_epoch())
              .count()};
}

const char* ReasonText(EndReason reason) {
  switch (reason) {
    case EndReason::kStop: return "stop";
    case EndReason::kLength: return "length";
    case EndReason::kAbort: return "abort";
  }
  return "";
}

}  // namespace

OpenAiStream::OpenAiStream(std::shared_ptr<HttpExchange> exchange, OpenAiRequest request,
                           Serving& serving, CallLog& log, std::string route, std::string request_id)
    : exchange_(std::move(exchange)),
      request_(std::move(request)),
      serving_(serving),
      log_(log),
      route_(std::move(route)),
      request_id_(std::move(request_id)),
      began_(Clock::now()),
      reply_(request_, HeaderOf(request_, serving, request_id_), serving.tokenizer(),
             serving.info().eos_ids.empty() ? -1 : serving.info().eos_ids[0]) {}

void OpenAiStream::Start() {
  const size_t count = request_.calls.size();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (size_t i = 0; i < count; ++i) parts_.push_back(std::make_unique<Part>(*this, i));
    undecided_ = running_ = count;
    self_ = shared_from_this();
  }
  const std::shared_ptr<OpenAiStream> self = shared_from_this();
  exchange_->OnGone([weak = weak_from_this()] {
    if (auto stream = weak.lock()) stream->OnGone();
  });
  for (size_t i = 0; i < count; ++i) {
    Call call = request_.calls[i];
    call.request_id = count == 1 ? request_id_ : absl::StrCat(request_id_, "-", i);
    serving_.Start(std::move(call), parts_[i].get(), [self, i](absl::StatusOr<Accepted> accepted) {
      self->OnAccepted(i, std::move(accepted));
    });
  }
}

void OpenAiStream::OnAccepted(size_t index, absl::StatusOr<Accepted> accepted) {
  OpenAiReply::PromptFacts facts;
  if (accepted.ok()) {
    facts.ids = std::move(accepted->prompt_ids);
    const auto* text = std::get_if<TextPrompt>(&request_.calls[index].prompt);
    if (request_.echo && text != nullptr && !request_.calls[index].truncate_prompt_tokens) {
      facts.text = text->text;
    } else if (request_.echo) {
      const std::vector<int64_t> ids(facts.ids.begin(), facts.ids.end());
      facts.text = serving_.Detokenize(ids, /*skip_special_tokens=*/false).value_or("");
    }
  }
  std::lock_guard<std::mutex> lock(mutex_);
  Part& part = *parts_[index];
  --undecided_;
  if (!accepted.ok()) {
    part.over = true;
    --running_;
    Fail(accepted.status());
  } else {
    reply_.SetPrompt(index, std::move(facts));
    part.reply = std::move(accepted->reply);
    if (!status_.ok() || answered_) part.reply->Cancel();
  }
  Flush();
  FinishIfOver();
}

void OpenAiStream::Take(size_t index, ReplyChunk chunk) {
  const std::shared_ptr<OpenAiStream> self = shared_from_this();
  std::lock_guard<std::mutex> lock(mutex_);
  Part& part = *parts_[index];
  if (chunk.last) {
    part.over = true;
    --running_;
    if (chunk.usage) {
      usage_.prompt_tokens += chunk.usage->prompt_tokens;
      usage_.cached_tokens += chunk.usage->cached_tokens;
      usage_.completion_tokens += chunk.usage->completion_tokens;
      usage_.queued_s = std::max(usage_.queued_s, chunk.usage->queued_s);
      usage_.first_token_s = std::max(usage_.first_token_s, chunk.usage->first_token_s);
    }
    if (!chunk.status.ok()) Fail(chunk.status);
  }
  if (!chunk.ends.empty()) finish_ = ReasonText(chunk.ends.back().reason);
  if (!answered_ && status_.ok()) {
    pending_ += reply_.Take(index, chunk);
    part.waits = !chunk.last && !pending_.empty();
  }
  const bool take_more = !chunk.last && !part.waits;
  const std::shared_ptr<Reply> reply = part.reply;
  Flush();
  FinishIfOver();
  if (take_more) reply->WriteDone();
}

void OpenAiStream::OnBreak(size_t index, const absl::Status& status) {
  const std::shared_ptr<OpenAiStream> self = shared_from_this();
  std::lock_guard<std::mutex> lock(mutex_);
  parts_[index]->over = true;
  --running_;
  answered_ = true;
  Fail(status);
  FinishIfOver();
}

void OpenAiStream::Fail(const absl::Status& status) {
  if (!status_.ok()) return;
  status_ = status;
  for (const auto& part : parts_) {
    if (part->reply != nullptr && !part->over) part->reply->Cancel();
  }
}

void OpenAiStream::Flush() {
  if (writing_ || answered_ || pending_.empty() || undecided_ > 0) return;
  if (!streaming_) {
    if (!status_.ok()) return;  // an ordinary error answers
    streaming_ = true;
    HttpHeaders headers = Headers("text/event-stream; charset=utf-8");
    headers.emplace_back("Cache-Control", "no-cache");
    headers.emplace_back("X-Accel-Buffering", "no");
    exchange_->StartStream(200, std::move(headers));
  }
  writing_ = true;
  for (const auto& part : parts_) {
    if (part->waits) part->sending = true;
    part->waits = false;
  }
  exchange_->Write(std::exchange(pending_, ""),
                   [self = shared_from_this()](bool ok) { self->Written(ok); });
}

void OpenAiStream::Written(bool ok) {
  std::vector<std::shared_ptr<Reply>> more;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    writing_ = false;
    for (const auto& part : parts_) {
      if (std::exchange(part->sending, false) && !part->over) more.push_back(part->reply);
    }
    if (!ok) {
      answered_ = true;
      Fail(absl::CancelledError("the client has gone"));
      for (const auto& part : parts_) {
        if (std::exchange(part->waits, false) && !part->over) more.push_back(part->reply);
      }
    }
    Flush();
    FinishIfOver();
  }
  for (const auto& reply : more) reply->WriteDone();
}

void OpenAiStream::OnGone() {
  std::lock_guard<std::mutex> lock(mutex_);
  Fail(absl::CancelledError("the client has gone"));
  answered_ = true;
  FinishIfOver();
}

void OpenAiStream::FinishIfOver() {
  if (running_ > 0 || undecided_ > 0 || writing_ || self_ == nullptr) return;
  if (answered_) {
    Record(499);
  } else if (!streaming_ && !status_.ok()) {
    answered_ = true;
    RespondError(*exchange_, status_, request_.endpoint, request_id_);
    Record(HttpStatusOf(status_));
  } else if (!request_.stream) {
    answered_ = true;
    exchange_->Respond(200, Headers("application/json"), reply_.Whole());
    Record(200);
  } else {
    // The end is one more write; the stream is over when that is out.
    answered_ = true;
    std::string end = std::exchange(pending_, "");
    if (status_.ok()) {
      end += reply_.StreamEnd();
    } else {
      const ErrorFacts facts = FactsOf(status_);
      absl::StrAppend(&end, "data: ",
                      OpenAiError(HttpStatusOf(status_), std::string(status_.message()),
                                  OpenAiParam(request_.endpoint, facts.field)),
                      "\n\ndata: [DONE]\n\n");
    }
    exchange_->Write(std::move(end), [exchange = exchange_](bool ok) {
      if (ok) exchange->EndStream();
    });
    Record(HttpStatusOf(status_));
  }
  // Every caller holds a reference of its own.
  self_ = nullptr;
}

void OpenAiStream::Record(int http_status) {
  CallRecord record;
  record.method = route_;
  record.request_id = request_id_;
  record.code = std::to_string(http_status);
  record.reason = status_.ok() ? finish_ : FactsOf(status_).reason;
  record.usage = usage_;
  record.total_s = std::chrono::duration<double>(Clock::now() - began_).count();
  log_.Record(record);
}

HttpHeaders OpenAiStream::Headers(const char* content_type) const {
  return {{"Content-Type", content_type}, {"X-Request-Id", request_id_}};
}

void RespondError(HttpExchange& exchange, const absl::Status& status, OpenAiEndpoint endpoint,
                  const std::string& request_id) {
  const int code = HttpStatusOf(status);
  const ErrorFacts facts = FactsOf(status);
  HttpHeaders headers = {{"Content-Type", "application/json"}};
  if (!request_id.empty()) headers.emplace_back("X-Request-Id", request_id);
  if (facts.retry_ms >= 0) {
    headers.emplace_back("Retry-After", std::to_string((facts.retry_ms + 999) / 1000));
    headers.emplace_back("Retry-After-Ms", std::to_string(facts.retry_ms));
  } else if (code >= 429) {
    // openai-python tries 5xx and 429 again by itself.
    headers.emplace_back("x-should-retry", "false");
  }
  exchange.Respond(code, std::move(headers),
                   OpenAiError(code, std::string(status.message()), OpenAiParam(endpoint, facts.field)));
}

}  // namespace baram::server
