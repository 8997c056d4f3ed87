// RegularFile: a file of a model folder, opened for reading by position.
#include "engine/model/regular_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace baram {

absl::StatusOr<RegularFile> RegularFile::Open(const std::string& path) {
  // O_NONBLOCK: opening a pipe must not wait for its writer.
  RegularFile file(path, open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd_ < 0) {
    const int error = errno;
    const std::string message = absl::StrCat(path, ": ", std::strerror(error));
    struct stat link {};
    // What remains of a Hugging Face cache that was copied without its blobs.
    if (error == ENOENT && lstat(path.c_str(), &link) == 0) {
      return absl::PermissionDeniedError(
          absl::StrCat(path, ": a link to what is not there: copy the folder with cp -rL"));
    }
    if (error == ENOENT || error == ENOTDIR) return absl::NotFoundError(message);
    if (error == EACCES) return absl::PermissionDeniedError(message);
    if (error == EMFILE || error == ENFILE) {
      return absl::ResourceExhaustedError(
          absl::StrCat(message, ": raise the limit of open files (ulimit -n)"));
    }
    return absl::DataLossError(message);
  }
  struct stat facts {};
  if (fstat(file.fd_, &facts) != 0 || !S_ISREG(facts.st_mode)) {
    return absl::DataLossError(absl::StrCat(path, ": not a regular file"));
  }
  file.bytes_ = facts.st_size;
  return file;
}

RegularFile::~RegularFile() {
  if (fd_ >= 0) close(fd_);
}

absl::Status RegularFile::ReadAt(int64_t position, int64_t bytes, void* out) const {
  auto* to = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t got = pread(fd_, to, bytes, position);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return absl::DataLossError(absl::StrCat(path_, ": ", std::strerror(errno)));
    }
    if (got == 0) return absl::DataLossError(absl::StrCat(path_, ": the file ends early"));
    to += got;
    position += got;
    bytes -= got;
  }
  return absl::OkStatus();
}

}  // namespace baram
