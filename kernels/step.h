// What one step of the engine asks of a device, and what it brings back.
//
// The device keeps, for every slot, the state of one sequence: its length, last token, page tables,
// penalty counts and sampling parameters. A step uploads only what changed (StepInput); the device
// expands it into flat arrays (StepView) that the ops read. All of it is plain data.
#ifndef BARAM_KERNELS_STEP_H_
#define BARAM_KERNELS_STEP_H_

#include <algorithm>
#include <cstdint>
#include <span>

namespace baram {

inline constexpr int kMaxTopLogprobs = 20;    // alternatives reported per token
inline constexpr int kMaxKvGroups = 8;        // page tables a sequence may have
inline constexpr int kMaxBiasedTokens = 300;  // logit_bias entries of a request, OpenAI's limit
inline constexpr int kMaxStopIds = 64;        // ids masked until min_tokens is reached

// Per-request sampling. Meaning and order of application are vLLM's: bias and masks, penalties,
// temperature, min-p, top-k, top-p, draw. Ranges are checked by the server, not here.
struct SamplingParams {
  float temperature = 1.0f;         // >= 0; 0: greedy, ties go to the smallest id
  float top_p = 1.0f;               // (0, 1]
  int32_t top_k = 0;                // >= 0; 0: off
  float min_p = 0.0f;               // [0, 1]
  float repetition_penalty = 1.0f;  // > 0 and not denormal; over prompt and output
  float presence_penalty = 0.0f;    // over output
  float frequency_penalty = 0.0f;   // over output
  uint64_t seed = 0;
  int32_t output_index = 0;  // which of the n outputs; part of the random key
  int32_t logprobs = -1;     // -1: none; 0: the chosen token's; up to kMaxTopLogprobs
  int32_t min_tokens = 0;    // stop_ids are masked while fewer were generated

  constexpr bool NeedsCounts() const {
    return repetition_penalty != 1.0f || presence_penalty != 0.0f || frequency_penalty != 0.0f;
  }
};

struct TokenBias {
  int32_t token;
  float bias;
};

// (Re)binds a slot to a sequence and empties the slot's page tables. At most one per slot and step.
struct SlotInit {
  int32_t slot = 0;
  int32_t length = 0;         // tokens whose KV the prefix pages already hold
  int32_t prompt_tokens = 0;  // how many of the sequence's tokens are prompt
  int32_t generated = 0;      // how many were generated, and are not drawn again
  SamplingParams sampling;
  std::span<const int32_t> tokens;  // prompt, then output so far; may be empty unless NeedsCounts()
  std::span<const TokenBias> bias;  // at most kMaxBiasedTokens
  std::span<const int32_t> stop_ids;  // at most kMaxStopIds
};

// page_tables[group][slot][index] = page, after the step's inits and before its rows run. At most
// one per entry and step: a device applies them in any order.
struct PageDelta {
  int32_t slot;
  int32_t group;
  int32_t index;
  int32_t page;
};

// One sequence's share of a step: its next `count` tokens. Positions are length[slot] + i. At most
// one per slot and step.
struct Row {
  int32_t slot = 0;
  int32_t count = 1;
  // True: the single token is the one the device drew last for this slot (the host may not know it
  // yet). False: the tokens are the next `count` of StepInput::tokens.
  bool continues = false;
  // The row's outputs. First the log-probabilities of the successors of its first `scores` tokens:
  // these successors are the next `scores` of StepInput::targets. Then, if it draws, one token
  // sampled from the logits of its last token. The chunk that ends a prompt does both if the
  // prompt's log-probabilities are wanted.
  int32_t scores = 0;
  bool draws = false;
};

// Everything one step uploads. Views must stay valid until Device::BeginStep returns.
struct StepInput {
  std::span<const SlotInit> inits;
  std::span<const PageDelta> page_deltas;
  std::span<const Row> rows;         // rows that continue come first
  std::span<const int32_t> tokens;   // prompt tokens of the rows that do not continue, in row order
  std::span<const int32_t> targets;  // successors of the scored tokens, in row order
  // For a device with graphs, whose launches have fixed shapes: runs the step as if it had this
  // many rows. 0: no padding. Otherwise at least the number of rows, at most max_step_tokens and
  // max_step_outputs, and every row is one token that is drawn from and not scored.
  int32_t padded_rows = 0;
};

// A step as the ops see it: device pointers at fixed addresses, valid until the next BeginStep.
//
// In a padded step (StepInput::padded_rows) `tokens` and `outputs` count the padding, which comes
// last: tokens of id 0, position 0 and slot -1, each its own output. Activations of padding may be
// anything, NaN included, and reach no other row: StoreKv skips padding, Attend computes `rows`
// rows, Sample is given live_outputs rows at most (see Outputs).
struct StepView {
  int32_t tokens = 0;
  int32_t rows = 0;                         // without padding
  int32_t outputs = 0;                      // rows of the logits
  int32_t live_outputs = 0;                 // of these, without padding
  const int32_t* token_ids = nullptr;       // [tokens]
  const int32_t* positions = nullptr;       // [tokens]
  const int32_t* token_slots = nullptr;     // [tokens], -1: padding
  const int32_t* row_begin = nullptr;       // [rows + 1] first token of each row
  const int32_t* row_slots = nullptr;       // [rows]
  const int32_t* output_tokens = nullptr;   // [outputs] index of the token that produces the logits
  const int32_t* output_slots = nullptr;    // [outputs]
  const int32_t* output_targets = nullptr;  // [outputs] token to score, or -1: draw
  // Per group: [slots, max_pages_per_slot] page ids.
  const int32_t* page_tables[kMaxKvGroups] = {};
  int32_t max_pages_per_slot = 0;

