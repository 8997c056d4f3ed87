// Safetensors: reads one .safetensors file from an untrusted source.
#ifndef BARAM_ENGINE_MODEL_SAFETENSORS_H_
#define BARAM_ENGINE_MODEL_SAFETENSORS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/regular_file.h"
#include "kernels/tensor.h"

namespace baram {

struct TensorEntry {
  std::string name;            // printable ASCII
  std::string dtype;           // as the file spells it: "BF16"
  std::vector<int64_t> shape;  // empty: a scalar
  int64_t begin = 0;           // bytes from the start of the file
  int64_t bytes = 0;           // of the shape and type; inside the file
};

// The DType with this spelling; nullopt for types that no device supports.
std::optional<DType> ToDType(const std::string& dtype);

// Per checkpoint; far more than real ones have. Each costs a few hundred bytes of memory.
inline constexpr size_t kMaxTensors = size_t{1} << 17;

// "[2, 3]"
std::string ShowShape(const std::vector<int64_t>& shape);

// Checks the whole header when opened, as the format's own reader does: every tensor's bytes match
// its shape and type, and together they fill the rest of the file without overlap or gap. Reads by
// position into the caller's memory: a file that shrinks later is an error and not a signal, and no
// part of the file counts as this process's memory. Any thread.
class SafetensorsFile {
 public:
  // The errors of RegularFile::Open; also DataLoss: the file is invalid, and the message names its
  // path and the tensor; or it has more tensors than `most_tensors`.
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path,
                                              size_t most_tensors = kMaxTensors);

  const std::string& path() const { return file_.path(); }
  int64_t bytes() const { return file_.bytes(); }
  // Sorted by position.
  const std::vector<TensorEntry>& tensors() const { return tensors_; }

  // Bytes [begin, begin + bytes) of the tensor. Fails as RegularFile::ReadAt does.
  absl::Status Read(const TensorEntry& tensor, int64_t begin, int64_t bytes, void* out) const;

 private:
  explicit SafetensorsFile(RegularFile file) : file_(std::move(file)) {}
  absl::Status ReadHeader(size_t most_tensors);
  absl::Status CheckEntries(int64_t header_end);

  RegularFile file_;
  std::vector<TensorEntry> tensors_;
};

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_SAFETENSORS_H_
