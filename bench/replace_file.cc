// ReplaceFile: writes a second file and renames it.
#include "bench/replace_file.h"

namespace baram::bench {

bool ReplaceFile(const std::string& path, const std::function<void(std::FILE*)>& write) {
  const std::string part = path + ".part";
  std::FILE* file = std::fopen(part.c_str(), "w");
  if (file == nullptr) return false;
  write(file);
  const bool whole = std::ferror(file) == 0;
  return std::fclose(file) == 0 && whole && std::rename(part.c_str(), path.c_str()) == 0;
}

}  // namespace baram::bench
