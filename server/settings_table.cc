// The one table of settings.
#include "server/settings_table.h"

#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/setting_values.h"

namespace baram::server {
namespace {

constexpr double kMaxInt = std::numeric_limits<int32_t>::max();

const char* PowerOfTwo(double value) {
  const auto whole = static_cast<int64_t>(value);
  return (whole & (whole - 1)) == 0 ? nullptr : "a power of two";
}

const char* PromptAndReply(double value) {
  return value == 1 ? "at least 2: a prompt and a reply have a token each" : nullptr;
}

const char* Origin(std::string_view item) {
  return item == "*" || IsOrigin(item) ? nullptr
                                       : "an origin, as in https://app.example.com, or * for any";
}

}  // namespace

const std::vector<Group>& SettingsTable() {
  using C = Config;
  static const std::vector<Group> table = {
      {"Model",
       {{"model", Kind::kText, &C::model, 0, 0, "DIR", "required",
         "Folder of a model as Hugging Face lays it out: config.json, *.safetensors, "
         "tokenizer.json.",
         true},
        {"served-model-name", Kind::kList, &C::served_model_names, 0, 0, "NAME",
         "the folder's name",
         "Name that clients ask for. Repeat it for further names of the same model."},
        {"chat-template", Kind::kText, &C::chat_template, 0, 0, "FILE", "the folder's",
         "Jinja chat template to use instead of the model folder's.", true},
        {"generation-config", Kind::kChoice, &C::generation_config, 0, 0, "auto|none", "",
         "auto takes sampling defaults from generation_config.json; none starts from neutral ones. "
         "Its EOS ids count either way."}}},
      {"Device and engine",
       {{"device", Kind::kText, &C::device, 0, 0, "NAME", "",
         "cpu; cuda:0 or cuda:GPU-<uuid>, where the build has it; or ref: plain loops in fp32, "
         "slow, the definition of every result.",
         true},
        {"isa", Kind::kChoice, &C::isa, 0, 0, "avx2|avx512|avx512_bf16|amx", "the best there is",
         "Instruction set of the CPU device; results are the same with each.", true},
        {"threads", Kind::kNumber, &C::threads, 0, 1024, "N", "the CPUs this process may use",
         "Threads of the CPU device.", true},
        {"pin-threads", Kind::kSwitch, &C::pin_threads, 0, 0, "", "",
         "Bind each of them to a core. Only where nothing else runs on these cores.", true},
        {"max-model-len", Kind::kNumber, &C::max_model_len, 0, kMaxInt, "TOKENS",
         "the model's, as far as memory holds it", "Context: prompt and reply together.", true,
         PromptAndReply},
        {"kv-cache-bytes", Kind::kBytes, &C::kv_cache_bytes, 0, kMaxSettingBytes, "BYTES",
         "from the memory",
         "Memory for the KV cache; 4GiB and 500MB are understood. On a GPU it stands in for "
         "--gpu-memory-utilization; on a CPU it is, unless given, 2048 tokens for each of "
         "--max-num-seqs, or one context, within a quarter of the memory.",
         true},
        {"gpu-memory-utilization", Kind::kShare, &C::gpu_memory_utilization, 0.01, 1, "SHARE", "",
         "Of a GPU's memory, what this process may take in all: weights, work space, KV cache. "
         "Several servers on one GPU divide it so. Refused where less is free.",
         true},
        {"page-tokens", Kind::kNumber, &C::page_tokens, 0, 1024, "N", "the device's choice",
         "Tokens of a KV page, a power of two.", true, PowerOfTwo},
        {"max-num-seqs", Kind::kNumber, &C::max_num_seqs, 0, 65536, "N", "from the machine",
         "Sequences that run at once; further ones wait.", true},
        {"max-num-batched-tokens", Kind::kNumber, &C::max_num_batched_tokens, 0, 1 << 20, "TOKENS",
         "from the machine", "Tokens of one step: long prompts are cut into chunks of that.", true},
        {"mixed-step-tokens", Kind::kNumber, &C::mixed_step_tokens, 0, 1 << 20, "TOKENS",
         "128, or 2048 on a GPU",
         "Tokens of prompts in a step that also goes on with answers. Fewer: answers stream more "
         "smoothly while long prompts come in. More: those are answered sooner.",
         true},
        {"max-chunk-tokens", Kind::kNumber, &C::max_chunk_tokens, 0, 1 << 20, "TOKENS",
         "what the step has left",
         "Tokens of one prompt in one step. Fewer: short prompts behind a long one begin sooner, "
         "and the long one takes longer."},
        {"prefix-cache", Kind::kSwitch, &C::prefix_cache, 0, 0, "", "",
         "Keep the KV pages of past prompts for prompts that begin alike."},
        {"enforce-eager", Kind::kSwitch, &C::enforce_eager, 0, 0, "", "",
         "Start every kernel of a step by itself instead of replaying CUDA graphs: slower, for "
         "finding faults.",
         true}}},
      {"Listeners (HOST:PORT; port 0 takes a free one)",
       {{"grpc-listen", Kind::kEndpoint, &C::grpc_listen, 0, 0, "HOST:PORT", "", "gRPC, baram.v1."},
        {"http-listen", Kind::kEndpoint, &C::http_listen, 0, 0, "HOST:PORT|off", "",
         "HTTP as OpenAI's clients speak it."},
        {"metrics-listen", Kind::kEndpoint, &C::metrics_listen, 0, 0, "HOST:PORT|off", "",
         "/metrics for Prometheus, and the probes /startup, /ready and /live."},
        {"http-allowed-origins", Kind::kList, &C::http_allowed_origins, 0, 0, "ORIGIN", "none",
         "Origin whose web pages may call the HTTP API, as in https://app.example.com, or *. "
         "May be repeated.",
         false, nullptr, Origin}}},
      {"Limits",
       {{"max-body-bytes", Kind::kBytes, &C::max_body_bytes, 1024, 1LL << 30, "BYTES", "",
         "Largest HTTP body and gRPC message."},
        {"max-reply-bytes", Kind::kBytes, &C::max_reply_bytes, 1024, 1LL << 30, "BYTES", "",
         "Largest gRPC reply in one message (GenerateOnce, Tokenize). "
         "Clients take 4MiB unless they are told to take more."},
        {"max-http-reply-bytes", Kind::kBytes, &C::max_http_reply_bytes, 1024, 1LL << 34, "BYTES",
         "", "Largest HTTP answer that is not streamed."},
        {"max-prompt-bytes", Kind::kBytes, &C::max_prompt_bytes, 0, 4 << 20, "BYTES",
         "from the context",
         "Largest text that is tokenized, counted after the chat template. Unless given, 64 bytes "
         "for each token of the context, at least 256KiB and at most 4MiB.",
         true},
        {"max-n", Kind::kNumber, &C::max_n, 1, 128, "N", "", "Outputs of one request."},
        {"min-priority", Kind::kNumber, &C::min_priority, INT32_MIN, 0, "N", "",
         "The most urgent priority that a call may name. Lower ones run first, and take running "
         "calls' places; a call that names none has 0."},
        {"max-queued-requests", Kind::kNumber, &C::max_queued_requests, 1, 1 << 20, "N", "",
         "Requests that wait to run; further ones are refused and may be sent again. "
         "Each prompt of a call is one, and a call has at most so many."},
        {"max-queued-tokens", Kind::kNumber, &C::max_queued_tokens, 1, 1e12, "TOKENS", "",
         "Their prompts together, and log-probabilities asked for of prompts."},
        {"max-connections", Kind::kNumber, &C::max_connections, 1, 1 << 17, "N", "",
         "Connections at once, of HTTP and of gRPC each."},
        {"max-streams", Kind::kNumber, &C::max_streams, 1, 1 << 20, "N", "",
         "Calls at once on one gRPC connection."},
        {"max-header-bytes", Kind::kBytes, &C::max_header_bytes, 1024, 1 << 20, "BYTES", "",
         "Request line and headers of an HTTP request, metadata of a gRPC call."},
        {"stream-tokens", Kind::kNumber, &C::stream_tokens, 1, 1 << 20, "TOKENS", "",
         "Tokens an output may be ahead of its reader before it pauses."},
        {"stream-bytes", Kind::kBytes, &C::stream_bytes, 1024, 1 << 30, "BYTES", "",
         "The same in bytes of text, for a whole reply."},
        {"slow-reader", Kind::kSeconds, &C::slow_reader_s, 0.1, 86400, "SECONDS", "",
         "A client that takes nothing for that long is cut off; so is one that has not taken what "
         "was sent at once after that long and as long again for each MiB."},
        {"request-timeout", Kind::kSeconds, &C::request_timeout_s, 0.1, 86400, "SECONDS", "",
         "Time of a call that names none: over gRPC by its deadline, over HTTP in the header "
         "X-Request-Timeout, in seconds. At most --max-request-timeout."},
        {"max-request-timeout", Kind::kSeconds, &C::max_request_timeout_s, 0.1, 604800, "SECONDS",
         "",
         "Most time a call gets: a later deadline, and a larger X-Request-Timeout, is cut to it."},
        {"text-threads", Kind::kNumber, &C::text_threads, 1, 256, "N", "",
         "Threads that tokenize, render chat templates and write long replies.", true},
        {"text-queue", Kind::kNumber, &C::text_queue, 1, 1 << 20, "N", "",
         "Texts that may wait for them to be read, 256 MiB at most together; more are refused."},
        {"http-threads", Kind::kNumber, &C::http_threads, 1, 256, "N", "",
         "Threads of the HTTP listeners."}}},
      {"Stopping",
       {{"drain-delay", Kind::kSeconds, &C::drain_delay_s, 0, 3600, "SECONDS", "",
         "After SIGTERM: not ready, but calls are still taken, until load balancers have seen it. "
         "Ctrl-C skips it, and so does a drain that was asked for before."},
        {"drain-limit", Kind::kSeconds, &C::drain_limit_s, 0, 86400, "SECONDS", "",
         "Then running calls get that long to finish. A further signal stops at once, unless it "
         "comes within a second of the first."}}},
      {"Log",
       {{"log-format", Kind::kChoice, &C::log_format, 0, 0, "text|json", "",
         "Lines for people, or one JSON object a line. Never any content of requests."},
        {"log-level", Kind::kChoice, &C::log_level, 0, 0, "debug|info|warning|error", "",
         "The least that is logged."}}},
  };
  return table;
}

bool Takes(Command command, const Setting& setting) {
  return command == Command::kServe || setting.inspect;
}

std::vector<const Setting*> SettingsOf(Command command) {
  std::vector<const Setting*> settings;
  for (const Group& group : SettingsTable()) {
    for (const Setting& s : group.settings) {
      if (Takes(command, s)) settings.push_back(&s);
    }
  }
  return settings;
}

NamedSetting FindNamed(Command command, std::string_view name) {
  const bool negated = name.starts_with("no-");
  if (negated) name.remove_prefix(3);
  for (const Setting* s : SettingsOf(command)) {
    if (s->name == name && (!negated || s->kind == Kind::kSwitch)) return {s, negated};
  }
  return {};
}

std::string Variable(std::string_view name) {
  return absl::StrCat("BARAM_",
                      absl::AsciiStrToUpper(absl::StrReplaceAll(std::string(name), {{"-", "_"}})));
}

}  // namespace baram::server
