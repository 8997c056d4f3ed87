// The gRPC services of baram.v1: the calls with one short answer.
#include "server/grpc_service.h"

#include <grpcpp/alarm.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/errors.h"
#include "server/grpc_context.h"
#include "server/grpc_generate.h"
#include "server/grpc_messages.h"
#include "server/grpc_status.h"
#include "server/prompt_reader.h"
#include "server/slow_reader.h"
#include "server/version.h"

namespace baram::server {
namespace {

using std::chrono::steady_clock;

absl::Status TooLarge(const Config& config) {
  return ReplyTooLarge(config.max_reply_bytes, "send less in one request");
}

// What a call holds while it waits for the text pool.
size_t HeldBytes(const Prompt& prompt) { return BytesOf(prompt); }
size_t HeldBytes(const std::vector<uint32_t>& ids) { return ids.size() * sizeof(uint32_t); }

// A call with one short answer: sends it, ends the call if its client does not read it in time, and
// logs how it ended. Owns itself until gRPC has called OnDone. Exactly one of the Answer methods is
// called, once; the call may not be touched after that.
class ShortCall final : public grpc::ServerUnaryReactor {
 public:
  ShortCall(Serving& serving, CallLog& log, const char* method,
            grpc::CallbackServerContext* context)
      : serving_(serving),
        logged_(log, method, *context),
        client_(new Client(context)),
        deadline_(serving.Deadline(logged_.arrival(), TimeLeft(*context))),
        place_(serving.NewPlace()) {
    const std::string& id = logged_.record().request_id;
    if (!id.empty()) context->AddInitialMetadata(kRequestIdKey, id);
  }

  // Answers with the result of `job`, on this thread: for jobs that only copy a few values. Then
  // `request` is no longer needed: its memory is released.
  template <typename Request, typename Job>
  ShortCall* AnswerNow(const Request& request, const Job& job) {
    const absl::Status status = job();
    ReleaseRequest(request);
    Answer(status);
    return this;
  }

  // The same on the text pool, for jobs that tokenize or render `input` into `response`, which
  // counts among `unread`. Only `input`, or the error in it, is needed of `request`.
  template <typename Request, typename Response, typename Input, typename Job>
  ShortCall* AnswerOnTextPool(UnreadAnswers& unread, const Request& request, Response* response,
                              absl::StatusOr<Input> input, Job job) {
    absl::Status refused = serving_.CheckAccepting();
    refused.Update(serving_.CheckModel(request.model()));
    refused.Update(input.status());
    ReleaseRequest(request);
    if (refused.ok()) {
      const size_t bytes = HeldBytes(*input);
      auto run = [this, &unread, response, input = *std::move(input), job = std::move(job)] {
        absl::Status status = serving_.CheckWanted(*place_, deadline_);
        if (status.ok()) status = job(input);
        const auto bytes = static_cast<int64_t>(response->ByteSizeLong());
        if (bytes > serving_.config().max_reply_bytes) status = TooLarge(serving_.config());
        if (!status.ok()) {
          *response = Response();  // not sent, but kept until the end of the call
          return Answer(status);
        }
        unread_.emplace(unread, bytes, [client = client_] { client->Break(); });
        Answer(status, bytes);
      };
      if (serving_.pool().Run(bytes, deadline_, std::move(run))) return this;
      refused = TooManyTexts();
    }
    Answer(refused);
    return this;
  }

  // `bytes`: of the response, unless it is small. Thread-safe.
  void Answer(const absl::Status& status, int64_t bytes = 0) {
    logged_.SetStatus(status);
    grpc::CallbackServerContext& context = *client_->context;
    const double patience_s =
        PatienceFor(static_cast<double>(bytes), serving_.config().slow_reader_s);
    const auto limit = std::chrono::system_clock::now() +
                       std::chrono::duration_cast<std::chrono::system_clock::duration>(
                           std::chrono::duration<double>(patience_s));
    patience_.Set(limit, [client = client_](bool over) {
      if (over) client->Break();
    });
    Finish(ToGrpc(status, context));
  }

  void OnCancel() override {
    logged_.IsCutByDeadline();  // decided now, for the log
    place_->Abandon();
  }
  void OnDone() override {
    if (client_->Over()) logged_.SetStatus(SlowReader());
    logged_.Record();
    delete this;
  }

