// TinyFolder: a model folder for tests of the server, whose greedy answer is known.
#ifndef BARAM_TESTS_SERVER_TINY_FOLDER_H_
#define BARAM_TESTS_SERVER_TINY_FOLDER_H_

#include <string>

#include "tests/model/scratch_folder.h"

namespace baram::testing {

// A Llama with the tokenizer and the chat template of tests/text/data/byte_level. Its attention and
// MLP are zero, so the next token depends only on the last: after any token outside kCycle comes
// the first of kCycle, and greedily kCycle repeats forever. At temperature 1 about one token in ten
// differs.
class TinyFolder {
 public:
  // Most of its characters are several tokens, each part of a character; no token occurs twice.
  static constexpr char kCycle[] = "곬 낯 쫓 헐🙂 한국";
  static constexpr int kCycleTokens = 15;
  static constexpr int kMaxModelLen = 512;
  static constexpr int kVocabSize = 720;  // padded: the tokenizer knows 705
  static constexpr int kEos = 702;        // <|im_end|>, primary
  static constexpr int kSecondEos = 700;  // <|endoftext|>

  explicit TinyFolder(int max_model_len = kMaxModelLen);
  const std::string& path() const { return folder_.path(); }

 private:
  ScratchFolder folder_;
};

}  // namespace baram::testing

#endif  // BARAM_TESTS_SERVER_TINY_FOLDER_H_
