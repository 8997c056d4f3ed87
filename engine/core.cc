// EngineCore: accepting requests, the turns of the step loop, and delivery.
#include "engine/core.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/blame.h"
#include "spdlog/spdlog.h"

namespace baram {
namespace {

// The most outputs of one request; each allocates its ring when the request is submitted.
constexpr int32_t kMaxOutputs = 1024;

PagePoolShape PoolShape(const LoadedModel& model) {
  return {.pages = model.info.pages,
          .page_tokens = model.info.page_tokens,
          .windows = model.plan.windows,
          .max_blocks = model.slots.max_pages_per_slot};
}

SchedulerConfig SchedulerFields(const EngineConfig& config, const LoadedModel& model) {
  return {.max_model_len = model.info.max_model_len,
          .max_num_seqs = model.info.max_num_seqs,
          .max_num_batched_tokens = model.info.max_num_batched_tokens,
          .mixed_step_tokens = model.info.mixed_step_tokens,
          .max_logit_rows = model.info.max_logit_rows,
          .max_chunk_tokens = config.max_chunk_tokens,
          .short_prompt_share = config.short_prompt_share,
          .prefix_cache = config.prefix_cache,
          .preempt_every_draw = config.preempt_every_draw,
          .longest_pause_s = config.longest_pause_s};
}

}  // namespace

EngineCore::EngineCore(const EngineConfig& config, const LoadedModel& model)
    : config_(config),
      info_(model.info),
      stats_(model.info.max_model_len, model.info.max_num_batched_tokens),
      drain_limit_(Ticks(SteadyTime::max())),
      progress_(0),
      pool_(PoolShape(model)),
      scheduler_(SchedulerFields(config, model), pool_, stats_) {
  for (int32_t i = 0; i < info_.planning_depth; ++i) {
    batches_.push_back(std::make_unique<Batch>());
    batches_.back()->Reserve(model.slots, info_.page_tokens);
    free_batches_.push_back(batches_.back().get());
  }
  changed_.reserve(2 * info_.max_num_seqs);
}

absl::Status EngineCore::Validate(const Request& request) const {
  const auto in_vocabulary = [this](int32_t id) { return id >= 0 && id < info_.vocab_size; };
  if (request.prompt.empty()) {
    return absl::InvalidArgumentError("The prompt is empty: it needs at least one token.");
  }
  if (std::ssize(request.prompt) >= info_.max_model_len) {
    return absl::InvalidArgumentError(
        absl::StrCat("This model's maximum context length is ", info_.max_model_len,
                     " tokens, but the prompt has ", request.prompt.size(),
                     "; shorten it to at most ", info_.max_model_len - 1, " tokens."));
  }
  // These come from a text: ids that a client sends are checked earlier.
  if (!std::ranges::all_of(request.prompt, in_vocabulary)) {
    return absl::InvalidArgumentError(
        absl::StrCat("The prompt holds a token that the tokenizer has but not the model, whose "
                     "token ids end at ",
                     info_.vocab_size - 1, "; leave it out."));
  }
  if (request.max_tokens < 1) return absl::InvalidArgumentError("max_tokens must be at least 1.");
  if (request.n < 1 || request.n > kMaxOutputs) {
    return absl::InvalidArgumentError(absl::StrCat("n must be 1 .. ", kMaxOutputs, "."));
  }
  const auto wrong = [&](const std::vector<int32_t>& ids) {
    return ids.size() > kMaxStopIds || !std::ranges::all_of(ids, in_vocabulary);
  };
  if (wrong(request.stop_ids) || wrong(request.masked_ids)) {
    return absl::InvalidArgumentError(absl::StrCat("At most ", kMaxStopIds,
                                                   " stop token ids are allowed, each in 0..",
                                                   info_.vocab_size - 1, "."));
  }
  if (request.logit_bias.size() > kMaxBiasedTokens ||
      !std::ranges::all_of(request.logit_bias, in_vocabulary, &TokenBias::token)) {
    return absl::InvalidArgumentError(absl::StrCat("logit_bias may name at most ", kMaxBiasedTokens,
                                                   " ids of 0 .. ", info_.vocab_size - 1, "."));
  }
  if (std::max(request.sampling.logprobs, request.prompt_logprobs) > kMaxTopLogprobs) {
    return absl::InvalidArgumentError(absl::StrCat(
        "At most ", kMaxTopLogprobs, " log-probabilities per token can be requested."));
  }
  return absl::OkStatus();
}

absl::Status EngineCore::Accepting(const Request& request) const {
  if (!alive()) return absl::UnavailableError("The device is lost; try another replica.");
  if (draining()) {
    return absl::UnavailableError("The server is going down; try another replica.");
  }
  const auto full = [&](int64_t queued, int64_t bound) {
    return queued >= QueueBound(config_, bound, request.priority);
  };
  const bool requests = full(queued_requests_.load(), config_.max_queued_requests);
  if (requests || full(queued_tokens_.load(), config_.max_queued_tokens)) {
    return BlameSetting(
        absl::ResourceExhaustedError("The server's queue is full; try again in a moment."),
        requests ? "max-queued-requests" : "max-queued-tokens");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Outbox>> EngineCore::Submit(Request request) {
  absl::Status status = Validate(request);
  if (status.ok()) status = Accepting(request);
  if (!status.ok()) {
    stats_.refused.Add();
    return status;
  }
  if (request.arrival == SteadyTime{}) request.arrival = std::chrono::steady_clock::now();
  const int64_t tokens = QueuedTokens(request);
  auto outbox = std::make_shared<Outbox>(request, config_.stream_tokens, wakeup_);
  auto live = std::make_unique<LiveRequest>(std::move(request), outbox);
  {
    std::lock_guard lock(inbox_mutex_);
    status = Accepting(live->request);
    if (status.ok() && !AddLive(live->request, outbox)) {
      status = absl::AlreadyExistsError(
          "A request with this id is running; choose another id, or try again when it has ended.");
    }
    if (!status.ok()) {
      stats_.refused.Add();
      return status;
    }
    queued_requests_.fetch_add(1);
    queued_tokens_.fetch_add(tokens);
    // Work that arrives at a parked engine starts the clock of stalled_s(); other work does not set
    // it back.
    unfinished_requests_.fetch_add(1);
    Unpark(std::chrono::steady_clock::now());
    inbox_.push_back(std::move(live));
    inbox_filled_.store(true);
  }
  stats_.accepted.Add();
  wakeup_->Notify();
  return outbox;
}

bool EngineCore::AddLive(const Request& request, std::shared_ptr<Outbox> outbox) {
  // The first and the last request of an id show whether another call has it; a request that
  // requires the id for itself is the first.
  const auto first = FirstLive(request.id);
  const auto end = live_.upper_bound(LiveKeyView{request.id, UINT64_MAX, INT32_MAX});
  const auto other = [&](const auto& live) {
    return live.first.call_number != request.call_number;
  };
  if (first != end && (request.own_id || first->second.own_id) &&
      (other(*first) || other(*std::prev(end)))) {
    return false;
  }
  return live_
      .try_emplace(LiveKey{request.id, request.call_number, request.part},
                   LivePart{std::move(outbox), request.own_id})
      .second;
}

EngineCore::Live::iterator EngineCore::FirstLive(std::string_view id) {
  return live_.lower_bound(LiveKeyView{id});
}

bool EngineCore::Abort(const std::string& id) {
  std::vector<std::shared_ptr<Outbox>> parts;
  {
    std::lock_guard lock(inbox_mutex_);
    for (auto part = FirstLive(id); part != live_.end() && part->first.id == id; ++part) {
      parts.push_back(part->second.outbox);
    }
  }
  for (const auto& outbox : parts) outbox->Cancel();
  return !parts.empty();
}

void EngineCore::Drain(SteadyTime limit) {
  int64_t sooner = drain_limit_.load();
  while (Ticks(limit) < sooner && !drain_limit_.compare_exchange_weak(sooner, Ticks(limit))) {
  }
  draining_.store(true);
  wakeup_->Notify();
}

double EngineCore::stalled_s() const {
  if (parked_.load()) return 0;
  const SteadyTime progress = FromTicks(progress_.load());
  return std::max(0.0, SecondsSince(progress));
}

bool EngineCore::Turn(absl::FunctionRef<SteadyTime()> clock,
                      absl::FunctionRef<Batch*(Batch*)> run) {
  SteadyTime now = clock();
  Intake(now);
  Batch* planned = PlanStep(now);
  Batch* finished = run(planned);
  if (finished != nullptr) {
    now = clock();
    CommitStep(finished, now);
  }
  const bool delivered = Deliver(now);
  return planned != nullptr || finished != nullptr || delivered;
}

void EngineCore::Intake(SteadyTime now) {
  // Taken before the inbox: a request that is cancelled in between is in the inbox by now, or its
  // end is requested for the next turn.
  const bool has_end_requests = wakeup_->TakeEndRequests();
  if (inbox_filled_.load()) TakeInbox(now);
  scheduler_.EndExpired(has_end_requests, now);
  if (draining() && Ticks(now) >= drain_limit_.load()) {
    EndAll({.reason = FinishReason::kDrained}, now);
  }
}

void EngineCore::TakeInbox(SteadyTime now) {
  {
    std::lock_guard lock(inbox_mutex_);
    std::swap(inbox_, taken_);
    inbox_filled_.store(false);
  }
  for (std::unique_ptr<LiveRequest>& live : taken_) scheduler_.Add(std::move(live), now);
  taken_.clear();
}

void EngineCore::EndAll(const Finish& finish, SteadyTime now) {
  // Requests accepted before the caller stopped accepting are in the inbox once it is locked.
  TakeInbox(now);
  scheduler_.EndAll(finish, now);
}

Batch* EngineCore::PlanStep(SteadyTime now) {
  if (free_batches_.empty() || !alive()) return nullptr;
  Batch* batch = free_batches_.back();
  if (!scheduler_.Plan(*batch, now)) return nullptr;
  free_batches_.pop_back();
  Unpark(now);
  return batch;
}

void EngineCore::CommitStep(Batch* batch, SteadyTime now) {
  if (batch->lost && alive_.exchange(false)) {
    spdlog::error("the device is lost: every request fails, none is accepted");
    EndAll({.reason = FinishReason::kFailed,
            .unavailable = true,
            .message = "the device is lost: retry on another server"},
           now);
  }
  scheduler_.Commit(*batch, now);
  free_batches_.push_back(batch);
  progress_.store(Ticks(now));
}

bool EngineCore::Deliver(SteadyTime now) {
  if (scheduler_.steps_in_flight() == 0) progress_.store(Ticks(now));
  const Scheduler::Departures departures = scheduler_.TakeDepartures();
  queued_requests_.fetch_sub(departures.requests);
  queued_tokens_.fetch_sub(departures.tokens);

  std::vector<Ending>& endings = scheduler_.endings();
  if (std::ranges::any_of(endings, &Ending::last)) {
    // First the ids: a reader that sees the end may use the id again.
    std::lock_guard lock(inbox_mutex_);
    for (const Ending& ending : endings) {
      if (!ending.last) continue;
      const Request& request = ending.live->request;
      live_.erase(live_.find(LiveKeyView{request.id, request.call_number, request.part}));
    }
  }
  const bool happened = !scheduler_.changed().empty();  // endings are changes
  for (LiveRequest* live : scheduler_.changed()) {
    live->changed = false;
    changed_.push_back(live->outbox);
  }
  scheduler_.changed().clear();
  int64_t finished = 0;
  for (Ending& ending : endings) {
    ending.live->outbox->SetFinish(ending.index, std::move(ending.finish));
    if (ending.last) ++finished;
  }
  endings.clear();
  touched_.Add(changed_);
  unfinished_requests_.fetch_sub(finished);
  scheduler_.Reap();
  return happened;
}

void EngineCore::Stop(SteadyTime now) {
  draining_.store(true);
  EndAll({.reason = FinishReason::kDrained}, now);
}

SteadyTime EngineCore::next_event() const {
  SteadyTime next = scheduler_.next_event();
  if (draining() && !idle()) {
    next = std::min(next, FromTicks(drain_limit_.load()));
  }
  return next;
}

// The clock first: a thread that sees the engine unparked must not see the old time.
void EngineCore::Unpark(SteadyTime now) {
  if (!parked_.load()) return;
  progress_.store(Ticks(now));
  parked_.store(false);
}

void EngineCore::Park() {
  if (!inbox_filled_.load()) parked_.store(true);
}

}  // namespace baram
