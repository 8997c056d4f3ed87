// What --slow-reader means for bytes in flight to a client, in every front end.
#ifndef BARAM_SERVER_SLOW_READER_H_
#define BARAM_SERVER_SLOW_READER_H_

namespace baram::server {

// How long sending `bytes` may take, in seconds, if a client may read nothing for `slow_reader_s`:
// that long, and as long again for each MiB.
inline double PatienceFor(double bytes, double slow_reader_s) {
  constexpr double kPaceBytes = 1 << 20;
  return slow_reader_s * (1 + bytes / kPaceBytes);
}

}  // namespace baram::server

#endif  // BARAM_SERVER_SLOW_READER_H_
