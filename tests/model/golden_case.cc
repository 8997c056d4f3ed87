// GoldenCase: a tiny model from tests/golden/models with the reference library's results.
#include "tests/model/golden_case.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "engine/model/safetensors.h"
#include "kernels/check.h"
#include "nlohmann/json.hpp"
#include "tests/environment.h"

namespace baram::testing {
namespace {

std::string ModelsFolder() { return SourceFolder() + "/tests/golden/models"; }

}  // namespace

std::vector<std::string> GoldenCaseNames() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(ModelsFolder())) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

GoldenCase ReadGoldenCase(const std::string& name) {
  GoldenCase golden;
  golden.folder = ModelsFolder() + "/" + name;
  std::ifstream file(golden.folder + "/golden.json");
  const nlohmann::json json = nlohmann::json::parse(file);
  const auto tensors = SafetensorsFile::Open(golden.folder + "/golden.safetensors");
  Check(tensors.ok(), "the golden's tensors can be read");
  golden.top = json.at("bf16_error").at("top");
  golden.bf16_rms = json.at("bf16_error").at("rms");
  golden.bf16_max = json.at("bf16_error").at("max");
  for (const nlohmann::json& entry : json.at("prompts")) {
    GoldenPrompt prompt;
    entry.at("ids").get_to(prompt.ids);
    entry.at("greedy_ids").get_to(prompt.greedy_ids);
    entry.at("greedy_margins").get_to(prompt.greedy_margins);
    const std::string tensor = "log_probs." + std::to_string(golden.prompts.size());
    for (const TensorEntry& stored : tensors->tensors()) {
      if (stored.name != tensor) continue;
      golden.vocabulary = static_cast<int32_t>(stored.shape.at(1));
      prompt.log_probs.resize(stored.bytes / sizeof(float));
      Check(tensors->Read(stored, 0, stored.bytes, prompt.log_probs.data()).ok(),
            "the golden's log-probabilities can be read");
    }
    Check(prompt.log_probs.size() == prompt.ids.size() * golden.vocabulary,
          "a golden has log-probabilities of every position");
    golden.prompts.push_back(std::move(prompt));
  }
  return golden;
}

GoldenError ErrorOf(const GoldenCase& golden, const std::vector<std::vector<float>>& log_probs,
                    int32_t top) {
  double squares = 0, count = 0;
  GoldenError error;
  for (size_t p = 0; p < golden.prompts.size(); ++p) {
    const std::vector<float>& expected = golden.prompts[p].log_probs;
    Check(log_probs[p].size() == expected.size(), "every position of a prompt was computed");
    for (size_t row = 0; row < expected.size(); row += golden.vocabulary) {
      std::vector<int32_t> ids(golden.vocabulary);
      std::iota(ids.begin(), ids.end(), 0);
      if (top > 0) {
        std::partial_sort(ids.begin(), ids.begin() + top, ids.end(), [&](int32_t a, int32_t b) {
          return expected[row + a] > expected[row + b];
        });
        ids.resize(top);
      }
      for (const int32_t id : ids) {
        const double difference = std::abs(double{log_probs[p][row + id]} - expected[row + id]);
        squares += difference * difference;
        count += 1;
        // A NaN counts as infinitely wrong.
        if (!(difference <= error.max)) error.max = std::isnan(difference) ? 1e30 : difference;
      }
    }
  }
  error.rms = std::sqrt(squares / count);
  return error;
}

}  // namespace baram::testing
