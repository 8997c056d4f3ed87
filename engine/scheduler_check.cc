// Scheduler::CheckInvariants: compares every count and list with the sequences themselves, for
// tests.
#include <algorithm>

#include "engine/scheduler.h"
#include "kernels/check.h"

namespace baram {

void Scheduler::CheckInvariants() const {
  std::vector<int32_t> references(pool_.total(), 0);
  std::vector<int32_t> slot_users(config_.max_num_seqs, 0);
  for (const int32_t slot : free_slots_) ++slot_users[slot];
  size_t live_sequences = 0, holders = 0, ended = 0;
  int32_t running = 0, paused = 0, followers = 0, waiting_paused = 0;
  for (const std::unique_ptr<LiveRequest>& live : requests_) {
    int32_t unfinished = 0, running_outputs = 0, paused_outputs = 0;
    for (const Sequence& sequence : live->outputs) {
      const bool retiring = sequence.state == SequenceState::kRetiring;
      const bool runs = sequence.state == SequenceState::kRunning;
      if (!retiring) ++live_sequences, ++unfinished;
      if (sequence.holds()) ++holders;
      if (runs) ++running, ++running_outputs;
      if (sequence.paused) ++paused, ++paused_outputs;
      const bool waits = sequence.state == SequenceState::kWaiting;
      if (waits && WaitsForLeader(sequence)) ++followers;
      if (waits && sequence.paused) ++waiting_paused;
      Check(!retiring || sequence.blocks() == 0, "what ended holds no pages");
      Check(runs == (sequence.slot >= 0), "what runs has a slot, and nothing else");
      Check(!sequence.token_set_aside, "a token is set aside for the step that is planned");
      Check(sequence.rows_in_flight <= steps_in_flight_, "one row a step");
      Check(sequence.rows_in_flight > 0 || sequence.draws_in_flight == 0, "draws are of rows");
      if (sequence.slot >= 0) ++slot_users[sequence.slot];
      Check(sequence.committed <= sequence.planned && sequence.planned <= sequence.known(),
            "committed <= planned <= known");
      Check(sequence.planned <= sequence.blocks() * pool_.page_tokens(),
            "what is planned has pages");
      Check(sequence.published_blocks * pool_.page_tokens() <= sequence.committed,
            "only committed pages are published (I4)");
      for (const PageTable& table : sequence.tables) {
        Check(static_cast<int32_t>(table.pages.size()) == sequence.blocks(),
              "the tables of a sequence are of one length");
        for (int32_t block = 0; block < sequence.blocks(); ++block) {
          Check((table.pages[block] >= 0) == (block >= table.first),
                "a table holds every page from its first on");
          if (table.pages[block] >= 0) ++references[table.pages[block]];
        }
      }
    }
    Check(unfinished == live->unfinished && running_outputs == live->running &&
              paused_outputs == live->paused,
          "unfinished, running and paused outputs are counted");
    if (unfinished == 0) ++ended;
    Check(live->queued == (unfinished > 0 && running_outputs == 0),
          "a request is queued while nothing of it runs");
  }
  Check(live_sequences == ordered_.size() &&
            std::ranges::is_sorted(ordered_, {}, [](auto* s) { return RankOf(*s); }),
        "what has not ended is in order of rank");
  Check(ended == ended_.size() &&
            std::ranges::is_sorted(requests_, {}, [](const auto& live) { return live->order; }),
        "requests are in order of arrival, and those that ended are listed");
  Check(holders == holders_.size() && std::ranges::all_of(holders_, &Sequence::holds) &&
            std::ranges::is_sorted(holders_, {}, [](auto* s) { return RankOf(*s); }),
        "who runs or holds pages is in order of rank");
  Check(running == running_ && paused == paused_, "running and paused sequences are counted");
  Check(followers == followers_ && waiting_paused == waiting_paused_,
        "what waits for neither slot nor pages is counted");
  Check(std::ranges::all_of(slot_users, [](int32_t users) { return users == 1; }),
        "a slot is free or has one owner");
  Check(std::ranges::all_of(given_up_, [](int32_t holders) { return holders == 0; }),
        "no admission counts a page as given up by another's victims");
  pool_.CheckInvariants(references);
}

}  // namespace baram
