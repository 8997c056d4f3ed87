// ModelRunner: runs one sequence through a model on a device, without the engine.
#ifndef BARAM_TESTS_MODEL_MODEL_RUNNER_H_
#define BARAM_TESTS_MODEL_MODEL_RUNNER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/forward.h"
#include "engine/model/hf_config.h"
#include "kernels/device.h"

namespace baram::testing {

// A device under test, and its name in tests: "ref", "cpu_amx".
struct TestDevice {
  std::string name;
  std::string device;
  DeviceOptions options;

  std::unique_ptr<Device> Open() const;
  // How GoogleTest prints it.
  friend void PrintTo(const TestDevice& device, std::ostream* out) { *out << device.name; }
};
// The requested device, or each of this host's with each instruction set.
std::vector<TestDevice> TestDevices();

// A rule change that a golden must notice.
struct SpecChange {
  std::function<void(ModelSpec&)> before_loading;  // rules that no tensor depends on
  std::function<void(Weights&)> after_loading;     // rules that tensors depend on
};

// The results for one prompt.
struct Reply {
  std::vector<float> log_probs;  // [prompt, vocabulary], of every position's successor
  // As reported by the device: for the prompt's tokens from the second on.
  std::vector<float> prompt_logprobs;
  std::vector<int32_t> greedy_ids;
};

// One slot with its own page tables. The pool starts full of NaN, holds just the pages that the
// plan needs, and pages that a window has left are reused at once, so that a wrong window, a wrong
// page or an unwritten row shows.
class ModelRunner {
 public:
  // Errors are about the folder: its config.json, its tensors, or how they fit the family's spec.
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Open(std::unique_ptr<Device> device,
                                                           const std::string& folder,
                                                           int32_t max_tokens,
                                                           const SpecChange& change = {});

  // Runs the prompt in chunks of at most `chunk`, then generates `greedy` tokens. May be called
  // repeatedly.
  Reply Run(std::span<const int32_t> prompt, int32_t chunk, int32_t greedy);

  Device& device() { return *device_; }
  const Weights& weights() const { return *weights_; }

 private:
  explicit ModelRunner(std::unique_ptr<Device> device) : device_(std::move(device)) {}
  absl::Status Load(const std::string& folder, int32_t max_tokens, const SpecChange& change);
  // Runs rows of the slot and returns their results; appends log-probabilities if requested.
  std::vector<TokenResult> Step(const Row& row, std::span<const int32_t> tokens,
                                std::span<const int32_t> targets, std::vector<float>* log_probs);
  void FreePagesBehindWindows();
  std::vector<PageDelta> TakePages(int32_t tokens);
  int32_t PageTokens() const { return plan_.shape.page_tokens; }
  void Reset();

  std::unique_ptr<Device> device_;
  std::unique_ptr<Weights> weights_;
  std::unique_ptr<Workspace> workspace_;
  KvPlan plan_;
  KvPool pool_;
  SlotShape slots_;
  Buffer pool_memory_, results_;
  bool fresh_ = true;   // the next step binds the slot
  int32_t length_ = 0;  // tokens of the sequence whose KV is written
  std::vector<int32_t> free_pages_;
  std::vector<std::vector<int32_t>> pages_;  // [group][index]; -1: returned, or not yet taken
};

}  // namespace baram::testing

#endif  // BARAM_TESTS_MODEL_MODEL_RUNNER_H_
