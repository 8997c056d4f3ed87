// Checkpoint: the tensors of a model folder, in one safetensors file or in shards with an index.
#ifndef BARAM_ENGINE_MODEL_CHECKPOINT_H_
#define BARAM_ENGINE_MODEL_CHECKPOINT_H_

#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/safetensors.h"

namespace baram {

// Where a tensor is. Points into the checkpoint.
struct StoredTensor {
  const SafetensorsFile* file = nullptr;
  const TensorEntry* entry = nullptr;
};

// Opens `model.safetensors`, or the files that `model.safetensors.index.json` names; touches no
// other file.
class Checkpoint {
 public:
  // NotFound: the folder has neither. PermissionDenied, ResourceExhausted: as RegularFile::Open.
  // DataLoss: a file or the index is broken or missing, or a tensor is not where the index says, or
  // appears twice, or there are more than kMaxTensors.
  static absl::StatusOr<Checkpoint> Open(const std::string& folder);

  // The entry is null if there is none.
  StoredTensor Find(const std::string& name) const;
  const std::unordered_map<std::string, StoredTensor>& tensors() const { return tensors_; }
  // The size of the files that were opened.
  int64_t bytes() const;
  // The folder, for messages.
  const std::string& path() const { return path_; }

 private:
  explicit Checkpoint(std::string path) : path_(std::move(path)) {}
  absl::Status OpenFiles();
  absl::Status OpenShards(const std::string& index_path, const std::string& index);
  // Adds the next file's tensors; files_ must have room for it.
  absl::Status Add(SafetensorsFile file);

  std::string path_;
  std::vector<SafetensorsFile> files_;  // tensors_ points into it: reserved before it is filled
  std::unordered_map<std::string, StoredTensor> tensors_;
};

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_CHECKPOINT_H_
