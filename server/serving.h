// Serving: the one path that both front ends use, from a client's call to a running request:
// validate, template, tokenize, Engine::Submit. Everything that can be refused is refused here, or
// by PromptReader if it is the text, with the code and the sentence that the client sees.
#ifndef BARAM_SERVER_SERVING_H_
#define BARAM_SERVER_SERVING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/steady_time.h"
#include "server/call.h"
#include "server/calls_being_read.h"
#include "server/delivery.h"
#include "server/kept_answers.h"
#include "server/lifecycle.h"
#include "server/prompt_reader.h"
#include "server/reply.h"
#include "server/settings.h"
#include "server/text_pool.h"

namespace baram::server {

// Bytes that a prompt holds while it waits to be read. Nothing else in a call is large.
size_t BytesOf(const Prompt& prompt);

// What a front end gets when a prompt is accepted.
struct Accepted {
  std::vector<int32_t> prompt_ids;
  // If truncated: the number of ids that the tokenizer put before the text. Absent: not truncated.
  std::optional<size_t> cut_after;
  std::shared_ptr<Reply> reply;  // see reply.h: write done, cancel, over
};

// Everything passed to the constructor must outlive it. Thread-safe.
class Serving {
 public:
  Serving(Engine& engine, const PromptReader& prompts, Delivery& delivery, TextPool& pool,
          const Lifecycle& lifecycle, const Config& config);

  // A front end's handle on a call that is to be read, to be marked when the client disconnects.
  using Place = std::shared_ptr<CallsBeingRead::Place>;
  Place NewPlace() { return std::make_shared<CallsBeingRead::Place>(reading_); }

  // Validates the call; renders, tokenizes and submits its prompts in turn, in one job of the text
  // pool, which accepts or refuses the call as a whole. Calls `done` once for each accepted prompt,
  // in order, and stops when it returns false. A refusal is the last call: with the index of the
  // refused prompt, or 0 if the whole call was refused; CANCELLED if it was aborted or abandoned
  // before. `done` may be called from any thread, even from inside Start.
  // After `done` has returned, the prompt's sink receives chunks; it must live as long as reply.h
  // says, or, for a prompt that was not accepted, until the last `done`.
  using Done = std::function<bool(size_t prompt, absl::StatusOr<Accepted>)>;
  void Start(Call call, std::vector<ReplySink*> sinks, Done done, Place place);
  // The same, for a caller that is a job of the text pool: synchronous.
  void Read(const Call& call, const std::vector<ReplySink*>& sinks, const Done& done,
            CallsBeingRead::Place& place);
  // Whether a text that has waited should still be read: a client waits for it, its deadline has
  // not passed, and the server still accepts calls.
  absl::Status CheckWanted(const CallsBeingRead::Place& place, SteadyTime deadline) const;

  // Ends all calls with this id, including those that wait to be read; false if there are none.
  bool Abort(const std::string& request_id);

  // Unavailable while draining and after the device was lost.
  absl::Status CheckAccepting() const;
  // NotFound unless `model` is empty or a served name.
  absl::Status CheckModel(const std::string& model) const;
  // The deadline of a call that has `timeout_s` left, or set none (nullopt). One later than
  // --max-request-timeout allows is clamped, over gRPC and HTTP alike.
  SteadyTime Deadline(SteadyTime now, std::optional<double> timeout_s) const;

  // The EOS ids, the primary one first; a reply that ends with that one has no stop_reason.
  const std::vector<int32_t>& eos_ids() const { return eos_ids_; }
  const std::vector<std::string>& served_names() const { return config_.served_model_names; }
  // The absolute path of the model's folder, symbolic links kept. Bytes that are not UTF-8, which
  // no message may hold, become U+FFFD.
  const std::string& model_root() const { return model_root_; }
  const Config& config() const { return config_; }
  const EngineInfo& info() const { return engine_.info(); }
  Engine& engine() const { return engine_; }
  const PromptReader& prompts() const { return prompts_; }
  // Unfinished requests, and texts that wait to be read or are being read.
  int64_t unfinished() const { return engine_.unfinished() + pool_.unfinished(); }
  TextPool& pool() const { return pool_; }
  // What all answers of both front ends keep until they can be sent.
  KeptAnswers& kept() { return kept_; }

 private:
  absl::StatusOr<Accepted> AcceptPrompt(const Call& call, size_t prompt, uint64_t call_number,
                                        ReplySink* sink, const CallsBeingRead::Place& place);
  absl::Status Check(const Call& call) const;  // except the prompts
  // `cut_after`: see Accepted.
  absl::StatusOr<Request> Translate(const Call& call, const Prompt& prompt,
                                    std::optional<size_t>* cut_after) const;
  SamplingParams TranslateSampling(const Call& call) const;  // without min_tokens
  // The status of a call that is not accepted.
  absl::Status WhyUnavailable() const;
  absl::Status Explain(const absl::Status& refused) const;

  Engine& engine_;
  const PromptReader& prompts_;
  Delivery& delivery_;
  TextPool& pool_;
  const Lifecycle& lifecycle_;
  const Config& config_;
  const std::string model_root_;
  const std::vector<int32_t> eos_ids_;
  CallsBeingRead reading_;
  KeptAnswers kept_;
  std::atomic<uint64_t> calls_{0};  // so far
};

}  // namespace baram::server

#endif  // BARAM_SERVER_SERVING_H_
