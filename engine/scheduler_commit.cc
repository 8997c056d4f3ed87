// Scheduler::Commit: results, published pages, endings.
#include <algorithm>
#include <optional>
#include <ranges>
#include <utility>

#include "engine/scheduler.h"
#include "kernels/check.h"

namespace baram {

void Scheduler::Commit(Batch& batch, SteadyTime now) {
  Check(steps_in_flight_ > 0, "only a planned step is committed");
  --steps_in_flight_;
  size_t next = 0;
  for (const PlannedRow& planned : batch.planned()) {
    const size_t count = planned.row.scores + (planned.row.draws ? 1 : 0);
    CommitRow(planned, std::span(batch.results).subspan(next, count), now);
    next += count;
  }
  stats_.generated_tokens.Add(std::exchange(drawn_in_step_, 0));
  stats_.steps.Add();
  stats_.device_busy_ns.Add(static_cast<uint64_t>(batch.time.busy_s * 1e9));
  if (batch.follows) stats_.device_gap_ns.Add(static_cast<uint64_t>(batch.time.gap_s * 1e9));
  // A step that was planned ahead begins when the one before it ends.
  stats_.step_time.Observe(SecondsBetween(std::max(batch.planned_at, last_commit_), now));
  last_commit_ = now;
  UpdateGauges();
}

void Scheduler::CommitRow(const PlannedRow& planned, std::span<const TokenResult> results,
                          SteadyTime now) {
  const Row& row = planned.row;
  Sequence& sequence = *planned.sequence;
  LiveRequest& live = *sequence.live;
  --sequence.rows_in_flight;
  if (row.draws) --sequence.draws_in_flight;
  if (sequence.state == SequenceState::kRetiring) return;
  const bool finite = std::ranges::none_of(
      results, [](const TokenResult& result) { return (result.flags & kResultNonFinite) != 0; });
  if (!finite) {
    stats_.nonfinite_rows.Add();
    UnpublishPages(sequence);
    EndOutput(sequence, {.reason = FinishReason::kFailed, .message = "internal: non-finite logits"},
              now);
    return;
  }
  if (planned.begin + row.count >= sequence.prompt_tokens) CountPrompt(live);
  // A preempted sequence's tokens still count; its pages are gone.
  if (sequence.state == SequenceState::kRunning) {
    sequence.committed += row.count;
    PublishPages(sequence);
    const bool prompt_done = sequence.committed >= sequence.prompt_tokens;
    if (!live.prompt_shared && prompt_done) SharePrompt(sequence);
    SlideWindows(sequence);
  }
  CommitScores(planned, results);
  if (row.draws) CommitToken(sequence, results.back(), now);
}

void Scheduler::CommitScores(const PlannedRow& planned, std::span<const TokenResult> results) {
  LiveRequest& live = *planned.sequence->live;
  for (int32_t i = 0; i < planned.row.scores; ++i) {
    Check(planned.begin + i == live.scores_sent, "prompt scores come in order and once");
    live.outbox->PushPromptScore(results[i]);
    ++live.scores_sent;
    SetChanged(live);
  }
}

void Scheduler::CommitToken(Sequence& sequence, const TokenResult& result, SteadyTime now) {
  LiveRequest& live = *sequence.live;
  if (live.outbox->stopped(sequence.index)) {
    EndOutput(sequence, {.reason = FinishReason::kStop}, now);
    return;
  }
  const bool may_stop = sequence.output_tokens() >= live.request.sampling.min_tokens;
  sequence.tokens.push_back(result.token);
  live.outbox->Push(sequence.index, result);
  SetChanged(live);
  ++drawn_in_step_;
  if (sequence.first_token == SteadyTime{}) {
    if (live.outbox->timeline().first_token == SteadyTime{}) {
      live.outbox->SetFirstToken(now);
      stats_.ttft.Observe(SecondsBetween(live.request.arrival, now));
    }
    sequence.first_token = now;
  } else {
    stats_.inter_token.Observe(SecondsBetween(sequence.last_token, now));
  }
  sequence.last_token = now;

  const std::vector<int32_t>& stop_ids = live.request.stop_ids;
  if (may_stop && std::ranges::find(stop_ids, result.token) != stop_ids.end()) {
    EndOutput(sequence, {.reason = FinishReason::kStop, .stop_id = result.token}, now);
  } else if (sequence.output_tokens() >= sequence.max_output) {
    EndOutput(sequence, {.reason = FinishReason::kLength}, now);
  }
}

// Full pages of committed tokens enter the index (I4). If an equal prefix was published in the
// meantime, its page replaces ours, and the device is informed with the sequence's next row.
void Scheduler::PublishPages(Sequence& sequence) {
  const int32_t page_tokens = pool_.page_tokens();
  while (sequence.publishes &&
         (sequence.published_blocks + 1) * page_tokens <= sequence.committed) {
    const int32_t block = sequence.published_blocks;
    for (int32_t group = 0; group < groups(); ++group) {
      block_pages_[group] = sequence.tables[group].pages[block];
    }
    const std::span<const int32_t> ids(sequence.tokens.data() + int64_t{block} * page_tokens,
                                       page_tokens);
    const std::optional<PagePool::Published> published =
        pool_.Publish(sequence.live->salt, sequence.published_node, ids, block_pages_);
    if (!published) {
      sequence.publishes = false;
      return;
    }
    for (int32_t group = 0; group < groups(); ++group) {
      PageTable& table = sequence.tables[group];
      if (table.pages[block] == block_pages_[group]) continue;
      table.pages[block] = block_pages_[group];
      table.uploaded = std::min(table.uploaded, block);
    }
    if (published->known && sequence.common_blocks == block) ++sequence.common_blocks;
    sequence.published_node = published->node;
    ++sequence.published_blocks;
  }
}

// Once per request, although it may be preempted before its prompt is shared and compute it again.
void Scheduler::CountPrompt(LiveRequest& live) {
  if (std::exchange(live.prompt_counted, true)) return;
  const int32_t cached = std::max(0, live.outbox->cached_tokens());
  stats_.prompt_tokens.Add(live.prompt_tokens());
  stats_.computed_prompt_tokens.Add(live.prompt_tokens() - cached);
  stats_.cached_prompt_tokens.Add(cached);
}

// The cause of the non-finite logits may be in any of its pages, and may have gone unnoticed when
// they were published: only the last chunk of a prompt has logits. No later request may find those
// pages.
void Scheduler::UnpublishPages(const Sequence& sequence) {
  if (std::ssize(sequence.tokens) < pool_.page_tokens()) return;
  pool_.Unpublish(sequence.live->salt, std::span(sequence.tokens).first(pool_.page_tokens()));
}

// The request's other outputs take references on the full pages of the prompt. Each computes at
// least the prompt's last token itself, to draw from it.
void Scheduler::SharePrompt(Sequence& leader) {
  LiveRequest& live = *leader.live;
  live.prompt_shared = true;
  followers_ -= live.unfinished - 1;
  const int32_t blocks = (leader.prompt_tokens - 1) / pool_.page_tokens();
  if (blocks == 0) return;
  const int32_t length = blocks * pool_.page_tokens();
  for (Sequence& follower : live.outputs) {
    if (&follower == &leader || follower.state != SequenceState::kWaiting) continue;
    BeginTables(follower);
    InsertByRank(holders_, follower);
    for (int32_t group = 0; group < groups(); ++group) {
      PageTable& table = follower.tables[group];
      table.first = pool_.FirstNeededBlock(group, length);
      table.pages.assign(blocks, -1);
      for (int32_t block = table.first; block < blocks; ++block) {
        table.pages[block] = leader.tables[group].pages[block];
        pool_.Acquire(table.pages[block]);
      }
    }
    follower.planned = follower.committed = length;
    follower.publishes = leader.publishes;
    if (leader.publishes) {
      follower.published_blocks = follower.common_blocks = blocks;
      follower.published_node =
          pool_.Ancestor(leader.published_node, leader.published_blocks - blocks);
    }
  }
}

// Releases what slid out of the windows, by committed length: a step in flight may still read the
// rest.
void Scheduler::SlideWindows(Sequence& sequence) {
  const LiveRequest& live = *sequence.live;
  int32_t length = sequence.committed;
  // Where a match of the whole prompt ends, and where the followers will start.
  const int32_t end = (sequence.prompt_tokens - 1) / pool_.page_tokens() * pool_.page_tokens();
  if (!live.prompt_shared && live.unfinished > 1) length = std::min(length, end);
  for (int32_t group = 0; group < groups(); ++group) {
    PageTable& table = sequence.tables[group];
    const int32_t needed = std::min(pool_.FirstNeededBlock(group, length), sequence.blocks());
    for (; table.first < needed; ++table.first) {
      const int32_t page = std::exchange(table.pages[table.first], -1);
      // A prefix that several prompts share is worth as much as any other, and so are the pages
      // that the same prompt would need again.
      if (table.first < sequence.common_blocks ||
          table.first >= pool_.FirstNeededBlock(group, end)) {
        pool_.Release(page);
      } else {
        pool_.ReleaseBehindWindow(page);
      }
    }
  }
}

void Scheduler::EndAll(const Finish& finish, SteadyTime now) {
  // Newest first, as in EndExpired.
  for (const std::unique_ptr<LiveRequest>& live : std::views::reverse(requests_)) {
    for (Sequence& sequence : std::views::reverse(live->outputs)) {
      if (sequence.state != SequenceState::kRetiring) EndOutput(sequence, finish, now);
    }
  }
}

void Scheduler::EndOutput(Sequence& sequence, Finish finish, SteadyTime now) {
  LiveRequest& live = *sequence.live;
  ReleasePages(sequence);
  SetPaused(sequence, false, now);
  EraseByRank(ordered_, sequence);
  const bool last = --live.unfinished == 0;
  SetState(sequence, SequenceState::kRetiring);

  finish.tokens = sequence.output_tokens();
  if (EndedByItself(finish.reason)) {
    stats_.generation_length.Observe(finish.tokens);
    if (finish.tokens > 1) {
      const double decode = SecondsBetween(sequence.first_token, sequence.last_token);
      stats_.time_per_output_token.Observe(decode / (finish.tokens - 1));
    }
  }
  live.worst_end = std::max(live.worst_end, finish.reason);
  if (!live.prompt_shared && !last) --followers_;
  if (last) {
    Record(live, now);
    pool_.ReleaseSalt(live.salt);
    ended_.push_back(&live);
  }
  endings_.push_back({&live, sequence.index, std::move(finish), last});
  SetChanged(live);
}

void Scheduler::Record(const LiveRequest& live, SteadyTime now) {
  live.outbox->SetFinished(now);
  stats_.finished[static_cast<size_t>(live.worst_end)].Add();
  // What was cut short says nothing about how long requests take or are.
  if (!EndedByItself(live.worst_end) || !live.prompt_counted) return;
  int32_t longest = 0;
  SteadyTime last_token{};
  for (const Sequence& output : live.outputs) {
    longest = std::max(longest, output.output_tokens());
    last_token = std::max(last_token, output.last_token);
  }
  const Timeline times = live.outbox->timeline();
  stats_.e2e.Observe(SecondsBetween(live.request.arrival, now));
  stats_.prefill_time.Observe(SecondsBetween(times.admitted, times.first_token));
  stats_.decode_time.Observe(SecondsBetween(times.first_token, last_token));
  stats_.inference_time.Observe(SecondsBetween(times.admitted, last_token));
  stats_.prompt_length.Observe(live.prompt_tokens());
  stats_.asked_outputs.Observe(live.request.n);
  stats_.asked_tokens.Observe(live.request.max_tokens);
  stats_.longest_output.Observe(longest);
  stats_.computed_prompt.Observe(live.prompt_tokens() - std::max(0, live.outbox->cached_tokens()));
}

void Scheduler::UpdateQueued(LiveRequest& live) {
  const bool queued = live.unfinished > 0 && live.running == 0;
  if (queued == std::exchange(live.queued, queued)) return;
  departures_.requests += queued ? -1 : 1;
  departures_.tokens += queued ? -QueuedTokens(live.request) : QueuedTokens(live.request);
}

Scheduler::Departures Scheduler::TakeDepartures() { return std::exchange(departures_, {}); }

void Scheduler::SetChanged(LiveRequest& live) {
  if (live.changed) return;
  live.changed = true;
  changed_.push_back(&live);
}

void Scheduler::Reap() {
  std::erase_if(ended_, [this](const LiveRequest* live) {
    for (const Sequence& sequence : live->outputs) {
      if (sequence.rows_in_flight > 0) return false;
    }
    const auto order = [](const std::unique_ptr<LiveRequest>& other) { return other->order; };
    requests_.erase(std::ranges::lower_bound(requests_, live->order, {}, order));
    return true;
  });
}

}  // namespace baram
