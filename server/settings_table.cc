// The table of all settings.
#include "server/settings_table.h"

#include <bit>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/setting_values.h"
#include "server/text_piece.h"

namespace baram::server {
namespace {

constexpr double kMaxInt = std::numeric_limits<int32_t>::max();

const char* PowerOfTwo(double value) {
  return value == 0 || std::has_single_bit(static_cast<uint64_t>(value)) ? nullptr
                                                                         : "a power of two";
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
       {{.name = "model",
         .kind = Kind::kText,
         .member = &C::model,
         .value = "DIR",
         .help = "Folder of a model as Hugging Face lays it out: config.json, *.safetensors, "
                 "tokenizer.json.",
         .inspect = true,
         .required = true},
        {.name = "served-model-name",
         .kind = Kind::kList,
         .member = &C::served_model_names,
         .value = "NAME",
         .unset = "the folder's name",
         .help = "Name that clients ask for. Repeat it for further names of the same model; in a "
                 "variable or a file separate them by commas."},
        {.name = "chat-template",
         .kind = Kind::kText,
         .member = &C::chat_template,
         .value = "FILE",
         .unset = "the folder's",
         .help = "Jinja chat template to use instead of the model folder's.",
         .inspect = true},
        {.name = "generation-config",
         .kind = Kind::kChoice,
         .member = &C::generation_config,
         .value = "auto|none",
         .help = "auto takes sampling defaults from generation_config.json; none starts from "
                 "neutral ones. Its EOS ids count either way."}}},
      {"Device and engine",
       {{.name = "device",
         .kind = Kind::kText,
         .member = &C::device,
         .value = "NAME",
         .help = "cpu; cuda:0 or cuda:GPU-<uuid>, if built in; or ref: plain fp32 loops, slow, the "
                 "reference for every result.",
         .inspect = true},
        {.name = "isa",
         .kind = Kind::kChoice,
         .member = &C::isa,
         .value = "avx2|avx512|avx512_bf16|amx",
         .unset = "the fastest there is",
         .help = "Instruction set of the CPU device. The results are the same with each.",
         .inspect = true},
        {.name = "threads",
         .kind = Kind::kNumber,
         .member = &C::threads,
         .max = 512,
         .value = "N",
         .unset = "the cores this process may use",
         .help = "Threads of the CPU device, one per physical core: hyper-threads share a core's "
                 "arithmetic units.",
         .inspect = true},
        {.name = "pin-threads",
         .kind = Kind::kSwitch,
         .member = &C::pin_threads,
         .help = "Bind each thread of the CPU device to a core. Use it only if nothing else runs "
                 "on these cores. Ignored if a CPU quota is below the number of CPUs.",
         .inspect = true},
        {.name = "max-model-len",
         .kind = Kind::kNumber,
         .member = &C::max_model_len,
         .max = kMaxInt,
         .value = "TOKENS",
         .unset = "the model's, as far as memory holds it",
         .help = "Context: prompt and reply together. Lowered, with a warning, to what the KV "
                 "cache holds.",
         .inspect = true,
         .check = PromptAndReply},
        {.name = "kv-cache-bytes",
         .kind = Kind::kBytes,
         .member = &C::kv_cache_bytes,
         .max = kMaxSettingBytes,
         .value = "BYTES",
         .unset = "from the memory",
         .help =
             "Memory for the KV cache, such as 4GiB or 500MB. On a GPU it replaces "
             "--gpu-memory-utilization. Default on a CPU: 2048 tokens for each of --max-num-seqs, "
             "or one whole context if that is more, but at most a quarter of the memory.",
         .inspect = true},
        {.name = "gpu-memory-utilization",
         .kind = Kind::kShare,
         .member = &C::gpu_memory_utilization,
         .min = 0.01,
         .max = 1,
         .value = "SHARE",
         .help =
             "Share of a GPU's memory that this process may use in total: weights, work space, KV "
             "cache. Servers on the same GPU divide it. The server does not start if less is free.",
         .inspect = true},
        {.name = "page-tokens",
         .kind = Kind::kNumber,
         .member = &C::page_tokens,
         .max = 1024,
         .value = "N",
         .unset = "the device's choice",
         .help = "Tokens of a KV page, a power of two.",
         .inspect = true,
         .check = PowerOfTwo},
        {.name = "max-num-seqs",
         .kind = Kind::kNumber,
         .member = &C::max_num_seqs,
         .max = 65536,
         .value = "N",
         .unset = "from the machine",
         .help = "Sequences that run at once; further ones wait. Default on a CPU: 16 per thread, "
                 "from 32 to 256, and above 32 only if the KV cache holds 512 tokens for each; on "
                 "a GPU: 256.",
         .inspect = true},
        {.name = "max-num-batched-tokens",
         .kind = Kind::kNumber,
         .member = &C::max_num_batched_tokens,
         .max = 1 << 20,
         .value = "TOKENS",
         .unset = "from the machine",
         .help = "Tokens of one step; longer prompts are cut into chunks. Default on a CPU: 64 per "
                 "thread, or 16 without AMX, from 512 to 4096, fewer if memory is short; on a GPU: "
                 "8192.",
         .inspect = true},
        {.name = "mixed-step-tokens",
         .kind = Kind::kNumber,
         .member = &C::mixed_step_tokens,
         .max = 1 << 20,
         .value = "TOKENS",
         .unset = "from the machine",
         .help = "Prompt tokens in a step that also continues running answers. Lower: smoother "
                 "streams while long prompts arrive. Higher: those prompts are answered sooner. "
                 "Default: a quarter of the default of --max-num-batched-tokens.",
         .inspect = true},
        {.name = "max-chunk-tokens",
         .kind = Kind::kNumber,
         .member = &C::max_chunk_tokens,
         .max = 1 << 20,
         .value = "TOKENS",
         .unset = "what the step has left",
         .help = "Tokens of one prompt in one step. Lower: more prompts are read side by side."},
        {.name = "short-prompt-share",
         .kind = Kind::kShare,
         .member = &C::short_prompt_share,
         .max = 0.9,
         .value = "SHARE",
         .help = "Share of a step that a prompt too long for it leaves to prompts of half its "
                 "length or less that wait behind it. 0: prompts are read strictly in order."},
        {.name = "max-logit-rows",
         .kind = Kind::kNumber,
         .member = &C::max_logit_rows,
         .min = 1,
         .max = 1 << 20,
         .value = "TOKENS",
         .help = "Prompt tokens per step for which log-probabilities are computed: limits how fast "
                 "such prompts are processed.",
         .inspect = true},
        {.name = "prefix-cache",
         .kind = Kind::kSwitch,
         .member = &C::prefix_cache,
         .help = "Keep the KV pages of past prompts for prompts that begin the same way."},
        {.name = "enforce-eager",
         .kind = Kind::kSwitch,
         .member = &C::enforce_eager,
         .help = "Launch every kernel of a step instead of replaying CUDA graphs: slower, for "
                 "finding faults.",
         .inspect = true}}},
      {"Listeners (HOST:PORT; port 0 takes a free one)",
       {{.name = "grpc-listen",
         .kind = Kind::kEndpoint,
         .member = &C::grpc_listen,
         .value = "HOST:PORT",
         .help = "gRPC, baram.v1."},
        {.name = "http-listen",
         .kind = Kind::kEndpoint,
         .member = &C::http_listen,
         .value = "HOST:PORT|off",
         .help = "OpenAI-compatible HTTP API.",
         .may_be_off = true},
        {.name = "metrics-listen",
         .kind = Kind::kEndpoint,
         .member = &C::metrics_listen,
         .value = "HOST:PORT|off",
         .help = "/metrics for Prometheus, and the probes /startup, /ready and /live.",
         .may_be_off = true},
        {.name = "http-allowed-origins",
         .kind = Kind::kList,
         .member = &C::http_allowed_origins,
         .value = "ORIGIN",
         .unset = "none",
         .help = "Origin whose web pages may call the HTTP API, such as https://app.example.com, "
                 "or *. May be repeated.",
         .check_item = Origin}}},
      {"Limits",
       {{.name = "max-body-bytes",
         .kind = Kind::kBytes,
         .member = &C::max_body_bytes,
         .min = 1024,
         .max = 1LL << 30,
         .value = "BYTES",
         .help = "Largest HTTP body and gRPC message."},
        {.name = "max-reply-bytes",
         .kind = Kind::kBytes,
         .member = &C::max_reply_bytes,
         .min = 1024,
         .max = 1LL << 30,
         .value = "BYTES",
         .help = "Largest gRPC reply in one message (GenerateOnce, Tokenize). Clients accept 4MiB "
                 "unless configured otherwise."},
        {.name = "max-http-reply-bytes",
         .kind = Kind::kBytes,
         .member = &C::max_http_reply_bytes,
         .min = 1024,
         .max = 1LL << 34,
         .value = "BYTES",
         .help = "Largest HTTP answer that is not streamed, and the most that a stream repeats of "
                 "its prompts (echo, return_token_ids)."},
        {.name = "max-prompt-bytes",
         .kind = Kind::kBytes,
         .member = &C::max_prompt_bytes,
         .max = 4 << 20,
         .value = "BYTES",
         .unset = "from the context",
         .help = "Largest text that is tokenized, counted after the chat template. Default: 64 "
                 "bytes for each token of the context, from 256KiB to 4MiB.",
         .inspect = true},
        {.name = "max-n",
         .kind = Kind::kNumber,
         .member = &C::max_n,
         .min = 1,
         .max = 128,
         .value = "N",
         .help = "Outputs of one request."},
        {.name = "min-priority",
         .kind = Kind::kNumber,
         .member = &C::min_priority,
         .min = INT32_MIN,
         .value = "N",
         .help = "Most urgent priority that a call may request. Lower values run first and may "
                 "preempt running calls; the default of calls is 0."},
        {.name = "max-queued-requests",
         .kind = Kind::kNumber,
         .member = &C::max_queued_requests,
         .min = 1,
         .max = 1 << 20,
         .value = "N",
         .help = "Requests that may wait; further ones are refused and may be retried. Each prompt "
                 "of a call counts as one, so a call can have no more prompts than this. A quarter "
                 "of this and of --max-queued-tokens is reserved for urgent calls: those with a "
                 "negative priority or, if --min-priority allows none, those of priority 0."},
        {.name = "max-queued-tokens",
         .kind = Kind::kNumber,
         .member = &C::max_queued_tokens,
         .min = 1,
         .max = 1e12,
         .value = "TOKENS",
         .help = "Prompt tokens of all waiting requests together; requested prompt "
                 "log-probabilities count too."},
        {.name = "max-connections",
         .kind = Kind::kNumber,
         .member = &C::max_connections,
         .min = 1,
         .max = 1 << 17,
         .value = "N",
         .help = "Concurrent connections, for HTTP and gRPC each."},
        {.name = "max-streams",
         .kind = Kind::kNumber,
         .member = &C::max_streams,
         .min = 1,
         .max = 1 << 20,
         .value = "N",
         .help = "Concurrent calls on one gRPC connection."},
        {.name = "max-header-bytes",
         .kind = Kind::kBytes,
         .member = &C::max_header_bytes,
         .min = 1024,
         .max = 60 << 10,  // with what is read at once, all that Beast's 16-bit lengths hold
         .value = "BYTES",
         .help = "Request line and headers of an HTTP request, metadata of a gRPC call."},
        {.name = "stream-tokens",
         .kind = Kind::kNumber,
         .member = &C::stream_tokens,
         .min = 1,
         .max = 1 << 20,
         .value = "TOKENS",
         .help = "Tokens that an output may be ahead of its reader before it pauses."},
        {.name = "stream-bytes",
         .kind = Kind::kBytes,
         .member = &C::stream_bytes,
         .min = 1024,
         .max = 1 << 30,
         .value = "BYTES",
         .help = "Bytes of text that a reply may be ahead of its reader before its outputs pause."},
        {.name = "slow-reader",
         .kind = Kind::kSeconds,
         .member = &C::slow_reader_s,
         .min = 0.1,
         .max = 86400,
         .value = "SECONDS",
         .help = "A client is disconnected if it reads nothing for this long, or has not read a "
                 "whole piece after this long plus the same again for each MiB of it. Of a gRPC "
                 "answer in one message only the latter counts."},
        {.name = "request-timeout",
         .kind = Kind::kSeconds,
         .member = &C::request_timeout_s,
         .min = 0.1,
         .max = 86400,
         .value = "SECONDS",
         .help = "Time limit of a call that sets none: a gRPC deadline, or the HTTP header "
                 "X-Request-Timeout in seconds. At most --max-request-timeout."},
        {.name = "max-request-timeout",
         .kind = Kind::kSeconds,
         .member = &C::max_request_timeout_s,
         .min = 0.1,
         .max = 604800,
         .value = "SECONDS",
         .help = "Longest time limit of a call: a later deadline or a larger X-Request-Timeout is "
                 "reduced to it."},
        {.name = "text-threads",
         .kind = Kind::kNumber,
         .member = &C::text_threads,
         .min = 1,
         .max = 256,
         .value = "N",
         .help = "Threads that tokenize, render chat templates and write long replies.",
         .inspect = true},
        {.name = "text-queue",
         .kind = Kind::kNumber,
         .member = &C::text_queue,
         .min = 1,
         .max = 1 << 20,
         .value = "N",
         .help = "Texts that may wait to be tokenized or rendered; further ones are refused. Their "
                 "total is limited to 256 MiB."},
        {.name = "http-threads",
         .kind = Kind::kNumber,
         .member = &C::http_threads,
         .min = 1,
         .max = 256,
         .value = "N",
         .help = "Threads of the --http-listen listener."}}},
      {"Stopping",
       {{.name = "drain-delay",
         .kind = Kind::kSeconds,
         .member = &C::drain_delay_s,
         .max = 3600,
         .value = "SECONDS",
         .help = "After SIGTERM the server is not ready but accepts calls for this long, until "
                 "load balancers have noticed. Ctrl-C and an earlier Operator.Drain skip it."},
        {.name = "drain-limit",
         .kind = Kind::kSeconds,
         .member = &C::drain_limit_s,
         .max = 86400,
         .value = "SECONDS",
         .help = "Time for running calls to finish once new ones are refused. A further signal "
                 "stops at once, unless it comes within a second of the first."}}},
      {"Log",
       {{.name = "log-format",
         .kind = Kind::kChoice,
         .member = &C::log_format,
         .value = "text|json",
         .help = "Lines of text, or JSON objects, one per line. Never any content of requests."},
        {.name = "log-level",
         .kind = Kind::kChoice,
         .member = &C::log_level,
         .value = "debug|info|warning|error",
         .help = "Lowest level that is logged."}}},
  };
  return table;
}

std::vector<const Setting*> AllSettings() {
  std::vector<const Setting*> settings;
  for (const Group& group : SettingsTable()) {
    for (const Setting& s : group.settings) settings.push_back(&s);
  }
  return settings;
}

NamedSetting FindNamed(std::string_view name) {
  const bool negated = name.starts_with("no-");
  if (negated) name.remove_prefix(3);
  for (const Setting* s : AllSettings()) {
    if (s->name == name && (!negated || s->kind == Kind::kSwitch)) return {s, negated};
  }
  return {};
}

std::string Variable(std::string_view name) {
  return absl::StrCat("BARAM_",
                      absl::AsciiStrToUpper(absl::StrReplaceAll(Piece(name), {{"-", "_"}})));
}

}  // namespace baram::server
