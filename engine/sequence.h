// Sequence: one output of a request while it is in the engine; LiveRequest: a request and its
// outputs. Engine thread only (I1).
#ifndef BARAM_ENGINE_SEQUENCE_H_
#define BARAM_ENGINE_SEQUENCE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/outbox.h"
#include "engine/page_pool.h"
#include "engine/request.h"

namespace baram {

struct LiveRequest;

enum class SequenceState : uint8_t {
  kWaiting,   // queued or preempted; holds pages only if its leader shared its prompt's
  kRunning,   // bound to a slot; may be paused
  kRetiring,  // ended and reported; kept until nothing of it is in flight (I3)
};

// A sequence's pages of one group, by block. Blocks before `first` slid out of the window, or were
// not needed when the prefix was found in the cache.
struct PageTable {
  std::vector<int32_t> pages;  // -1 before `first`
  int32_t first = 0;
  int32_t uploaded = 0;  // blocks that the device's table of the slot already has
};

struct Sequence {
  LiveRequest* live = nullptr;
  int32_t index = 0;  // which of the request's outputs
  int32_t prompt_tokens = 0;
  int32_t max_output = 0;  // limited by max_tokens and the context
  SequenceState state = SequenceState::kWaiting;

  // Prompt, then output; empty until it is first admitted. Without drawn tokens that are still in
  // flight.
  std::vector<int32_t> tokens;
  std::vector<PageTable> tables;  // [groups], all of the same length

  int32_t slot = -1;              // while it runs
  bool init_pending = false;      // the device has not been sent the binding to the slot yet
  bool device_has_token = false;  // its last planned row draws: the device has the next token
  bool token_set_aside = false;   // from the budget of the step being planned
  int32_t planned = 0;            // tokens whose keys and values are computed or in flight
  int32_t committed = 0;          // tokens whose keys and values are computed
  int32_t likely_cached = -1;     // see Scheduler::TokensToCompute; -1: not asked yet
  int32_t rows_in_flight = 0;
  int32_t draws_in_flight = 0;

  // How far its pages are published.
  bool publishes = true;
  int32_t published_blocks = 0;
  int32_t common_blocks = 0;  // leading ones that were in the index already
  PrefixNode published_node;

  bool paused = false;        // its ring has too little room, see Scheduler::HasRoom
  SteadyTime paused_since{};  // reset when its reader takes something
  int32_t paused_room = 0;    // room in its ring, when last checked
  int32_t preemptions = 0;
  uint64_t preempted_in_step = 0;
  SteadyTime first_token{}, last_token{};

  int32_t output_tokens() const {
    return tokens.empty() ? 0 : static_cast<int32_t>(tokens.size()) - prompt_tokens;
  }
  // Tokens it will have once everything in flight is committed.
  int32_t known() const { return static_cast<int32_t>(tokens.size()) + draws_in_flight; }
  int32_t remaining() const { return known() - planned; }
  bool wants_rows() const { return output_tokens() + draws_in_flight < max_output; }
  int32_t blocks() const { return static_cast<int32_t>(tables[0].pages.size()); }
  // Whether it runs or has pages, which other sequences may then take.
  bool holds() const { return state == SequenceState::kRunning || blocks() > 0; }
};

// Smaller runs first: by priority, then by arrival, then by output index.
struct Rank {
  int32_t priority = 0;
  uint64_t order = 0;
  int32_t index = 0;
  auto operator<=>(const Rank&) const = default;
};

struct LiveRequest {
  LiveRequest(Request wanted, std::shared_ptr<Outbox> box)
      : request(std::move(wanted)), outbox(std::move(box)), outputs(request.n) {}

  Request request;
  std::shared_ptr<Outbox> outbox;
  uint64_t order = 0;             // of arrival at the engine thread
  SteadyTime queued_at{};         // when it arrived there
  std::vector<Sequence> outputs;  // never resized
  int32_t unfinished = 0;
  FinishReason worst_end = FinishReason::kStop;  // of the outputs that have ended
  int32_t salt = -1;
  int32_t running = 0;          // of the outputs
  int32_t paused = 0;           // of the outputs
  bool queued = true;           // none of them runs: it counts toward the queue's bounds
  bool admitted = false;        // has run at least once
  bool prompt_counted = false;  // in the statistics
  // Until one output, the leader, has the pages of the prompt, the others wait to share them.
  bool prompt_shared = false;
  int32_t scores_sent = 0;  // prompt positions 1 .. scores_sent: never sent twice
  bool changed = false;     // has something for the reader since the last delivery

  int32_t prompt_tokens() const { return static_cast<int32_t>(request.prompt.size()); }
  bool scoring() const { return request.prompt_logprobs >= 0 && scores_sent < prompt_tokens() - 1; }
  const Sequence* leader() const;  // the first output that has not ended
};

Rank RankOf(const Sequence& sequence);
bool RankBefore(const Sequence& a, const Sequence& b);

// Lists of sequences are kept in order of rank.
void InsertByRank(std::vector<Sequence*>& list, Sequence& sequence);
void EraseByRank(std::vector<Sequence*>& list, const Sequence& sequence);  // must be in `list`

}  // namespace baram

#endif  // BARAM_ENGINE_SEQUENCE_H_
