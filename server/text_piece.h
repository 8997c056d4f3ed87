// Piece: a std::string_view for Abseil's functions.
#ifndef BARAM_SERVER_TEXT_PIECE_H_
#define BARAM_SERVER_TEXT_PIECE_H_

#include <string_view>

#include "absl/strings/string_view.h"

namespace baram::server {

// Debian's Abseil has its own string_view: its StrCat does not accept std::string_view.
inline absl::string_view Piece(std::string_view s) { return {s.data(), s.size()}; }

}  // namespace baram::server

#endif  // BARAM_SERVER_TEXT_PIECE_H_
