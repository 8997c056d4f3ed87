// What becomes of the process where the system gives it no further thread.
#ifndef BARAM_SERVER_THREAD_LIMIT_H_
#define BARAM_SERVER_THREAD_LIMIT_H_

namespace baram::server {

// From here on a std::thread that can't be created, and whose failure nobody catches, ends the
// process with a sentence and kExitOs. Other ends by std::terminate stay what they are. Call once,
// first.
void TellOfThreadLimit();

}  // namespace baram::server

#endif  // BARAM_SERVER_THREAD_LIMIT_H_
