// The program's name: see the header.
#include "server/program_name.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/text_piece.h"

namespace baram::server {

std::string ProgramName(const char* argv0) {
  const std::string name = argv0 == nullptr || *argv0 == '\0' ? "baram" : argv0;
  const bool plain = std::ranges::all_of(name, [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           std::string_view("/._-+@%:,").find(c) != std::string_view::npos;
  });
  return plain ? name : absl::StrCat("'", absl::StrReplaceAll(name, {{"'", "'\\''"}}), "'");
}

std::string WithProgram(std::string_view text, std::string_view program) {
  return absl::StrReplaceAll(Piece(text), {{"$0", Piece(program)}});
}

}  // namespace baram::server
