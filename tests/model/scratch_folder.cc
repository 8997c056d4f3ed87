// ScratchFolder: a test's temporary folder, and the model files that tests write into it.
#include "tests/model/scratch_folder.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "kernels/check.h"
#include "kernels/float_types.h"
#include "nlohmann/json.hpp"

namespace baram::testing {

ScratchFolder::ScratchFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "baram_test_XXXXXX").string();
  Check(mkdtemp(pattern.data()) != nullptr, "a temporary folder can be made");
  path_ = pattern;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string ScratchFolder::Write(const std::string& name, const std::string& content) const {
  const std::string path = path_ + "/" + name;
  std::ofstream file(path, std::ios::binary);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  file.close();
  Check(file.good(), "a test file can be written");
  return path;
}

std::string SafetensorsBytes(const std::string& header, const std::string& data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(uint64_t{header.size()} >> (8 * i));
  return bytes + header + data;
}

std::string SafetensorsBytes(const std::vector<FilledTensor>& tensors) {
  nlohmann::json header = nlohmann::json::object();
  std::string data;
  for (const FilledTensor& tensor : tensors) {
    int64_t elements = 1;
    for (const int64_t dimension : tensor.shape) elements *= dimension;
    const size_t begin = data.size();
    const uint16_t bits = BF16FromF32(tensor.value);
    for (int64_t i = 0; i < elements; ++i) {
      data += static_cast<char>(bits);
      data += static_cast<char>(bits >> 8);
    }
    header[tensor.name] = {
        {"dtype", "BF16"}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size()}}};
  }
  return SafetensorsBytes(header.dump(), data);
}

}  // namespace baram::testing
