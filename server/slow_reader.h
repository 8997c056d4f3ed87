// What --slow-reader means for bytes on their way to a client, whatever the front end.
#ifndef BARAM_SERVER_SLOW_READER_H_
#define BARAM_SERVER_SLOW_READER_H_

namespace baram::server {

// How long `bytes` may take to leave, in seconds, where a client may take nothing for
// `slow_reader_s`: that long, and as long again for each MiB.
inline double PatienceFor(double bytes, double slow_reader_s) {
  constexpr double kPaceBytes = 1 << 20;
  return slow_reader_s * (1 + bytes / kPaceBytes);
}

}  // namespace baram::server

#endif  // BARAM_SERVER_SLOW_READER_H_
