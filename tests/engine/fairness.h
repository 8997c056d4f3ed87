// Fairness: what a turn of the engine owes its sequences, whatever the load. Constructed before the
// turn, checked after it.
#ifndef BARAM_TESTS_ENGINE_FAIRNESS_H_
#define BARAM_TESTS_ENGINE_FAIRNESS_H_

#include <map>
#include <utility>

#include "tests/engine/rig.h"

namespace baram::testing {

// Not for engines that preempt by rule (EngineConfig::preempt_every_draw) or whose device is lost.
class Fairness {
 public:
  explicit Fairness(const EngineRig& rig);

  // Fails the test if anything was violated.
  void ExpectKept(const EngineRig& rig) const;

 private:
  struct Before {
    bool running = false, paused = false, ended = false;
    bool ready = false;   // waits only for a slot or pages
    bool decode = false;  // its next token has its page, and nothing else is missing
    bool scoring = false;
    bool in_flight = false;
    int32_t priority = 0;
    int32_t prompt_tokens = 0;
    int32_t planned = 0;
    int32_t remaining = 0;
    int32_t blocks = 0;
    int32_t preemptions = 0;
  };
  using Key = std::pair<uint64_t, int32_t>;  // the request's order, the output

  static Key KeyOf(const Sequence& sequence);
  const Before* Find(const Sequence& sequence) const;
  // Still waits after the turn though it could have been admitted.
  bool LeftOut(const Sequence& sequence, const EngineRig& rig) const;
  // Whether the step cut off a prompt that is long enough for `admitted` to pass it, and `waiting`.
  bool MayPass(const Sequence& admitted, const Sequence& waiting,
               const std::vector<const Sequence*>& sequences) const;

  void ExpectAdmissionsInOrder(const std::vector<const Sequence*>& sequences,
                               const EngineRig& rig) const;
  void ExpectDecodesPlanned(const std::vector<const Sequence*>& sequences) const;
  void ExpectSlotsGoToTheUrgent(std::vector<const Sequence*> sequences, const EngineRig& rig) const;
  void ExpectNoPreemptionInVain(const std::vector<const Sequence*>& sequences,
                                const EngineRig& rig) const;

  std::map<Key, Before> before_;
  int32_t slots_taken_ = 0;
  uint64_t finished_ = 0;   // requests
  double step_tokens_ = 0;  // over all steps
};

}  // namespace baram::testing

#endif  // BARAM_TESTS_ENGINE_FAIRNESS_H_
