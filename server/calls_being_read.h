// CallsBeingRead: calls that the engine does not know yet, by id, so that they can be aborted; and
// whether anybody still waits for them.
#ifndef BARAM_SERVER_CALLS_BEING_READ_H_
#define BARAM_SERVER_CALLS_BEING_READ_H_

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace baram::server {

// From any thread. Bounded by who enters: the calls that the text pool is given.
class CallsBeingRead {
 public:
  // A call's place among them. Outlived by the list.
  class Place {
   public:
    explicit Place(CallsBeingRead& calls) : calls_(calls), here_(calls.places_.end()) {}
    ~Place();
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

    // From here on Abort finds it, until it leaves. Does nothing where it is already.
    void Enter(std::string_view id);
    void Leave();
    // Leaves, as the call is refused. Returns what it ends with: CANCELLED if it was aborted until
    // then, since whoever aborted it heard that it ends; else `why`.
    absl::Status LeaveRefused(absl::Status why);
    bool aborted() const { return aborted_.load(); }
    // The call's client has gone: nothing more is to be done for it.
    void Abandon() { abandoned_.store(true); }
    bool abandoned() const { return abandoned_.load(); }

   private:
    friend class CallsBeingRead;

    CallsBeingRead& calls_;
    std::multimap<std::string, Place*, std::less<>>::iterator here_;  // end(): it is not there
    std::atomic<bool> aborted_{false}, abandoned_{false};
  };

  // Tells all with that id; false if there is none. Whoever submits a request and then finds its
  // call not aborted may leave the rest to Engine::Abort, if that is asked after this.
  bool Abort(std::string_view id);

 private:
  std::mutex mutex_;  // guards what follows
  std::multimap<std::string, Place*, std::less<>> places_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_CALLS_BEING_READ_H_
