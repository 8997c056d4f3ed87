// Checkpoint: the tensors of a model folder, in one safetensors file or in shards with an index.
#include "engine/model/checkpoint.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/model/config_fields.h"
#include "engine/model/other_formats.h"

namespace baram {
namespace {

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr int64_t kMaxIndexBytes = int64_t{16} << 20;
constexpr int kMaxIndexDepth = 4;
constexpr size_t kMaxShards = 4096;

// A shard must be in the folder itself; it may be a symlink, as in Hugging Face's cache. Its name
// appears in messages.
bool IsPlainFileName(const std::string& name) {
  return absl::EndsWith(name, ".safetensors") && name.find('/') == std::string::npos &&
         name.front() != '.' && std::all_of(name.begin(), name.end(), absl::ascii_isprint);
}

}  // namespace

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& folder) {
  Checkpoint checkpoint(folder);
  if (absl::Status status = checkpoint.OpenFiles(); !status.ok()) return status;
  return checkpoint;
}

absl::Status Checkpoint::OpenFiles() {
  absl::StatusOr<SafetensorsFile> single = SafetensorsFile::Open(path_ + "/" + kSingleFile);
  if (single.ok()) {
    files_.reserve(1);
    return Add(*std::move(single));
  }
  if (!absl::IsNotFound(single.status())) return single.status();
  const std::string index_path = path_ + "/" + kIndexFile;
  const absl::StatusOr<std::string> index = ReadSmallFile(index_path, kMaxIndexBytes);
  if (index.ok()) return OpenShards(index_path, *index);
  if (!absl::IsNotFound(index.status())) return index.status();
  return absl::NotFoundError(absl::StrCat(path_, ": has neither ", kSingleFile, " nor ", kIndexFile,
                                          OtherFormatInFolder(path_)));
}

absl::Status Checkpoint::OpenShards(const std::string& index_path, const std::string& index) {
  const auto complain = [&](auto... words) {
    return absl::DataLossError(absl::StrCat(index_path, ": ", words...));
  };
  const absl::StatusOr<nlohmann::json> object = ParseJsonFile(index_path, index, kMaxIndexDepth);
  if (!object.ok()) return object.status();
  const auto weight_map = object->find("weight_map");
  if (weight_map == object->end() || !weight_map->is_object() || weight_map->empty()) {
    return complain("weight_map is missing or not an object of tensor and file names");
  }
  std::map<std::string, std::vector<std::string>> tensors_of;  // by file
  for (const auto& [tensor, file] : weight_map->items()) {
    if (!file.is_string() || file.get_ref<const std::string&>().empty() ||
        !IsPlainFileName(file.get_ref<const std::string&>())) {
      return complain("weight_map gives tensor ", Quote(tensor), " the file ", Quote(file),
                      ", which is not the name of a .safetensors file beside the index");
    }
    tensors_of[file.get<std::string>()].push_back(tensor);
  }
  if (tensors_of.size() > kMaxShards) return complain("names more than ", kMaxShards, " files");
  files_.reserve(tensors_of.size());
  for (const auto& [name, tensors] : tensors_of) {
    absl::StatusOr<SafetensorsFile> file =
        SafetensorsFile::Open(path_ + "/" + name, kMaxTensors - tensors_.size());
    if (absl::IsNotFound(file.status())) {
      return complain("names ", name, " for tensor ", Quote(tensors.front()),
                      ", and there is no such file");
    }
    if (!file.ok()) return file.status();
    if (absl::Status added = Add(*std::move(file)); !added.ok()) return added;
    for (const std::string& tensor : tensors) {
      if (Find(tensor).file != &files_.back()) {
        return complain("says that ", name, " holds tensor ", Quote(tensor), ", which it does not");
      }
    }
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::Add(SafetensorsFile file) {
  const SafetensorsFile& added = files_.emplace_back(std::move(file));
  for (const TensorEntry& entry : added.tensors()) {
    const auto [known, fresh] = tensors_.emplace(entry.name, StoredTensor{&added, &entry});
    if (!fresh) {
      return absl::DataLossError(absl::StrCat("tensor ", entry.name, " is both in ",
                                              known->second.file->path(), " and in ",
                                              added.path()));
    }
  }
  return absl::OkStatus();
}

int64_t Checkpoint::bytes() const {
  int64_t bytes = 0;
  for (const SafetensorsFile& file : files_) bytes += file.bytes();
  return bytes;
}

StoredTensor Checkpoint::Find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? StoredTensor{} : found->second;
}

}  // namespace baram
