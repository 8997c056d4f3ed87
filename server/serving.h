// Serving: the one path that both front ends use, from a client's call to a running request:
// validate, template, tokenize, Engine::Submit. Everything that can be refused is refused here,
// with the code and the sentence that the client sees.
#ifndef BARAM_SERVER_SERVING_H_
#define BARAM_SERVER_SERVING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/steady_time.h"
#include "server/call.h"
#include "server/calls_being_read.h"
#include "server/delivery.h"
#include "server/lifecycle.h"
#include "server/reply.h"
#include "server/settings.h"
#include "server/text/chat_template.h"
#include "server/text/tokenizer.h"
#include "server/text_pool.h"

namespace baram::server {

// Bytes that a prompt holds while it waits to be read. Nothing else in a call is large.
size_t BytesOf(const Prompt& prompt);

// A conversation rendered by the chat template, as text and tokens.
struct RenderedChat {
  std::string text;
  std::vector<int32_t> ids;
};

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
  // `chat_template` may be null; chat prompts are then refused.
  Serving(Engine& engine, const text::Tokenizer& tokenizer, const text::ChatTemplate* chat_template,
          Delivery& delivery, TextPool& pool, const Lifecycle& lifecycle, const Config& config);

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

  // The same checks without running. They take time: run them on the text pool.
  absl::StatusOr<std::vector<int32_t>> Tokenize(const Prompt& prompt) const;
  absl::StatusOr<RenderedChat> RenderChat(const ChatPrompt& prompt) const;
  // Returns `too_large` instead of a text of more than `max_bytes`, without building it.
  absl::StatusOr<std::string> Detokenize(const std::vector<int64_t>& ids, bool skip_special_tokens,
                                         int64_t max_bytes, const absl::Status& too_large) const;
  // How many ids Detokenize accepts; front ends that copy them check it first.
  size_t max_detokenized() const { return static_cast<size_t>(max_prompt_bytes_); }
  absl::Status CheckDetokenized(size_t ids) const;

  // Whether a prompt of `ids` ids can fit the context; `truncated` says that it will be cut to fit.
  // Front ends that copy ids check it first.
  absl::Status CheckPromptIds(size_t ids, bool truncated) const;

  // Unavailable while draining and after the device was lost.
  absl::Status CheckAccepting() const;
  // NotFound unless `model` is empty or a served name.
  absl::Status CheckModel(const std::string& model) const;
  // The limit of template arguments; front ends that parse them check it first.
  static absl::Status CheckArgumentsSize(std::string_view arguments_json);
  // Converts an error of the text library to a client's: InvalidField or, if the library itself
  // failed, an Incident, whose cause is logged.
  static absl::Status OfText(std::string_view field, const absl::Status& error);
  // The deadline of a call that has `timeout_s` left, or set none (nullopt). One later than
  // --max-request-timeout allows is clamped, over gRPC and HTTP alike.
  SteadyTime Deadline(SteadyTime now, std::optional<double> timeout_s) const;

  // Whether the chat template reads reasoning_effort, and tools.
  bool takes_reasoning_effort() const { return takes_reasoning_effort_; }
  bool takes_tools() const { return takes_tools_; }
  // The EOS ids, the primary one first; a reply that ends with that one has no stop_reason.
  const std::vector<int32_t>& eos_ids() const { return eos_ids_; }
  const std::vector<std::string>& served_names() const { return config_.served_model_names; }
  // The absolute path of the model's folder, symbolic links kept. Bytes that are not UTF-8, which
  // no message may hold, become U+FFFD.
  const std::string& model_root() const { return model_root_; }
  const Config& config() const { return config_; }
  const EngineInfo& info() const { return engine_.info(); }
  Engine& engine() const { return engine_; }
  // Unfinished requests, and texts that wait to be read.
  int64_t unfinished() const { return engine_.unfinished() + pool_.waiting(); }
  const text::Tokenizer& tokenizer() const { return tokenizer_; }
  TextPool& pool() const { return pool_; }

 private:
  absl::StatusOr<Accepted> AcceptPrompt(const Call& call, size_t prompt, uint64_t call_number,
                                        ReplySink* sink, const CallsBeingRead::Place& place);
  absl::Status Check(const Call& call) const;  // except the prompts
  // `cut_after`: see Accepted.
  absl::StatusOr<Request> Translate(const Call& call, const Prompt& prompt,
                                    std::optional<size_t>* cut_after) const;
  // Cuts `ids` to what truncate_prompt_tokens keeps.
  absl::Status Truncate(const Call& call, const Prompt& prompt, std::vector<int32_t>* ids,
                        std::optional<size_t>* cut_after) const;
  SamplingParams TranslateSampling(const Call& call) const;  // without min_tokens
  // The status of a call that is not accepted.
  absl::Status WhyUnavailable() const;
  absl::Status Explain(const absl::Status& refused) const;
  absl::StatusOr<std::string> RenderText(const ChatPrompt& prompt) const;
  absl::StatusOr<std::vector<int32_t>> EncodePrompt(const std::string& text,
                                                    bool add_special_tokens,
                                                    std::string_view field) const;

  Engine& engine_;
  const text::Tokenizer& tokenizer_;
  const text::ChatTemplate* chat_template_;
  Delivery& delivery_;
  TextPool& pool_;
  const Lifecycle& lifecycle_;
  const Config& config_;
  const int64_t max_prompt_bytes_;
  const bool takes_reasoning_effort_;
  const bool takes_tools_;
  const std::string model_root_;
  std::vector<int32_t> eos_ids_;
  CallsBeingRead reading_;
  std::atomic<uint64_t> calls_{0};  // so far
};

}  // namespace baram::server

#endif  // BARAM_SERVER_SERVING_H_