 private:
  // Shared with the alarm, which may fire concurrently with OnDone.
  struct Client {
    explicit Client(grpc::CallbackServerContext* context) : context(context) {}
    void Break() {
      std::lock_guard lock(mutex);
      if (over) return;
      broken = true;
      context->TryCancel();
    }
    // Returns whether Break came first.
    bool Over() {
      std::lock_guard lock(mutex);
      over = true;
      return broken;
    }

    grpc::CallbackServerContext* const context;
    std::mutex mutex;  // guards what follows
    bool over = false, broken = false;
  };

  Serving& serving_;
  LoggedCall logged_;
  const std::shared_ptr<Client> client_;
  const SteadyTime deadline_;
  const Serving::Place place_;
  grpc::Alarm patience_;
  std::optional<UnreadAnswers::One> unread_;
};

// Counted before they are copied.
absl::StatusOr<std::vector<uint32_t>> TokenIds(const PromptReader& prompts,
                                               const v1::DetokenizeRequest& request) {
  absl::Status few = prompts.CheckDetokenized(static_cast<size_t>(request.token_ids_size()));
  if (!few.ok()) return few;
  return std::vector<uint32_t>(request.token_ids().begin(), request.token_ids().end());
}

}  // namespace

grpc::ServerWriteReactor<v1::GenerateResponse>* InferenceService::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  return StartGenerate(serving_, log_, context, request);
}

grpc::ServerUnaryReactor* InferenceService::GenerateOnce(grpc::CallbackServerContext* context,
                                                         const v1::GenerateRequest* request,
                                                         v1::GenerateOnceResponse* response) {
  return StartGenerateOnce(serving_, log_, unread_, context, request, response);
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const v1::TokenizeRequest* request,
                                                     v1::TokenizeResponse* response) {
  const bool special = !request->has_add_special_tokens() || request->add_special_tokens();
  absl::StatusOr<Prompt> prompt = TextPrompt{request->text(), special};
  return (new ShortCall(serving_, log_, "Tokenize", context))
      ->AnswerOnTextPool(
          unread_, *request, response, std::move(prompt), [this, response](const Prompt& text) {
            const auto ids = serving_.prompts().Tokenize(text);
            if (!ids.ok()) return ids.status();
            for (const int32_t id : *ids) {
              response->add_token_ids(static_cast<uint32_t>(id));
              response->add_tokens(std::string(serving_.prompts().tokenizer().TokenBytes(id)));
            }
            response->set_max_model_len(static_cast<uint32_t>(serving_.info().max_model_len));
            return absl::OkStatus();
          });
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  const bool skip_special_tokens = request->skip_special_tokens();
  return (new ShortCall(serving_, log_, "Detokenize", context))
      ->AnswerOnTextPool(unread_, *request, response, TokenIds(serving_.prompts(), *request),
                         [=, this](const std::vector<uint32_t>& ids) {
                           auto text = serving_.prompts().Detokenize(
                               {ids.begin(), ids.end()}, skip_special_tokens,
                               serving_.config().max_reply_bytes, TooLarge(serving_.config()));
                           if (!text.ok()) return text.status();
                           response->set_text(*std::move(text));
                           return absl::OkStatus();
                         });
}

grpc::ServerUnaryReactor* InferenceService::RenderChat(grpc::CallbackServerContext* context,
                                                       const v1::RenderChatRequest* request,
                                                       v1::RenderChatResponse* response) {
  absl::StatusOr<Prompt> prompt = ToChatPrompt(request->chat());
  return (new ShortCall(serving_, log_, "RenderChat", context))
      ->AnswerOnTextPool(
          unread_, *request, response, std::move(prompt), [this, response](const Prompt& chat) {
            auto rendered = serving_.prompts().RenderChat(std::get<ChatPrompt>(chat));
            if (!rendered.ok()) return rendered.status();
            response->set_text(std::move(rendered->text));
            response->mutable_token_ids()->Assign(rendered->ids.begin(), rendered->ids.end());
            return absl::OkStatus();
          });
}

