// Makes text safe for terminals.
#ifndef BARAM_SERVER_TERMINAL_TEXT_H_
#define BARAM_SERVER_TERMINAL_TEXT_H_

#include <string>
#include <string_view>

namespace baram::server {

// Whether a text contains control characters that a terminal would act on: C0, DEL and, in UTF-8,
// C1.
bool HoldsControl(std::string_view text);

// The text in a form safe for a terminal: a control character other than newline and tab as \u001b,
// a byte that is not part of a valid character, and may be a control code to an 8-bit terminal, as
// \x9b. Backslashes are kept, so the result can't be parsed back: it is for reading only.
std::string ForTerminal(std::string_view text);

}  // namespace baram::server

#endif  // BARAM_SERVER_TERMINAL_TEXT_H_