  // The step without its padding and with only outputs [begin, begin + count), which are not of
  // padding, for Sample.
  StepView Outputs(int32_t begin, int32_t count) const {
    StepView part = *this;
    part.tokens -= outputs - live_outputs;
    part.outputs = part.live_outputs = count;
    part.output_tokens += begin;
    part.output_slots += begin;
    part.output_targets += begin;
    return part;
  }
};

enum ResultFlags : uint32_t {
  kResultOk = 0,
  kResultNonFinite = 1,  // a logit is NaN or +infinity, or no token is allowed
};

// The outcome of one row of logits, in the order of StepView::output_tokens. Beyond `token` and
// `flags`, filled for targets, and for draws if SamplingParams::logprobs >= 0.
struct TokenResult {
  int32_t token = -1;  // drawn, or the scored target
  uint32_t flags = kResultOk;
  int32_t rank = 0;   // 1 is the most likely; ties count against the token
  float logprob = 0;  // of the raw logits
  int32_t top_count = 0;
  int32_t top_ids[kMaxTopLogprobs];
  float top_logprobs[kMaxTopLogprobs];  // descending, smallest id first among equals
};

// What the device reserves for slots, fixed when the engine starts.
struct SlotShape {
  int32_t slots = 0;
  int32_t groups = 0;
  int32_t max_pages_per_slot = 0;
  int32_t vocab_size = 0;
  int32_t max_step_tokens = 0;   // largest StepView::tokens
  int32_t max_step_outputs = 0;  // largest StepView::outputs
  int32_t logit_rows = 0;        // outputs whose logits are computed and sampled at a time; 0: all

  int32_t LogitRows() const {
    return logit_rows > 0 ? std::min(logit_rows, max_step_outputs) : max_step_outputs;
  }
  // Entries of all page tables; at most kMaxTableEntries.
  int64_t TableEntries() const { return int64_t{slots} * groups * max_pages_per_slot; }
};
// Devices may count entries in 32 bits.
inline constexpr int64_t kMaxTableEntries = INT32_MAX;

}  // namespace baram

#endif  // BARAM_KERNELS_STEP_H_
