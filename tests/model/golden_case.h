// GoldenCase: a tiny model from tests/golden/models with the reference library's results.
#ifndef BARAM_TESTS_MODEL_GOLDEN_CASE_H_
#define BARAM_TESTS_MODEL_GOLDEN_CASE_H_

#include <cstdint>
#include <string>
#include <vector>

namespace baram::testing {

struct GoldenPrompt {
  std::vector<int32_t> ids;
  std::vector<float> log_probs;  // [ids, vocabulary], fp32 reference
  std::vector<int32_t> greedy_ids;
  std::vector<double> greedy_margins;
};

struct GoldenCase {
  std::string folder;
  int32_t vocabulary = 0;
  int32_t top = 0;  // tokens per position over which bf16_rms and bf16_max were measured
  double bf16_rms = 0, bf16_max = 0;
  std::vector<GoldenPrompt> prompts;
};

// Names of the cases, sorted.
std::vector<std::string> GoldenCaseNames();
GoldenCase ReadGoldenCase(const std::string& name);

// The distance of log-probabilities from the golden's.
struct GoldenError {
  double rms = 0, max = 0;
};
// Over all prompts, whose log-probabilities are [prompt][position * vocabulary]: for the `top` most
// probable tokens of each position, or for all if 0.
GoldenError ErrorOf(const GoldenCase& golden, const std::vector<std::vector<float>>& log_probs,
                    int32_t top);

}  // namespace baram::testing

#endif  // BARAM_TESTS_MODEL_GOLDEN_CASE_H_
