// What text does to a terminal that shows it.
#ifndef BARAM_SERVER_TERMINAL_TEXT_H_
#define BARAM_SERVER_TERMINAL_TEXT_H_

#include <string>
#include <string_view>

namespace baram::server {

// Whether a text would steer a terminal that shows it: C0, DEL and, in UTF-8, C1.
bool HoldsControl(std::string_view text);

// The text as a terminal may show it: a control character but for line end and tab as \u001b, a
// byte that is of no whole character, and may be a control to a terminal of 8 bits, as \x9b.
// Backslashes stay as they are: this is for eyes, and can't be undone.
std::string ForTerminal(std::string_view text);

}  // namespace baram::server

#endif  // BARAM_SERVER_TERMINAL_TEXT_H_
