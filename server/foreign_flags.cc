// Flags of other servers: see the header.
#include "server/foreign_flags.h"

#include "absl/strings/str_cat.h"
#include "server/text_piece.h"

namespace baram::server {
namespace {

// vLLM's and llama-server's names for things.
struct Foreign {
  std::string_view flag;
  std::string_view advice;
};
constexpr Foreign kNamedOtherwise[] = {
    {"-m", "--model"},
    {"-c", "--max-model-len"},
    {"--ctx-size", "--max-model-len"},
    {"--max-seq-len", "--max-model-len"},
    {"-t", "--threads"},
    {"-tb", "--threads"},
    {"--threads-batch", "--threads"},
    {"--threads-http", "--http-threads"},
    {"-np", "--max-num-seqs"},
    {"--parallel", "--max-num-seqs"},
    {"-b", "--max-num-batched-tokens"},
    {"--batch-size", "--max-num-batched-tokens"},
    {"-ub", "--max-num-batched-tokens"},
    {"--ubatch-size", "--max-num-batched-tokens"},
    {"-ngl", "--device"},
    {"--gpu-layers", "--device"},
    {"--n-gpu-layers", "--device"},
    {"-a", "--served-model-name"},
    {"--alias", "--served-model-name"},
    {"--chat-template-file", "--chat-template"},
    {"--host", "--grpc-listen, --http-listen and --metrics-listen (HOST:PORT)"},
    {"--port", "--grpc-listen, --http-listen and --metrics-listen (HOST:PORT)"},
    {"--metrics", "--metrics-listen"},
    {"-to", "--request-timeout"},
    {"--timeout", "--request-timeout"},
    {"--kv-cache-memory-bytes", "--kv-cache-bytes"},
    {"--num-gpu-blocks-override", "--kv-cache-bytes"},
    {"--swap-space", "--kv-cache-bytes"},
    {"--block-size", "--page-tokens"},
    {"--enable-prefix-caching", "--prefix-cache"},
    {"--no-enable-prefix-caching", "--no-prefix-cache"},
    {"--cache-prompt", "--prefix-cache"},
    {"--no-cache-prompt", "--no-prefix-cache"},
    {"--long-prefill-token-threshold", "--max-chunk-tokens"},
    {"--grpc-address", "--grpc-listen (HOST:PORT)"},
    {"--grpc-port", "--grpc-listen (HOST:PORT)"},
    {"--max-waiting", "--max-queued-requests"},
    {"--max-num-queued-reqs", "--max-queued-requests"},
    {"--max-num-queued-tokens", "--max-queued-tokens"},
    {"--scheduling-policy", "priority in each request (at least --min-priority)"},
    {"--allowed-origins", "--http-allowed-origins"},
    {"--uvicorn-log-level", "--log-level"},
    {"-lv", "--log-level"},
    {"--verbosity", "--log-level"},
    {"--log-verbosity", "--log-level"},
    {"--shutdown-timeout", "--drain-limit"},
    {"--max-tokens", "max_tokens in each request (--max-model-len limits it)"},
    {"-n", "max_tokens in each request (--max-model-len limits it)"},
    {"--predict", "max_tokens in each request (--max-model-len limits it)"},
    {"--n-predict", "max_tokens in each request (--max-model-len limits it)"},
    {"--temp", "temperature in each request"},
    {"--temperature", "temperature in each request"},
    {"--top-k", "top_k in each request"},
    {"--top-p", "top_p in each request"},
    {"--min-p", "min_p in each request"},
    {"--repeat-penalty", "repetition_penalty in each request"},
    {"--presence-penalty", "presence_penalty in each request"},
    {"--frequency-penalty", "frequency_penalty in each request"},
    {"--seed", "seed in each request"},
    {"--enable-force-include-usage", "stream_options.include_usage in each request"},
    {"--override-generation-config", "--generation-config"},
};

// Their flags that have no counterpart in baram, with the reason.
constexpr Foreign kNothing[] = {
    {"-hf", "baram downloads nothing; --model takes a folder"},
    {"--hf-repo", "baram downloads nothing; --model takes a folder"},
    {"--download-dir", "baram downloads nothing; --model takes a folder"},
    {"--revision", "baram downloads nothing; --model takes a folder"},
    {"--trust-remote-code", "baram never runs code from a model folder"},
    {"--tokenizer", "the tokenizer is the model folder's"},
    {"--chat-template-content-format", "the chat template shows which form of content it takes"},
    {"--load-format", "weights are safetensors"},
    {"--dtype", "weights and cache are bf16, and fp32 with --device ref"},
    {"--kv-cache-dtype", "the cache is bf16, and fp32 with --device ref"},
    {"--quantization", "quantized weights are not served yet"},
    {"-q", "quantized weights are not served yet"},
    {"--tensor-parallel-size", "one device serves a model so far"},
    {"-tp", "one device serves a model so far"},
    {"--pipeline-parallel-size", "one device serves a model so far"},
    {"--data-parallel-size", "one device serves a model so far"},
    {"--nnodes", "one device serves a model so far"},
    {"--node-rank", "one device serves a model so far"},
    {"--split-mode", "one device serves a model so far"},
    {"-sm", "one device serves a model so far"},
    {"--models-dir", "one process serves one model"},
    {"--models-max", "one process serves one model"},
    {"--api-key", "there are no keys yet; put a proxy that authenticates in front"},
    {"--ssl-keyfile", "there is no TLS yet; put a proxy that ends it in front"},
    {"--ssl-certfile", "there is no TLS yet; put a proxy that ends it in front"},
    {"--enable-lora", "adapters are not served yet"},
    {"--lora-modules", "adapters are not served yet"},
    {"--tool-call-parser", "tool calls are not served yet"},
    {"--enable-auto-tool-choice", "tool calls are not served yet"},
    {"--reasoning-parser", "reasoning stays in the text so far"},
    {"--reasoning-format", "reasoning stays in the text so far"},
    {"--allowed-local-media-path", "text alone is served"},
    {"--allowed-media-domains", "text alone is served"},
    {"--rope-scaling", "config.json decides"},
    {"--hf-overrides", "config.json decides"},
    {"--max-logprobs", "at most 20 are given for a token"},
    {"--flash-attn", "there is one attention"},
    {"-fa", "there is one attention"},
    {"--cont-batching", "requests are always batched as they come"},
    {"-cb", "requests are always batched as they come"},
    {"--enable-chunked-prefill",
     "long prompts are always read in chunks; --max-num-batched-tokens limits their size"},
    {"--max-seq-len-to-capture",
     "decode steps of any length are captured; --enforce-eager captures none"},
    {"--async-scheduling", "on a GPU the next step is always planned while one runs"},
    {"--kv-offloading-size", "the cache is in the device's memory alone"},
    {"--cache-ram", "the cache is in the device's memory alone"},
    {"--kv-events-config", "events of the cache are not published yet"},
    {"--otlp-traces-endpoint", "there is no tracing yet"},
    {"--collect-detailed-traces", "there is no tracing yet"},
    {"--disable-log-requests",
     "each call has one line, without content; --log-level warning hides it"},
    {"--enable-log-requests",
     "each call has one line, without content; --log-level warning hides it"},
    {"--max-log-len", "no content of requests is ever logged"},
    {"--offline", "baram never connects to other machines by itself"},
    {"--root-path", "paths begin at /; a proxy in front may take a prefix off"},
    {"--disable-log-stats", "statistics are at /metrics alone and never in the log"},
    {"--jinja", "chat templates are always Jinja"},
    {"--mlock", "weights are read once and not mapped"},
    {"--no-mmap", "weights are read once and not mapped"},
};

}  // namespace

std::vector<std::string_view> ForeignFlags() {
  std::vector<std::string_view> flags;
  for (const Foreign& foreign : kNamedOtherwise) flags.push_back(foreign.flag);
  for (const Foreign& foreign : kNothing) flags.push_back(foreign.flag);
  return flags;
}

std::string ForeignFlagAdvice(std::string_view flag) {
  for (const Foreign& foreign : kNamedOtherwise) {
    if (foreign.flag != flag) continue;
    return absl::StrCat("There is no ", Piece(flag), ". Use ", Piece(foreign.advice), " instead.");
  }
  for (const Foreign& foreign : kNothing) {
    if (foreign.flag != flag) continue;
    return absl::StrCat("There is no ", Piece(flag), ": ", Piece(foreign.advice), ".");
  }
  return "";
}

}  // namespace baram::server
