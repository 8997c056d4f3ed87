// Paths of the committed tokenizers and goldens, and temporary folders for tests.
#ifndef BARAM_TESTS_TEXT_TEXT_DATA_H_
#define BARAM_TESTS_TEXT_TEXT_DATA_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "server/text/tokenizer.h"

namespace baram::text {

inline std::string DataPath(std::string_view name) {
  return std::string(BARAM_TEXT_DATA_DIR) + "/" + std::string(name);
}

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Keys keep the file's order, which templates can see.
inline nlohmann::ordered_json ReadGolden(std::string_view name) {
  return nlohmann::ordered_json::parse(ReadFile(DataPath(name)));
}

inline std::unique_ptr<Tokenizer> LoadTokenizer(std::string_view name) {
  auto tokenizer = Tokenizer::Load(DataPath(name));
  if (!tokenizer.ok()) {
    ADD_FAILURE() << tokenizer.status();
    return nullptr;
  }
  return *std::move(tokenizer);
}

// A temporary folder per test, removed at its end.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = testing::TempDir() + "baram_text_XXXXXX";
    path_ = mkdtemp(name.data());
  }
  ~ScratchFolder() { std::filesystem::remove_all(path_); }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::string& path() const { return path_; }

  void Write(std::string_view name, std::string_view content) const {
    std::ofstream file(path_ + "/" + std::string(name), std::ios::binary);
    file << content;
  }

 private:
  std::string path_;
};

}  // namespace baram::text

#endif  // BARAM_TESTS_TEXT_TEXT_DATA_H_
