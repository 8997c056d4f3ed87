// EngineRig: an engine core on a device of the test's choice, driven turn by turn by the test, with
// its own clock and readers that collect what they get. Also the fake device's tokens, computed
// without an engine.
#ifndef BARAM_TESTS_ENGINE_RIG_H_
#define BARAM_TESTS_ENGINE_RIG_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/core.h"
#include "engine/executor.h"
#include "engine/loaded_model.h"
#include "kernels/fake/fake_device.h"

namespace baram::testing {

inline constexpr int32_t kTinyVocab = 61;

// The smallest model with one layer for each of `windows` (0: full attention).
ModelSpec TinySpec(const std::vector<int32_t>& windows, int32_t max_positions = 1 << 14);

// What a client received of one output.
struct Received {
  std::vector<TokenResult> tokens;
  std::vector<Finish> finishes;  // exactly one, in the end (I5)
  std::vector<int32_t> Ids() const;
  bool done() const { return !finishes.empty(); }
  const Finish& finish() const { return finishes.at(0); }
};

struct Client {
  Request request;
  std::shared_ptr<Outbox> outbox;
  std::vector<Received> outputs;
  std::vector<TokenResult> scores;
  bool done() const;
  // Reads at most `tokens` of every output, and the finish if there is one.
  void Read(int32_t tokens = 1 << 30);
};

// A client that has received nothing of `request` yet.
std::unique_ptr<Client> MakeClient(Request request);

class EngineRig {
 public:
  // On the fake device. `pages` 0: as many as the memory's default allows.
  EngineRig(const FakeOptions& fake, EngineConfig config, const std::vector<int32_t>& windows,
            int32_t pages = 0);
  // On any device, with random weights.
  EngineRig(const ModelSpec& spec, std::unique_ptr<Device> device, const EngineConfig& config);

  // Submits a request with a unique id. Fails the test if it is refused.
  Client* Submit(Request request);
  // One turn of the engine and 1 ms of time; checks every invariant with the step planned, and at
  // the end.
  bool Turn();
  // Without the checks, which allocate.
  bool TurnUnchecked();
  // Turns and reads until all clients are done. False: they did not finish.
  bool Finish(int32_t most_turns = 100000);

  EngineCore& core() { return *core_; }
  const EngineCore& core() const { return *core_; }
  const StepRunner& runner() const { return *runner_; }
  LoadedModel& model() { return *model_; }
  const EngineInfo& info() const { return core_->info(); }
  SteadyTime now() const { return now_; }
  void Advance(double seconds);
  // This much time passes in every turn between planning and committing.
  void SetStepTime(double seconds) { step_s_ = seconds; }
  std::vector<std::unique_ptr<Client>>& clients() { return clients_; }
  // Pages that live sequences hold.
  int32_t owned_pages() const { return core_->pool().total() - core_->pool().available(); }
  const Sequence& sequence(const Client& client, int32_t index = 0) const;
  // Whether those ahead of it in rank had all scores of the step that the last Turn planned.
  bool NoScoresLeftFor(const Sequence& sequence) const;

 private:
  void Start(const EngineConfig& config, const ModelSpec& spec, std::unique_ptr<Device> device);
  bool TakeTurn(bool is_checked);
  void KeepScores(const Batch* planned);

  std::unique_ptr<LoadedModel> model_;
  std::unique_ptr<EngineCore> core_;
  std::unique_ptr<StepRunner> runner_;
  SteadyTime now_ = SteadyTime(std::chrono::seconds(1000));
  double step_s_ = 0;
  int64_t next_id_ = 0;
  std::vector<std::pair<Rank, int32_t>> scores_;  // of the step that the last Turn planned
  std::vector<std::unique_ptr<Client>> clients_;
};

// A prompt of `tokens` ids drawn from `seed`.
std::vector<int32_t> RandomPrompt(uint64_t seed, int32_t tokens);
Request MakeRequest(std::vector<int32_t> prompt, int32_t max_tokens);

// Eight sequences and sixteen tokens per step, a context of 256.
EngineConfig SmallConfig();

// What the fake device generates for output `index` of `request`, computed only from the model's
// definition.
struct ExpectedOutput {
  std::vector<int32_t> ids;
  FinishReason reason = FinishReason::kLength;  // kFailed: the next row is not finite
  int32_t stop_id = -1;
  std::vector<float> logprobs;
};
ExpectedOutput Expect(const Request& request, int32_t index, const std::vector<int32_t>& windows,
                      int32_t max_model_len, uint64_t nonfinite_divisor = 0);
// Expects every output of `client` to match the model's definition.
void ExpectExact(EngineRig& rig, const Client& client, const std::vector<int32_t>& windows);
// The log-probabilities of prompt[1..].
std::vector<float> ExpectScores(const Request& request, const std::vector<int32_t>& windows);

}  // namespace baram::testing

#endif  // BARAM_TESTS_ENGINE_RIG_H_
