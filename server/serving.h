// Serving: the one path both front ends use, from a client's call to a running request:
// validate, template, tokenize, Engine::Submit. Everything refusable is refused here, with the code
// and the sentence the client sees.
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

// What the chat template makes of a conversation, as text and tokens.
struct RenderedChat {
  std::string text;
  std::vector<int32_t> ids;
};

// What a front end learns when a call is accepted.
struct Accepted {
  std::vector<int32_t> prompt_ids;
  // Truncated: how many of the ids the tokenizer put before the text. Absent: it is whole.
  std::optional<size_t> cut_after;
  std::shared_ptr<Reply> reply;  // see reply.h: write done, cancel, over
};

// Everything it is given must outlive it. All methods from any thread.
class Serving {
 public:
  // `chat_template` may be null: then chat prompts are refused.
  Serving(Engine& engine, const text::Tokenizer& tokenizer, const text::ChatTemplate* chat_template,
          Delivery& delivery, TextPool& pool, const Lifecycle& lifecycle, const Config& config);

  // What a front end keeps of a call that is to be read: it marks it when the client goes.
  using Place = std::shared_ptr<CallsBeingRead::Place>;
  Place NewPlace() { return std::make_shared<CallsBeingRead::Place>(reading_); }

  // Validates the call; renders, tokenizes and submits its prompts in turn, in one job of the text
  // pool, which takes or refuses the call as a whole. Calls `done` once for each prompt accepted,
  // in order, and stops when it returns false. A refusal is the last call: under the prompt that
  // was refused, or under 0 if the whole call was; CANCELLED if it was aborted or abandoned before.
  // All from any thread, also from inside Start.
  // After `done` returned, the prompt's sink receives chunks; it must live as long as reply.h
  // says, or, of a prompt that was not accepted, until the last `done`.
  using Done = std::function<bool(size_t prompt, absl::StatusOr<Accepted>)>;
  void Start(Call call, std::vector<ReplySink*> sinks, Done done, Place place);
  // The same, for a caller that is a job of the text pool: done when it returns.
  void Read(const Call& call, const std::vector<ReplySink*>& sinks, const Done& done,
            CallsBeingRead::Place& place);
  // Whether a text that has waited is still to be read: a client waits for it, its deadline has not
  // passed, and the server still accepts calls.
  absl::Status CheckWanted(const CallsBeingRead::Place& place, SteadyTime deadline) const;

  // Ends the calls with this id, also those that wait to be read; false: there is none.
  bool Abort(const std::string& request_id);

  // The same checks without running. They take time: run them on the text pool.
  absl::StatusOr<std::vector<int32_t>> Tokenize(const Prompt& prompt) const;
  absl::StatusOr<RenderedChat> RenderChat(const ChatPrompt& prompt) const;
  absl::StatusOr<std::string> Detokenize(const std::vector<int64_t>& ids,
                                         bool skip_special_tokens) const;
  // How many ids Detokenize takes; front ends that copy them look at it before.
  size_t max_detokenized() const { return static_cast<size_t>(max_prompt_bytes_); }
  absl::Status CheckDetokenized(size_t ids) const;

  // Whether a prompt of so many ids can fit the context, where `truncated` says that it is cut to
  // it; front ends that copy them look at it before.
  absl::Status CheckPromptIds(size_t ids, bool truncated) const;

  // Unavailable while draining and after the device was lost.
  absl::Status CheckAccepting() const;
  // NotFound unless `model` is empty or a served name.
  absl::Status CheckModel(const std::string& model) const;
  // The bound of template arguments, for front ends that parse them: to be looked at before.
  static absl::Status CheckArgumentsSize(std::string_view arguments_json);
  // What a client gets for an error of the text library: InvalidField, or an Incident, whose cause
  // is logged, where the library itself failed.
  static absl::Status OfText(std::string_view field, const absl::Status& error);
  // Unique in this process and, but for chance, everywhere.
  static std::string NewRequestId();
  // The deadline of a call that has `timeout_s` left, or named none (nullopt). One that is later
  // than --max-request-timeout allows is cut to that, over gRPC and HTTP alike.
  SteadyTime Deadline(SteadyTime now, std::optional<double> timeout_s) const;

  // Whether the chat template reads reasoning_effort, and tools.
  bool takes_reasoning_effort() const { return takes_reasoning_effort_; }
  bool takes_tools() const { return takes_tools_; }
  // The EOS ids, the primary one first; the reply that ends with that has no stop_reason.
  const std::vector<int32_t>& eos_ids() const { return eos_ids_; }
  const std::vector<std::string>& served_names() const { return config_.served_model_names; }
  // The model's folder, whatever directory a client is in; its links are kept. Bytes of it that are
  // not UTF-8, which no message holds, are U+FFFD.
  const std::string& model_root() const { return model_root_; }
  const Config& config() const { return config_; }
  const EngineInfo& info() const { return engine_.info(); }
  Engine& engine() const { return engine_; }
  // Requests that are not over, and texts that wait to be read.
  int64_t unfinished() const { return engine_.unfinished() + pool_.waiting(); }
  const text::Tokenizer& tokenizer() const { return tokenizer_; }
  TextPool& pool() const { return pool_; }

 private:
  absl::StatusOr<Accepted> AcceptPrompt(const Call& call, size_t prompt, uint64_t call_number,
                                        ReplySink* sink, const CallsBeingRead::Place& place);
  absl::Status Check(const Call& call) const;  // all but the prompts
  // `cut_after`: see Accepted.
  absl::StatusOr<Request> Translate(const Call& call, const Prompt& prompt,
                                    std::optional<size_t>* cut_after) const;
  // Cuts `ids` to what truncate_prompt_tokens keeps.
  absl::Status Truncate(const Call& call, const Prompt& prompt, std::vector<int32_t>* ids,
                        std::optional<size_t>* cut_after) const;
  SamplingParams TranslateSampling(const Call& call) const;  // but for min_tokens
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
