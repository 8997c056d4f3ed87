// Supervise: from a server that is ready to one that has stopped.
#ifndef BARAM_SERVER_SUPERVISE_H_
#define BARAM_SERVER_SUPERVISE_H_

#include <chrono>
#include <functional>
#include <optional>

#include "server/server.h"
#include "server/watchdog.h"

namespace baram::server {

// The first signal that asks for a stop, if it has arrived or arrives within `patience`.
using WaitForSignal = std::function<std::optional<int>(std::chrono::milliseconds patience)>;

// Watches `server` until there is a signal, then stops it: first not ready, then refusing, then the
// end of the last call. Returns 0, or, as soon as only a restart can help, the watchdog's code:
// then threads may hang, `server` must not be destroyed, and only _exit ends the process.
int Supervise(Server& server, Watchdog& watchdog, const WaitForSignal& wait_for_signal);

}  // namespace baram::server

#endif  // BARAM_SERVER_SUPERVISE_H_
