// Reads a Hugging Face model folder's config.json and generation_config.json into values. Entries
// that name Python code (`auto_map`) are ignored: nothing from a folder is ever run.
#include "engine/model/hf_config.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <optional>
#include <unordered_set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/model/archs.h"
#include "engine/model/config_fields.h"
#include "engine/model/other_formats.h"

namespace baram {
namespace {

constexpr int64_t kMaxConfigBytes = int64_t{1} << 20;
constexpr int kMaxConfigDepth = 32;

absl::StatusOr<ConfigFields> ReadFields(const std::string& path) {
  absl::StatusOr<std::string> text = ReadSmallFile(path, kMaxConfigBytes);
  if (!text.ok()) return text.status();
  absl::StatusOr<nlohmann::json> object = ParseJsonFile(path, *text, kMaxConfigDepth);
  if (!object.ok()) return object.status();
  return ConfigFields(path, *std::move(object));
}

// Adds the ids of an `eos_token_id`, one or a list, that `ids` does not have yet. -1 means none.
void AddEosIds(const ConfigFields& fields, std::vector<int32_t>& ids) {
  constexpr int64_t kMaxId = std::numeric_limits<int32_t>::max();
  std::unordered_set<int64_t> known(ids.begin(), ids.end());
  for (const int64_t id : fields.Integers("eos_token_id", -1, kMaxId)) {
    if (id >= 0 && known.insert(id).second) ids.push_back(static_cast<int32_t>(id));
  }
}

// The family whose `name` is `wanted`; null if there is none.
const Arch* FindArch(const char* Arch::*name, const std::string& wanted) {
  for (const Arch& arch : Archs()) {
    if (arch.*name == wanted) return &arch;
  }
  return nullptr;
}

// The error if there is no config.json: what is missing.
absl::Status MissingModelError(const std::string& folder) {
  std::error_code unknown;
  if (!std::filesystem::exists(folder, unknown)) {
    return absl::NotFoundError(absl::StrCat("there is no folder ", folder));
  }
  if (!std::filesystem::is_directory(folder, unknown)) {
    return absl::NotFoundError(absl::StrCat(folder, " is not a folder"));
  }
  return absl::NotFoundError(
      absl::StrCat(folder, " has no config.json: it is not a model as Hugging Face lays it out",
                   OtherFormatInFolder(folder)));
}

}  // namespace

absl::StatusOr<ModelSpec> ReadModelSpec(const std::string& folder) {
  absl::StatusOr<ConfigFields> config = ReadFields(folder + "/config.json");
  if (absl::IsNotFound(config.status())) return MissingModelError(folder);
  if (!config.ok()) return config.status();
  const std::vector<std::string> names = config->Strings("architectures");
  const Arch* typed = FindArch(&Arch::model_type, config->StringOr("model_type", ""));
  const Arch* arch = names.empty() ? typed : FindArch(&Arch::architecture, names.front());
  if (!names.empty() && typed != nullptr && typed->run_as != nullptr &&
      names.front() == typed->run_as) {
    arch = typed;
  }
  if (names.empty() && arch == nullptr) config->Fail("architectures", "is missing or empty");
  if (arch != nullptr && typed != nullptr && typed != arch) {
    config->Fail("model_type", absl::StrCat("is that of ", typed->family, ", but architectures is ",
                                            arch->family, "'s; one of the two is wrong"));
  }
  if (!config->status().ok()) return config->status();
  if (arch == nullptr) {
    return absl::UnimplementedError(absl::StrCat(
        folder, "/config.json: architecture ", Quote(names.front()),
        " is not supported; supported are ", absl::StrJoin(SupportedArchitectures(), ", ")));
  }
  ModelSpec spec = arch->read(*config);
  if (!config->status().ok()) return config->status();
  spec.architecture = arch->architecture;
  spec.family = arch->family;
  spec.max_positions = StretchedContext(spec.max_positions, spec.ropes);
  return spec;
}

absl::StatusOr<GenerationDefaults> ReadGenerationDefaults(const std::string& folder) {
  GenerationDefaults defaults;
  // config.json's EOS is the primary one; generation_config.json adds those of the chat format.
  absl::StatusOr<ConfigFields> config = ReadFields(folder + "/config.json");
  if (!config.ok()) return config.status();
  // In a multimodal folder it may be in the text part instead, as in the reference.
  const bool outside = config->Has("eos_token_id");
  AddEosIds(outside ? *config : config->Object("text_config"), defaults.eos_ids);
  if (!config->status().ok()) return config->status();

  absl::StatusOr<ConfigFields> generation = ReadFields(folder + "/generation_config.json");
  if (absl::IsNotFound(generation.status())) return defaults;
  if (!generation.ok()) return generation.status();
  AddEosIds(*generation, defaults.eos_ids);
  const auto read = [&generation](const char* name, double most, std::optional<double>& value) {
    if (generation->Has(name)) value = generation->NumberOr(name, 0.0, most, 0.0);
  };
  read("temperature", 1e3, defaults.temperature);
  read("top_p", 1.0, defaults.top_p);
  read("min_p", 1.0, defaults.min_p);
  read("repetition_penalty", 1e3, defaults.repetition_penalty);
  if (generation->Has("top_k")) {
    // vLLM writes off as -1.
    const int64_t top_k = generation->Integer("top_k", -1, std::numeric_limits<int32_t>::max());
    defaults.top_k = static_cast<int32_t>(std::max<int64_t>(top_k, 0));
  }
  if (!generation->status().ok()) return generation->status();
  return defaults;
}

std::vector<std::string> SupportedArchitectures() {
  std::vector<std::string> names;
  for (const Arch& arch : Archs()) names.push_back(arch.architecture);
  return names;
}

}  // namespace baram
