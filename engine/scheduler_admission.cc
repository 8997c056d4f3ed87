// Scheduler::Admit: which sequences start to run, and with which cached prefix.
#include <algorithm>
#include <utility>

#include "engine/scheduler.h"

namespace baram {
namespace {

// What must stay free when a sequence is admitted, since the running ones will soon need it: one
// page per group for each of them. Doubled with every preemption of the sequence, so that it does
// not alternate between admission and preemption; capped at a share of the pool, since otherwise
// nothing would be admitted until most running sequences had ended.
constexpr int kMaxDoublings = 3;
constexpr int64_t kLeaveFreeDivisor = 4;

}  // namespace

bool Scheduler::WaitsForLeader(const Sequence& sequence) const {
  const LiveRequest& live = *sequence.live;
  return !live.prompt_shared && live.leader() != &sequence;
}

PrefixMatch Scheduler::MatchPrefix(const Sequence& sequence) {
  const LiveRequest& live = *sequence.live;
  if (!config_.prefix_cache || !live.request.read_prefix_cache) return {};
  const std::vector<int32_t>& tokens =
      sequence.tokens.empty() ? live.request.prompt : sequence.tokens;
  // At least the last token must be computed, to draw from it; so must every token whose successor
  // is to be scored.
  int32_t most = static_cast<int32_t>(tokens.size()) - 1;
  if (live.scoring()) most = std::min(most, live.scores_sent);
  // The followers' windows start where the prompt's last token is computed, see SharePrompt.
  if (!live.prompt_shared) most = std::min(most, sequence.prompt_tokens - 1);
  return pool_.Match(live.salt, tokens, most);
}

int64_t Scheduler::PagesToLeaveFree(const Sequence& sequence, int32_t running) const {
  const int64_t pages = int64_t{running} * groups();
  const int64_t doubled = pages << std::min(sequence.preemptions, kMaxDoublings);
  return std::max(pages, std::min(doubled, pool_.total() / kLeaveFreeDivisor));
}

// Pages that a running sequence still has to take for its prompt, or for what it recomputes. Once a
// window is full, it releases as many as it takes. None for a sequence that decodes: the page it
// takes now and then is left free anyway.
int64_t Scheduler::PagesDue(const Sequence& sequence) const {
  if (sequence.state != SequenceState::kRunning || sequence.remaining() <= 1) return 0;
  const int32_t tokens = sequence.known();
  int64_t due = 0;
  for (int32_t group = 0; group < groups(); ++group) {
    const int32_t needed = BlocksFor(tokens) - pool_.FirstNeededBlock(group, tokens);
    due += std::max(0, needed - (sequence.blocks() - sequence.tables[group].first));
  }
  return due;
}

// PagesDue of the running sequences that an admission of this one cannot preempt. What the others
// still need does not count, since they can be preempted.
int64_t Scheduler::PagesDueBeside(const Sequence& sequence, const Budget& budget) const {
  int64_t due = budget.pages_due;
  if (due == 0 || VictimFor(sequence, Need::kAdmission) == nullptr) return due;
  for (const Sequence* other : holders_) {
    if (MayGiveWay(*other, sequence)) due -= PagesDue(*other);
  }
  return due;
}

// The pages that hold all known tokens of the sequence, beyond its first `blocks` blocks.
int64_t Scheduler::PagesFor(const Sequence& sequence, int32_t blocks) const {
  const int32_t tokens = std::max(sequence.prompt_tokens, sequence.known());
  const int32_t missing = BlocksFor(tokens) - blocks;
  int64_t pages = 0;
  for (int32_t group = 0; group < groups(); ++group) {
    pages += std::min(missing, BlocksFor(tokens) - pool_.FirstNeededBlock(group, tokens));
  }
  return pages;
}

// Whether there are pages for all known tokens of the sequence, in addition to what must stay free,
// if `available` pages can be allocated and `running` sequences run.
bool Scheduler::Fits(const Sequence& sequence, const PrefixMatch& match, int64_t available,
                     int32_t running) const {
  const int64_t needed =
      PagesFor(sequence, sequence.blocks() > 0 ? sequence.blocks() : match.blocks());
  available -= match.cached;
  if (running == 0) return available >= std::min<int64_t>(needed, groups());
  return needed + PagesToLeaveFree(sequence, running) <= available;
}

// Whether the sequence is admitted once every possible victim is preempted. Asked before the first
// preemption: pages taken for an admission that then fails would be lost for nothing.
bool Scheduler::PreemptionSuffices(const Sequence& sequence, const Budget& budget) {
  const Sequence* first = VictimFor(sequence, AdmissionNeed());
  if (first == nullptr || (budget.tokens == 0 && !first->token_set_aside)) return false;
  int32_t running = running_;
  // Either a slot is free, or the first victim frees one.
  const auto for_victims = [&](const auto& visit) {
    for (const Sequence* other : holders_) {
      if (MayGiveWay(*other, sequence)) visit(*other);
    }
  };
  const auto for_pages = [&](const auto& visit) {
    for_victims([&](const Sequence& victim) {
      for (const PageTable& table : victim.tables) {
        for (int32_t block = table.first; block < victim.blocks(); ++block) {
          visit(block, table.pages[block]);
        }
      }
    });
  };
  for_victims([&](const Sequence& victim) {
    if (victim.state == SequenceState::kRunning) --running;
  });
  // A sequence that waits for long is checked in every step. So first comes a quick upper bound,
  // which counts a shared page once per holder; only if that suffices are pages examined one by
  // one.
  int64_t available = pool_.available() - PagesDueBeside(sequence, budget);
  int64_t held = 0;
  for_victims([&](const Sequence& victim) { held += int64_t{victim.blocks()} * groups(); });
  if (PagesToLeaveFree(sequence, running) > available + held) return false;
  const PrefixMatch match = sequence.blocks() > 0 ? PrefixMatch{} : MatchPrefix(sequence);
  if (!Fits(sequence, match, available + held, running)) return false;
  // Their slots may be enough, or fewer pages to leave free.
  if (Fits(sequence, match, available, running)) return true;
  // A page becomes free with its last holder, unless it is part of the prefix.
  for_pages([&](int32_t block, int32_t page) {
    const bool last = ++given_up_[page] == pool_.references(page);
    if (last && !pool_.WouldReuse(match, block, page)) ++available;
  });
  for_pages([&](int32_t, int32_t page) { given_up_[page] = 0; });
  return Fits(sequence, match, available, running);
}

// The prefix comes last: a sequence that waits for a slot or pages need not hash it in every step,
// unless there is a victim.
bool Scheduler::Admit(Sequence& sequence, Budget& budget, SteadyTime now) {
  bool suffices = false;  // PreemptionSuffices has said so
  const auto preempt = [&] {
    suffices = suffices || PreemptionSuffices(sequence, budget);
    return suffices && PreemptFor(sequence, AdmissionNeed(), budget);
  };
  while (true) {
    if (free_slots_.empty() && !preempt()) return false;
    if (budget.tokens == 0) return false;
    const int64_t available = pool_.available() - PagesDueBeside(sequence, budget);
    if (PagesToLeaveFree(sequence, running_) <= available) {
      const PrefixMatch match = sequence.blocks() > 0 ? PrefixMatch{} : MatchPrefix(sequence);
      if (Fits(sequence, match, available, running_)) {
        Bind(sequence, match, now);
        budget.pages_due += PagesDue(sequence);
        return true;
      }
    }
    if (!preempt()) return false;
  }
}

// Reserves all the memory the sequence will ever need (I6).
void Scheduler::BeginTables(Sequence& sequence) {
  if (sequence.tokens.empty()) {
    const std::vector<int32_t>& prompt = sequence.live->request.prompt;
    sequence.tokens.reserve(prompt.size() + sequence.max_output);
    sequence.tokens.assign(prompt.begin(), prompt.end());
  }
  for (PageTable& table : sequence.tables) {
    table.pages.reserve(BlocksFor(sequence.prompt_tokens + sequence.max_output));
  }
}

void Scheduler::Bind(Sequence& sequence, const PrefixMatch& match, SteadyTime now) {
  LiveRequest& live = *sequence.live;
  if (!sequence.holds()) InsertByRank(holders_, sequence);
  if (sequence.blocks() == 0) {
    BeginTables(sequence);
    for (int32_t group = 0; group < groups(); ++group) {
      PageTable& table = sequence.tables[group];
      table.first = pool_.FirstNeededBlock(group, match.blocks() * pool_.page_tokens());
      for (int32_t block = 0; block < match.blocks(); ++block) {
        table.pages.push_back(pool_.Take(match, group, block));
      }
    }
    sequence.planned = sequence.committed = match.blocks() * pool_.page_tokens();
    sequence.published_blocks = sequence.common_blocks = match.blocks();
    sequence.published_node = match.node;
    sequence.publishes = config_.prefix_cache;
  }
  for (PageTable& table : sequence.tables) table.uploaded = 0;
  sequence.slot = free_slots_.back();
  free_slots_.pop_back();
  SetState(sequence, SequenceState::kRunning);
  sequence.init_pending = true;
  sequence.device_has_token = false;
  if (std::exchange(live.admitted, true)) return;
  live.outbox->SetAdmitted(now);
  live.outbox->SetCached(sequence.planned);
  if (config_.prefix_cache && live.request.read_prefix_cache && !live.scoring()) {
    stats_.prefix_queries.Add(live.prompt_tokens());
    stats_.prefix_hits.Add(sequence.planned);
  }
  stats_.queue_time.Observe(SecondsBetween(live.queued_at, now));
  SetChanged(live);
}

}  // namespace baram
