// The gRPC services of baram.v1: the calls with one short answer.
#include "server/grpc_service.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/errors.h"
#include "server/grpc_context.h"
#include "server/grpc_endings.h"
#include "server/grpc_generate.h"
#include "server/grpc_messages.h"
#include "server/grpc_status.h"
#include "server/grpc_wire.h"
#include "server/prompt_reader.h"
#include "server/version.h"

namespace baram::server {
namespace {

using std::chrono::steady_clock;

absl::Status TooLarge(const Config& config) {
  return ReplyTooLarge(config.max_reply_bytes, "send less in one request");
}

// A call with one short answer: sends it, ends the call if its client does not read it in time, and
// logs how it ended. Owns itself until gRPC has called OnDone. Exactly one of the Answer methods is
// called, once; the call may not be touched after that.
template <typename Request, typename Response>
class ShortCall final : public grpc::ServerUnaryReactor {
 public:
  // Of a call to `method` with the message `request`, to be answered in `response`.
  ShortCall(const GrpcCalls& calls, const char* method, grpc::CallbackServerContext* context,
            const grpc::ByteBuffer* request, grpc::ByteBuffer* response)
      : serving_(calls.serving),
        all_unread_(calls.unread),
        logged_(calls.log, method, *context),
        context_(*context),
        deadline_(calls.serving.Deadline(logged_.arrival(), TimeLeft(*context))),
        place_(calls.serving.NewPlace()),
        message_(TakeMessage(request)),
        answer_(response),
        unread_(context) {
    const std::string& id = logged_.record().request_id;
    if (!id.empty()) context->AddInitialMetadata(kRequestIdKey, id);
  }

  // Answers with the result of `job`, a Status(const Request&, Response*), on this thread: for jobs
  // that only copy a few values.
  template <typename Job>
  ShortCall* AnswerNow(const Job& job) {
    Request request;
    Response response;
    absl::Status status = ParseMessage(&message_, kSmallMessageBytes, &request);
    if (status.ok()) status = job(request, &response);
    Answer(status, response);
    return this;
  }

  // The same on the text pool, for jobs that tokenize or render. Parses the message there, too.
  template <typename Job>
  ShortCall* AnswerOnTextPool(const Job& job) {
    absl::Status refused = serving_.CheckAccepting();
    if (refused.ok()) {
      const auto run = [this, job] {
        Response response;
        const absl::Status status = Read(job, &response);
        Answer(status, response);
      };
      if (serving_.pool().Run(message_.Length(), deadline_, run)) return this;
      refused = TooManyTexts();
    }
    Answer(refused, Response());
    return this;
  }

  void OnCancel() override {
    logged_.IsCutByDeadline();  // decided now, for the log
    place_->Abandon();
  }
  void OnDone() override {
    if (unread_.Over()) logged_.SetStatus(SlowReader());
    logged_.Record();
    delete this;
  }

 private:
  template <typename Job>
  absl::Status Read(const Job& job, Response* response) {
    absl::Status status = serving_.CheckWanted(*place_, deadline_);
    if (!status.ok()) return status;
    Request request;
    const auto most = static_cast<size_t>(serving_.config().max_body_bytes);
    status = ParseMessage(&message_, most, &request);
    status.Update(serving_.CheckModel(request.model()));
    return status.ok() ? job(request, response) : status;
  }

  // Thread-safe.
  void Answer(absl::Status status, const Response& response) {
    const auto bytes = static_cast<int64_t>(response.ByteSizeLong());
    if (status.ok() && bytes > serving_.config().max_reply_bytes) {
      status = TooLarge(serving_.config());
    }
    if (status.ok()) *answer_ = Serialized(response);
    logged_.SetStatus(status);
    unread_.Begin(all_unread_, status.ok() ? bytes : 0, serving_.config().slow_reader_s);
    Finish(ToGrpc(status, context_));
  }

