// Serving: validates a call, has its prompts tokenized and submits them.
#include "server/serving.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/call_checks.h"
#include "server/errors.h"
#include "server/model_text.h"
#include "server/random.h"
#include "server/text/utf8.h"

namespace baram::server {
namespace {

// Lower temperatures are treated as greedy: dividing logits by them would overflow.
constexpr double kGreedyBelow = 1e-5;

// After this delay a retry may find an id free: a call that its client abandoned ends within a
// step.
constexpr int64_t kRetryWithIdMs = 1000;
// Minimum size of a log-probability in a message: lengths, an id, a byte of text, a float.
constexpr int64_t kScoreBytes = 12;
// How many of the largest answers all together may keep. A gRPC answer is kept as an object, of up
// to kObjectPerWireByte times its bytes on the wire.
constexpr int64_t kLargestKept = 16;
constexpr int64_t kObjectPerWireByte = 16;

// The request's value, else the model's, else the neutral one.
double Choose(const std::optional<double>& asked, const std::optional<double>& of_model,
              double neutral) {
  return asked ? *asked : of_model.value_or(neutral);
}

const char* FieldOf(const Prompt& prompt) {
  if (std::holds_alternative<TextPrompt>(prompt)) return "text";
  return std::holds_alternative<ChatPrompt>(prompt) ? "chat" : "token_ids";
}

absl::Status TooLongReply(int32_t max_model_len, size_t prompt_tokens, const Call& call) {
  const char* const name = call.max_tokens_name;
  return InvalidField(
      "stopping.max_tokens",
      absl::StrCat("This model's maximum context length is ", max_model_len,
                   " tokens, but the prompt has ", prompt_tokens, " and ", name, " is ",
                   *call.max_tokens, "; leave ", name, " out, or set it to at most ",
                   max_model_len - static_cast<int64_t>(prompt_tokens), "."));
}

absl::Status TooManyScores(size_t prompt_tokens, const OneMessage& limit) {
  return InvalidValue(limit.scores, absl::StrCat("of a prompt of ", prompt_tokens,
                                                 " tokens do not fit into one reply of ",
                                                 limit.max_bytes, " bytes (", limit.setting, "); ",
                                                 limit.instead, "ask for fewer."));
}

std::string AbsolutePath(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  return error ? path : absolute.lexically_normal().string();
}

// Bytes of text to be tokenized; a prompt of ids has none.
size_t TextBytes(const Prompt& prompt) {
  if (const auto* text = std::get_if<TextPrompt>(&prompt)) return text->text.size();
  if (const auto* chat = std::get_if<ChatPrompt>(&prompt)) {
    return chat->messages_json.size() + chat->arguments_json.size();
  }
  return 0;
}

}  // namespace

size_t BytesOf(const Prompt& prompt) {
  const auto* ids = std::get_if<std::vector<int32_t>>(&prompt);
  return ids == nullptr ? TextBytes(prompt) : ids->size() * sizeof(int32_t);
}

Serving::Serving(Engine& engine, const PromptReader& prompts, Delivery& delivery, TextPool& pool,
                 const Lifecycle& lifecycle, const Config& config)
    : engine_(engine),
      prompts_(prompts),
      delivery_(delivery),
      pool_(pool),
      lifecycle_(lifecycle),
      config_(config),
      model_root_(text::MendUtf8(AbsolutePath(config.model))),
      eos_ids_(EosIds(engine.info(), prompts.tokenizer())),
      kept_(kLargestKept *
            std::max(config.max_http_reply_bytes, kObjectPerWireByte * config.max_reply_bytes)) {}

void Serving::Start(Call call, std::vector<ReplySink*> sinks, Done done, Place place) {
  place->Enter(call.request_id);
  if (absl::Status refused = CheckAccepting(); !refused.ok()) {
    (void)done(0, place->LeaveRefused(std::move(refused)));
    return;
  }
  size_t bytes = 0, text_bytes = 0;
  for (const Prompt& prompt : call.prompts) {
    bytes += BytesOf(prompt);
    text_bytes += TextBytes(prompt);
  }
  const SteadyTime deadline = call.deadline;
  // std::function requires copyable callables; a call is only moved.
  struct Job {
    Call call;
    std::vector<ReplySink*> sinks;
    Done done;
  };
  std::shared_ptr<Job> job(new Job{std::move(call), std::move(sinks), std::move(done)});
  const auto read = [=, this] { Read(job->call, job->sinks, job->done, *place); };
  if (pool_.Run(bytes, deadline, read, text_bytes)) return;
  (void)job->done(0, place->LeaveRefused(TooManyTexts()));
}

bool Serving::Abort(const std::string& request_id) {
  const bool read = reading_.Abort(request_id);
  return engine_.Abort(request_id) || read;
}

absl::Status Serving::CheckAccepting() const {
  return lifecycle_.accepting() ? absl::OkStatus() : WhyUnavailable();
}

absl::Status Serving::WhyUnavailable() const {
  return engine_.alive() ? GoingDown() : DeviceLost();
}

absl::Status Serving::CheckWanted(const CallsBeingRead::Place& place, SteadyTime deadline) const {
  if (std::chrono::steady_clock::now() >= deadline) {
    return absl::DeadlineExceededError("The deadline passed before the text was read.");
  }
  if (place.abandoned()) return absl::CancelledError("The client has gone.");
  return CheckAccepting();
}

void Serving::Read(const Call& call, const std::vector<ReplySink*>& sinks, const Done& done,
                   CallsBeingRead::Place& place) {
  place.Enter(call.request_id);
  const uint64_t call_number = ++calls_;
  if (absl::Status wrong = Check(call); !wrong.ok()) {
    (void)done(0, place.LeaveRefused(std::move(wrong)));
    return;
  }
  for (size_t i = 0; i < call.prompts.size(); ++i) {
    absl::StatusOr<Accepted> accepted = absl::CancelledError();
    if (!place.aborted()) accepted = AcceptPrompt(call, i, call_number, sinks[i], place);
    if (!accepted.ok()) {
      (void)done(i, place.LeaveRefused(accepted.status()));
      return;
    }
    if (i + 1 == call.prompts.size()) place.Leave();  // from here on the engine knows all of it
    const std::shared_ptr<Reply> reply = accepted->reply;
    if (place.aborted()) reply->Cancel();
    const bool more = done(i, std::move(accepted));
    reply->WriteDone();  // from here on the sink is called
    if (!more) return;
  }
}

absl::StatusOr<Accepted> Serving::AcceptPrompt(const Call& call, size_t prompt,
                                               uint64_t call_number, ReplySink* sink,
                                               const CallsBeingRead::Place& place) {
  if (absl::Status wanted = CheckWanted(place, call.deadline); !wanted.ok()) return wanted;
  std::optional<size_t> cut_after;
  absl::StatusOr<Request> request = Translate(call, call.prompts[prompt], &cut_after);
  if (!request.ok()) return request.status();
  request->call_number = call_number;
  request->own_id = call.own_id;
  request->part = static_cast<int32_t>(prompt);

  ReplyOptions options;
  options.request_id = request->id;
  options.outputs = request->n;
  options.text = call.text;
  options.tokens = call.token_ids || call.logprobs.has_value();
  options.skip_special_tokens = call.skip_special_tokens;
  options.stop = call.stop;
  options.include_stop = call.include_stop;
  options.stop_ids = request->stop_ids;
  options.min_tokens = request->sampling.min_tokens;
  Accepted accepted{.prompt_ids = request->prompt, .cut_after = cut_after, .reply = nullptr};
  auto outbox = engine_.Submit(*std::move(request));
  if (!outbox.ok()) return Explain(outbox.status());
  accepted.reply =
      delivery_.Open(std::move(options), accepted.prompt_ids, *std::move(outbox), sink);
  return accepted;
}

// The engine's refusal, with the facts that a client gets.
absl::Status Serving::Explain(const absl::Status& refused) const {
  switch (refused.code()) {
    case absl::StatusCode::kInvalidArgument:
      // Whatever the engine still finds invalid is in the prompt.
      return WithFacts(refused, {.field = "prompt", .reason = "INVALID_REQUEST"});
    case absl::StatusCode::kResourceExhausted:
      return Overloaded(std::string(refused.message()), FactsOf(refused).limit);
    case absl::StatusCode::kUnavailable:
      return WhyUnavailable();
    case absl::StatusCode::kAlreadyExists:
      return WithFacts(
          refused,
          {.field = "request_id", .reason = "REQUEST_ID_IN_USE", .retry_ms = kRetryWithIdMs});
    default:
      return refused;
  }
}

absl::Status Serving::Check(const Call& call) const {
  if (absl::Status known = CheckModel(call.model); !known.ok()) return known;
  // Each prompt takes one queue slot, whatever its n: with more than this a call could never be
  // accepted.
  const auto queued =
      static_cast<size_t>(QueueBound(config_, config_.max_queued_requests, call.priority));
  if (call.prompts.size() > queued) {
    return InvalidValue("prompt",
                        absl::StrCat("has ", call.prompts.size(), " entries but at most ", queued,
                                     " requests wait here (--max-queued-requests",
                                     queued < static_cast<size_t>(config_.max_queued_requests)
                                         ? ", less what is left to urgent ones"
                                         : "",
                                     "): send fewer prompts a call."));
  }
  return CheckCall(call, info(), config_);
}

absl::StatusOr<Request> Serving::Translate(const Call& call, const Prompt& prompt,
                                           std::optional<size_t>* cut_after) const {
  const EngineInfo& model = info();
  Request request;
  request.id = call.request_id;
  absl::StatusOr<std::vector<int32_t>> ids = prompts_.Tokenize(prompt);
  if (!ids.ok()) return ids.status();
  if (ids->empty())
    return InvalidField(FieldOf(prompt), "The prompt is empty: send at least one token.");
  request.prompt = *std::move(ids);
  absl::Status fits = prompts_.Truncate(call, prompt, &request.prompt, cut_after);
  fits.Update(prompts_.CheckPromptIds(request.prompt.size(), /*truncated=*/false));
  if (!fits.ok()) return fits;
  const int64_t room = model.max_model_len - std::ssize(request.prompt);
  if (call.max_tokens && *call.max_tokens > room && !call.may_end_sooner) {
    return TooLongReply(model.max_model_len, request.prompt.size(), call);
  }
  request.max_tokens = static_cast<int32_t>(std::min(call.max_tokens.value_or(room), room));
  if (call.one_message && call.prompt_logprobs &&
      std::ssize(request.prompt) * (1 + *call.prompt_logprobs) * kScoreBytes >
          call.one_message->max_bytes) {
    return TooManyScores(request.prompt.size(), *call.one_message);
  }
  request.sampling = TranslateSampling(call);
  request.sampling.min_tokens = static_cast<int32_t>(std::min<int64_t>(call.min_tokens, room));

  if (!call.ignore_eos) request.stop_ids = eos_ids_;
  for (const int64_t id : call.stop_token_ids) {
    request.stop_ids.push_back(static_cast<int32_t>(id));
  }
  // As in vLLM, EOS ids are not among the first min_tokens tokens even if they end nothing.
  if (call.ignore_eos) {
    request.masked_ids = request.stop_ids;
    request.masked_ids.insert(request.masked_ids.end(), eos_ids_.begin(), eos_ids_.end());
  }
  for (const auto& [id, bias] : call.logit_bias) {
    request.logit_bias.push_back({static_cast<int32_t>(id), static_cast<float>(bias)});
  }
  request.n = static_cast<int32_t>(call.n);
  request.prompt_logprobs = static_cast<int32_t>(call.prompt_logprobs.value_or(-1));
  request.priority = static_cast<int32_t>(call.priority);
  request.deadline = call.deadline;
  request.arrival = call.arrival == SteadyTime{} ? std::chrono::steady_clock::now() : call.arrival;
  request.read_prefix_cache = call.read_prefix_cache;
  request.cache_salt = call.cache_salt;
  return request;
}

SamplingParams Serving::TranslateSampling(const Call& call) const {
  const EngineInfo& model = info();
  const GenerationDefaults neutral;
  const GenerationDefaults& of_model =
      config_.generation_config == "auto" ? model.defaults : neutral;
  SamplingParams sampling;
  const double temperature = Choose(call.temperature, of_model.temperature, 1);
  sampling.temperature = temperature < kGreedyBelow ? 0.0f : static_cast<float>(temperature);
  // A model's default of 0 means off; a client's 0 and tiny values mean the strictest setting.
  const auto positive = [](std::optional<double> of_client, std::optional<double> of_model) {
    const double value = Choose(of_client, of_model, 1);
    if (!of_client && value <= 0) return 1.0f;
    return std::max(static_cast<float>(value), std::numeric_limits<float>::min());
  };
  sampling.top_p = positive(call.top_p, of_model.top_p);
  sampling.min_p = static_cast<float>(Choose(call.min_p, of_model.min_p, 0));
  sampling.repetition_penalty = positive(call.repetition_penalty, of_model.repetition_penalty);
  const int64_t top_k = call.top_k.value_or(of_model.top_k.value_or(0));
  sampling.top_k = static_cast<int32_t>(std::clamp<int64_t>(top_k, 0, model.vocab_size));
  sampling.presence_penalty = static_cast<float>(call.presence_penalty.value_or(0));
  sampling.frequency_penalty = static_cast<float>(call.frequency_penalty.value_or(0));
  sampling.seed = call.seed ? *call.seed : RandomBits();
  sampling.logprobs = static_cast<int32_t>(call.logprobs.value_or(-1));
  return sampling;
}

absl::Status Serving::CheckModel(const std::string& model) const {
  const std::vector<std::string>& names = config_.served_model_names;
  if (model.empty() || std::find(names.begin(), names.end(), model) != names.end()) {
    return absl::OkStatus();
  }
  return UnknownModel(model, names);
}

SteadyTime Serving::Deadline(SteadyTime now, std::optional<double> timeout_s) const {
  const double seconds =
      std::clamp(timeout_s.value_or(config_.request_timeout_s), 0.0, config_.max_request_timeout_s);
  return After(now, seconds);
}

}  // namespace baram::server