grpc::ServerUnaryReactor* InferenceService::Abort(grpc::CallbackServerContext* context,
                                                  const v1::AbortRequest* request,
                                                  v1::AbortResponse* response) {
  return (new ShortCall(serving_, log_, "Abort", context))->AnswerNow(*request, [&] {
    if (request->request_id().empty()) {
      return InvalidField("request_id", "request_id is empty: name the request to end.");
    }
    response->set_found(serving_.Abort(request->request_id()));
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* InferenceService::ListModels(grpc::CallbackServerContext* context,
                                                       const v1::ListModelsRequest* request,
                                                       v1::ListModelsResponse* response) {
  return (new ShortCall(serving_, log_, "ListModels", context))->AnswerNow(*request, [&] {
    for (const std::string& name : serving_.served_names()) {
      v1::Model* model = response->add_models();
      model->set_name(name);
      model->set_root(serving_.model_root());
      model->set_architecture(serving_.info().architecture);
      model->set_max_model_len(static_cast<uint32_t>(serving_.info().max_model_len));
    }
    return absl::OkStatus();
  });
}

OperatorService::OperatorService(Serving& serving, Lifecycle& lifecycle, CallLog& log)
    : serving_(serving), lifecycle_(lifecycle), log_(log), started_(steady_clock::now()) {}

grpc::ServerUnaryReactor* OperatorService::GetServerInfo(grpc::CallbackServerContext* context,
                                                         const v1::GetServerInfoRequest* request,
                                                         v1::GetServerInfoResponse* response) {
  return (new ShortCall(serving_, log_, "GetServerInfo", context))->AnswerNow(*request, [&] {
    const EngineInfo& info = serving_.info();
    response->set_version(kVersion);
    response->set_architecture(info.architecture);
    for (const std::string& name : serving_.served_names()) {
      response->add_served_model_names(name);
    }
    response->set_device(info.device);
    response->set_processor(info.processor);
    response->set_isa(info.isa);
    response->set_max_model_len(static_cast<uint32_t>(info.max_model_len));
    response->set_parameters(static_cast<uint64_t>(info.parameters));
    response->set_weight_bytes(static_cast<uint64_t>(info.weight_bytes));
    response->set_kv_page_tokens(static_cast<uint32_t>(info.page_tokens));
    response->set_kv_pages(static_cast<uint32_t>(info.pages));
    response->set_kv_bytes(static_cast<uint64_t>(info.pages) *
                           static_cast<uint64_t>(info.page_bytes));
    response->set_max_num_seqs(static_cast<uint32_t>(info.max_num_seqs));
    response->set_max_num_batched_tokens(static_cast<uint32_t>(info.max_num_batched_tokens));
    response->set_vocab_size(static_cast<uint32_t>(info.vocab_size));
    response->set_exact(info.exact);
    response->set_uptime_s(SecondsSince(started_));
    response->set_load_s(info.load_s);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* OperatorService::GetLoad(grpc::CallbackServerContext* context,
                                                   const v1::GetLoadRequest* request,
                                                   v1::GetLoadResponse* response) {
  return (new ShortCall(serving_, log_, "GetLoad", context))->AnswerNow(*request, [&] {
    const Stats& stats = serving_.engine().stats();
    response->set_running(static_cast<uint32_t>(stats.running.value()));
    response->set_waiting(static_cast<uint32_t>(stats.waiting.value()));
    response->set_paused(static_cast<uint32_t>(stats.paused.value()));
    const double pages = stats.kv_pages_total.value();
    response->set_kv_usage(pages > 0 ? stats.kv_pages_used.value() / pages : 0);
    response->set_preemptions(stats.preemptions.value());
    response->set_prompt_tokens(stats.prompt_tokens.value());
    response->set_generated_tokens(stats.generated_tokens.value());
    response->set_draining(lifecycle_.draining());
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* OperatorService::Drain(grpc::CallbackServerContext* context,
                                                 const v1::DrainRequest* request,
                                                 v1::DrainResponse* response) {
  return (new ShortCall(serving_, log_, "Drain", context))->AnswerNow(*request, [&] {
    const double limit =
        request->has_limit_s() ? request->limit_s() : serving_.config().drain_limit_s;
    constexpr double kMaxS = 86400;
    if (!(limit >= 0 && limit <= kMaxS)) {
      return InvalidField(
          "limit_s", absl::StrCat("limit_s is ", limit, " but must be from 0 to ", kMaxS, "."));
    }
    response->set_unfinished(static_cast<uint32_t>(serving_.unfinished()));
    spdlog::warn("draining, as {} asked over gRPC: new calls are refused until a restart",
                 PeerOf(*context));
    lifecycle_.Drain(FromNow(limit));
    return absl::OkStatus();
  });
}

}  // namespace baram::server