  Serving& serving_;
  UnreadAnswers& all_unread_;
  LoggedCall logged_;
  grpc::CallbackServerContext& context_;
  const SteadyTime deadline_;
  const Serving::Place place_;
  grpc::ByteBuffer message_;
  grpc::ByteBuffer* const answer_;
  UnreadCall unread_;
};

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return StartGenerate(calls_, context, request);
}

grpc::ServerUnaryReactor* InferenceService::GenerateOnce(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* request,
                                                         grpc::ByteBuffer* response) {
  return StartGenerateOnce(calls_, context, request, response);
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  using Call = ShortCall<v1::TokenizeRequest, v1::TokenizeResponse>;
  const auto job = [&serving = calls_.serving](const v1::TokenizeRequest& asked,
                                               v1::TokenizeResponse* answer) {
    const bool special = !asked.has_add_special_tokens() || asked.add_special_tokens();
    const auto ids = serving.prompts().Tokenize(TextPrompt{asked.text(), special});
    if (!ids.ok()) return ids.status();
    for (const int32_t id : *ids) {
      answer->add_token_ids(static_cast<uint32_t>(id));
      answer->add_tokens(std::string(serving.prompts().tokenizer().TokenBytes(id)));
    }
    answer->set_max_model_len(static_cast<uint32_t>(serving.info().max_model_len));
    return absl::OkStatus();
  };
  return (new Call(calls_, "Tokenize", context, request, response))->AnswerOnTextPool(job);
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  using Call = ShortCall<v1::DetokenizeRequest, v1::DetokenizeResponse>;
  const auto job = [&serving = calls_.serving](const v1::DetokenizeRequest& asked,
                                               v1::DetokenizeResponse* answer) {
    const PromptReader& prompts = serving.prompts();
    const auto count = static_cast<size_t>(asked.token_ids_size());
    if (absl::Status few = prompts.CheckDetokenized(count); !few.ok()) return few;
    auto text = prompts.Detokenize({asked.token_ids().begin(), asked.token_ids().end()},
                                   asked.skip_special_tokens(), serving.config().max_reply_bytes,
                                   TooLarge(serving.config()));
    if (!text.ok()) return text.status();
    answer->set_text(*std::move(text));
    return absl::OkStatus();
  };
  return (new Call(calls_, "Detokenize", context, request, response))->AnswerOnTextPool(job);
}

grpc::ServerUnaryReactor* InferenceService::RenderChat(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  using Call = ShortCall<v1::RenderChatRequest, v1::RenderChatResponse>;
  const auto job = [&serving = calls_.serving](const v1::RenderChatRequest& asked,
                                               v1::RenderChatResponse* answer) {
    const absl::StatusOr<ChatPrompt> chat = ToChatPrompt(asked.chat());
    if (!chat.ok()) return chat.status();
    auto rendered = serving.prompts().RenderChat(*chat);
    if (!rendered.ok()) return rendered.status();
    answer->set_text(std::move(rendered->text));
    answer->mutable_token_ids()->Assign(rendered->ids.begin(), rendered->ids.end());
    return absl::OkStatus();
  };
  return (new Call(calls_, "RenderChat", context, request, response))->AnswerOnTextPool(job);
}

grpc::ServerUnaryReactor* InferenceService::Abort(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* request,
                                                  grpc::ByteBuffer* response) {
  using Call = ShortCall<v1::AbortRequest, v1::AbortResponse>;
  const auto job = [&](const v1::AbortRequest& asked, v1::AbortResponse* answer) {
    if (asked.request_id().empty()) {
      return InvalidField("request_id", "request_id is empty: name the request to end.");
    }
    answer->set_found(calls_.serving.Abort(asked.request_id()));
    return absl::OkStatus();
  };
  return (new Call(calls_, "Abort", context, request, response))->AnswerNow(job);
}

grpc::ServerUnaryReactor* InferenceService::ListModels(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  using Call = ShortCall<v1::ListModelsRequest, v1::ListModelsResponse>;
  const auto job = [&](const v1::ListModelsRequest&, v1::ListModelsResponse* answer) {
    const Serving& serving = calls_.serving;
    for (const std::string& name : serving.served_names()) {
      v1::Model* model = answer->add_models();
      model->set_name(name);
      model->set_root(serving.model_root());
      model->set_architecture(serving.info().architecture);
      model->set_max_model_len(static_cast<uint32_t>(serving.info().max_model_len));
    }
    return absl::OkStatus();
  };
  return (new Call(calls_, "ListModels", context, request, response))->AnswerNow(job);
}

OperatorService::OperatorService(const GrpcCalls& calls, Lifecycle& lifecycle)
    : calls_(calls), lifecycle_(lifecycle), started_(steady_clock::now()) {}

grpc::ServerUnaryReactor* OperatorService::GetServerInfo(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* request,
                                                         grpc::ByteBuffer* response) {
  using Call = ShortCall<v1::GetServerInfoRequest, v1::GetServerInfoResponse>;
  const auto job = [&](const v1::GetServerInfoRequest&, v1::GetServerInfoResponse* answer) {
    const EngineInfo& info = calls_.serving.info();
    answer->set_version(kVersion);
    answer->set_architecture(info.architecture);
    for (const std::string& name : calls_.serving.served_names()) {
      answer->add_served_model_names(name);
    }
    answer->set_device(info.device);
    answer->set_processor(info.processor);
    answer->set_isa(info.isa);
    answer->set_max_model_len(static_cast<uint32_t>(info.max_model_len));
    answer->set_parameters(static_cast<uint64_t>(info.parameters));
    answer->set_weight_bytes(static_cast<uint64_t>(info.weight_bytes));
    answer->set_kv_page_tokens(static_cast<uint32_t>(info.page_tokens));
    answer->set_kv_pages(static_cast<uint32_t>(info.pages));
    answer->set_kv_bytes(static_cast<uint64_t>(info.pages) *
                         static_cast<uint64_t>(info.page_bytes));
    answer->set_max_num_seqs(static_cast<uint32_t>(info.max_num_seqs));
    answer->set_max_num_batched_tokens(static_cast<uint32_t>(info.max_num_batched_tokens));
    answer->set_vocab_size(static_cast<uint32_t>(info.vocab_size));
    answer->set_exact(info.exact);
    answer->set_uptime_s(SecondsSince(started_));
    answer->set_load_s(info.load_s);
    return absl::OkStatus();
  };
  return (new Call(calls_, "GetServerInfo", context, request, response))->AnswerNow(job);
}

grpc::ServerUnaryReactor* OperatorService::GetLoad(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* request,
                                                   grpc::ByteBuffer* response) {
  using Call = ShortCall<v1::GetLoadRequest, v1::GetLoadResponse>;
  const auto job = [&](const v1::GetLoadRequest&, v1::GetLoadResponse* answer) {
    const Stats& stats = calls_.serving.engine().stats();
    answer->set_running(static_cast<uint32_t>(stats.running.value()));
    answer->set_waiting(static_cast<uint32_t>(stats.waiting.value()));
    answer->set_paused(static_cast<uint32_t>(stats.paused.value()));
    const double pages = stats.kv_pages_total.value();
    answer->set_kv_usage(pages > 0 ? stats.kv_pages_used.value() / pages : 0);
    answer->set_preemptions(stats.preemptions.value());
    answer->set_prompt_tokens(stats.prompt_tokens.value());
    answer->set_generated_tokens(stats.generated_tokens.value());
    answer->set_draining(lifecycle_.draining());
    return absl::OkStatus();
  };
  return (new Call(calls_, "GetLoad", context, request, response))->AnswerNow(job);
}

grpc::ServerUnaryReactor* OperatorService::Drain(grpc::CallbackServerContext* context,
                                                 const grpc::ByteBuffer* request,
                                                 grpc::ByteBuffer* response) {
  using Call = ShortCall<v1::DrainRequest, v1::DrainResponse>;
  const auto job = [&](const v1::DrainRequest& asked, v1::DrainResponse* answer) {
    const double limit =
        asked.has_limit_s() ? asked.limit_s() : calls_.serving.config().drain_limit_s;
    constexpr double kMaxS = 86400;
    if (!(limit >= 0 && limit <= kMaxS)) {
      return InvalidField(
          "limit_s", absl::StrCat("limit_s is ", limit, " but must be from 0 to ", kMaxS, "."));
    }
    answer->set_unfinished(static_cast<uint32_t>(calls_.serving.unfinished()));
    spdlog::warn("draining, as {} asked over gRPC: new calls are refused until a restart",
                 PeerOf(*context));
    lifecycle_.Drain(FromNow(limit));
    return absl::OkStatus();
  };
  return (new Call(calls_, "Drain", context, request, response))->AnswerNow(job);
}

}  // namespace baram::server
