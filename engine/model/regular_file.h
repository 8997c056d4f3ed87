// RegularFile: a file of a model folder, opened for reading by position.
#ifndef BARAM_ENGINE_MODEL_REGULAR_FILE_H_
#define BARAM_ENGINE_MODEL_REGULAR_FILE_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace baram {

// Owns a descriptor. Reading is safe from any thread. A file that shrinks after it was opened
// causes a read error, not a signal as it would with a mapping.
class RegularFile {
 public:
  // NotFound: no such file. PermissionDenied: not readable by this user, or a dangling link.
  // ResourceExhausted: too many files are open. DataLoss: it cannot be read, or is not a regular
  // file (a link to one is). Messages start with the path.
  static absl::StatusOr<RegularFile> Open(const std::string& path);

  RegularFile(RegularFile&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), bytes_(other.bytes_) {}
  RegularFile& operator=(RegularFile&&) = delete;
  ~RegularFile();

  const std::string& path() const { return path_; }
  // The size when it was opened.
  int64_t bytes() const { return bytes_; }

  // DataLoss: the bytes cannot be read, or the file has become too short.
  absl::Status ReadAt(int64_t position, int64_t bytes, void* out) const;

 private:
  RegularFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::string path_;
  int fd_ = -1;
  int64_t bytes_ = 0;
};

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_REGULAR_FILE_H_
