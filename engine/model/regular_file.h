// RegularFile: a file of a model folder, opened for reading by position.
#ifndef BARAM_ENGINE_MODEL_REGULAR_FILE_H_
#define BARAM_ENGINE_MODEL_REGULAR_FILE_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace baram {

// Owns a descriptor. Reading is safe from any thread. A file that shrinks after it was opened is an
// error of a read, not a signal, as it would be for a mapping.
class RegularFile {
 public:
  // NotFound: no such file. PermissionDenied: not for this user. ResourceExhausted: too many are
  // open. DataLoss: it cannot be read, or it is no regular file (a link to one is). Messages start
  // with the path.
  static absl::StatusOr<RegularFile> Open(const std::string& path);

  RegularFile(RegularFile&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), bytes_(other.bytes_) {}
  RegularFile& operator=(RegularFile&&) = delete;
  ~RegularFile();

  const std::string& path() const { return path_; }
  // When opened.
  int64_t bytes() const { return bytes_; }

  absl::Status ReadAt(int64_t position, int64_t bytes, void* out) const;

 private:
  RegularFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::string path_;
  int fd_ = -1;
  int64_t bytes_ = 0;
};

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_REGULAR_FILE_H_
