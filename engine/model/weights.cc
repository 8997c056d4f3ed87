// LoadWeights: loads a checkpoint onto a device, strictly.
#include "engine/model/weights.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/model/checkpoint.h"
#include "engine/model/weight_fill.h"
#include "engine/model/weight_layout.h"
#include "kernels/float_types.h"

namespace baram {
namespace {

std::string LmHeadTensor(const ModelSpec& spec) { return spec.names.lm_head + ".weight"; }

std::string EmbeddingTensor(const TensorNames& names) { return names.embedding + ".weight"; }

// `spec` with the names that the checkpoint uses, recognized by its embedding.
ModelSpec AsNamedIn(const Checkpoint& checkpoint, ModelSpec spec) {
  for (const TensorNames& names : spec.other_names) {
    if (checkpoint.Find(EmbeddingTensor(names)).entry != nullptr) {
      spec.names = names;
      break;
    }
  }
  return spec;
}

bool IsSkipped(const std::string& tensor, const TensorNames& names) {
  return std::any_of(names.skipped_prefixes.begin(), names.skipped_prefixes.end(),
                     [&](const std::string& prefix) { return absl::StartsWith(tensor, prefix); });
}

// Tables that old checkpoints store and that follow from the spec.
bool IsRotaryFrequencies(const std::string& tensor) {
  return absl::EndsWith(tensor, ".rotary_emb.inv_freq") ||
         absl::EndsWith(tensor, ".rotary.inv_freq");
}

absl::Status CheckExpected(const Checkpoint& checkpoint, const ExpectedTensor& expected) {
  const auto [file, entry] = checkpoint.Find(expected.name);
  if (entry == nullptr) {
    return absl::DataLossError(absl::StrCat(checkpoint.path(), ": tensor ", expected.name,
                                            " of shape ", ShowShape(expected.shape),
                                            " is missing"));
  }
  if (entry->shape != expected.shape) {
    return absl::DataLossError(absl::StrCat(file->path(), ": tensor ", expected.name, " has shape ",
                                            ShowShape(entry->shape), ", and config.json implies ",
                                            ShowShape(expected.shape)));
  }
  if (!ToDType(entry->dtype)) {
    return absl::UnimplementedError(absl::StrCat(file->path(), ": tensor ", expected.name,
                                                 " is of type ", entry->dtype,
                                                 "; supported are BF16, F16 and F32"));
  }
  return absl::OkStatus();
}

bool StoresTiedLmHead(const Checkpoint& checkpoint, const ModelSpec& spec) {
  return spec.tied_lm_head && checkpoint.Find(LmHeadTensor(spec)).entry != nullptr;
}

// The reference ties an LM head that the file stores as well only if the two are equal, and unties
// it otherwise; such a file contradicts its config, so it is refused instead.
absl::Status UntiedLmHeadError(const Checkpoint& checkpoint, const ModelSpec& spec) {
  return absl::DataLossError(absl::StrCat(
      checkpoint.Find(LmHeadTensor(spec)).file->path(), ": tensor ", LmHeadTensor(spec),
      " differs from the embedding, although config.json ties them; set "
      "tie_word_embeddings to false there to serve the stored head"));
}

absl::Status CheckTiedLmHeadHeader(const Checkpoint& checkpoint, const ModelSpec& spec) {
  const TensorEntry& head = *checkpoint.Find(LmHeadTensor(spec)).entry;
  const TensorEntry& embedding = *checkpoint.Find(EmbeddingTensor(spec.names)).entry;
  return head.dtype == embedding.dtype && head.shape == embedding.shape
             ? absl::OkStatus()
             : UntiedLmHeadError(checkpoint, spec);
}

// After CheckTiedLmHeadHeader.
absl::Status CheckTiedLmHeadBytes(const Checkpoint& checkpoint, const ModelSpec& spec) {
  constexpr int64_t kChunkBytes = int64_t{1} << 20;
  const StoredTensor head = checkpoint.Find(LmHeadTensor(spec));
  const StoredTensor embedding = checkpoint.Find(EmbeddingTensor(spec.names));
  std::vector<char> a(kChunkBytes), b(kChunkBytes);
  for (int64_t at = 0; at < head.entry->bytes; at += kChunkBytes) {
    const int64_t bytes = std::min(kChunkBytes, head.entry->bytes - at);
    absl::Status status = head.file->Read(*head.entry, at, bytes, a.data());
    if (status.ok()) status = embedding.file->Read(*embedding.entry, at, bytes, b.data());
    if (!status.ok()) return status;
    if (std::memcmp(a.data(), b.data(), bytes) != 0) return UntiedLmHeadError(checkpoint, spec);
  }
  return absl::OkStatus();
}

// The first few of `parts`, and how many more there are.
std::string Shorten(std::vector<std::string> parts, const char* separator) {
  constexpr size_t kShown = 3;
  const size_t hidden = parts.size() - std::min(parts.size(), kShown);
  parts.resize(parts.size() - hidden);
  return absl::StrCat(absl::StrJoin(parts, separator),
                      hidden > 0 ? absl::StrCat(" and ", hidden, " more") : "");
}

absl::Status CheckTensors(const Checkpoint& checkpoint, const ModelSpec& spec) {
  std::unordered_set<std::string> known;
  absl::Status first;
  std::vector<std::string> complaints;
  for (ExpectedTensor& expected : ExpectedTensors(spec)) {
    if (absl::Status status = CheckExpected(checkpoint, expected); !status.ok()) {
      complaints.emplace_back(status.message());
      first.Update(status);
    }
    known.insert(std::move(expected.name));
  }
  if (!first.ok()) return absl::Status(first.code(), Shorten(std::move(complaints), "; "));
  if (spec.tied_lm_head) known.insert(LmHeadTensor(spec));
  std::vector<std::string> foreign;
  for (const auto& [name, stored] : checkpoint.tensors()) {
    if (known.contains(name) || IsRotaryFrequencies(name) || IsSkipped(name, spec.names)) continue;
    foreign.push_back(name);
  }
  if (!foreign.empty()) {
    std::sort(foreign.begin(), foreign.end());
    const char* plural = foreign.size() > 1 ? "s" : "";
    return absl::DataLossError(absl::StrCat(checkpoint.path(), ": unexpected tensor", plural, " ",
                                            Shorten(std::move(foreign), ", "), ": ",
                                            spec.architecture, " has no such weight", plural));
  }
  return StoresTiedLmHead(checkpoint, spec) ? CheckTiedLmHeadHeader(checkpoint, spec)
                                            : absl::OkStatus();
}

DType StoredType(const Checkpoint& checkpoint, const WeightPart& part) {
  return *ToDType(checkpoint.Find(part.tensor).entry->dtype);
}

absl::Status ReadAsFloats(const Checkpoint& checkpoint, const WeightPart& part, float* out) {
  const auto [file, entry] = checkpoint.Find(part.tensor);
  const DType type = StoredType(checkpoint, part);
  if (type == DType::kF32) return file->Read(*entry, 0, entry->bytes, out);
  std::vector<uint16_t> stored(part.rows);
  absl::Status status = file->Read(*entry, 0, entry->bytes, stored.data());
  if (!status.ok()) return status;
  for (int64_t i = 0; i < part.rows; ++i) out[i] = LoadElement(stored.data(), type, i);
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckCheckpoint(const std::string& folder, const ModelSpec& spec,
                             int64_t* file_bytes) {
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(folder);
  *file_bytes = checkpoint.ok() ? checkpoint->bytes() : 0;
  return checkpoint.ok() ? CheckTensors(*checkpoint, AsNamedIn(*checkpoint, spec))
                         : checkpoint.status();
}

absl::StatusOr<std::unique_ptr<Weights>> LoadWeights(const std::string& folder,
                                                     const ModelSpec& spec, Device& device,
                                                     const LoadOptions& options) {
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(folder);
  if (!checkpoint.ok()) return checkpoint.status();
  const ModelSpec named = AsNamedIn(*checkpoint, spec);
  if (absl::Status status = CheckTensors(*checkpoint, named); !status.ok()) return status;
  if (StoresTiedLmHead(*checkpoint, named)) {
    if (absl::Status status = CheckTiedLmHeadBytes(*checkpoint, named); !status.ok()) return status;
  }

  auto weights = std::make_unique<Weights>();
  weights->spec = named;
  const WeightLayout layout = LayOutWeights(device.Info().weights, *weights);
  absl::Status status = PlaceWeights(layout, options.positions, device, *weights);
  if (!status.ok()) return status;

  const WeightSource source{
      .type = [&](const WeightPart& part) { return StoredType(*checkpoint, part); },
      .read_rows =
          [&](const WeightPart& part, int64_t k, int64_t begin, int64_t rows, void* out) {
            const auto [file, entry] = checkpoint->Find(part.tensor);
            const int64_t row_bytes = k * DTypeBytes(StoredType(*checkpoint, part));
            return file->Read(*entry, begin * row_bytes, rows * row_bytes, out);
          },
      .read_vector = [&](VectorKind, const WeightPart& part,
                         float* out) { return ReadAsFloats(*checkpoint, part, out); },
  };
  status = FillWeights(layout, source, options.threads, options.progress, device, *weights);
  if (!status.ok()) return status;
  return weights;
}

}  // namespace baram
