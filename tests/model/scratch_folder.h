// ScratchFolder: a test's temporary folder, and the model files that tests write into it.
#ifndef BARAM_TESTS_MODEL_SCRATCH_FOLDER_H_
#define BARAM_TESTS_MODEL_SCRATCH_FOLDER_H_

#include <cstdint>
#include <string>
#include <vector>

namespace baram::testing {

// Created by the constructor, removed with its contents by the destructor.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;

  const std::string& path() const { return path_; }
  // Writes a file; returns its path.
  std::string Write(const std::string& name, const std::string& content) const;

 private:
  std::string path_;
};

// A file in the safetensors format with this header, valid or not, and data.
std::string SafetensorsBytes(const std::string& header, const std::string& data);

// A bf16 tensor to write: every element is `value`.
struct FilledTensor {
  std::string name;
  std::vector<int64_t> shape;
  float value = 0;
};
std::string SafetensorsBytes(const std::vector<FilledTensor>& tensors);

}  // namespace baram::testing

#endif  // BARAM_TESTS_MODEL_SCRATCH_FOLDER_H_
