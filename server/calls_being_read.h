// CallsBeingRead: calls that the engine does not know yet, by id, so that they can be aborted; and
// whether a client still waits for them.
#ifndef BARAM_SERVER_CALLS_BEING_READ_H_
#define BARAM_SERVER_CALLS_BEING_READ_H_

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace baram::server {

// Thread-safe. Bounded by its users: it holds the calls queued in the text pool.
class CallsBeingRead {
 public:
  // A call's entry in the list, which must outlive it.
  class Place {
   public:
    explicit Place(CallsBeingRead& calls) : calls_(calls), here_(calls.places_.end()) {}
    ~Place();
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

    // From here on Abort finds the call, until Leave. Does nothing if it has already entered.
    void Enter(std::string_view id);
    void Leave();
    // Leaves, as the call is refused. Returns the status to end it with: CANCELLED if it was
    // aborted before, since the aborting client was told that it ends; else `why`.
    absl::Status LeaveRefused(absl::Status why);
    bool aborted() const { return aborted_.load(); }
    // The call's client has disconnected: no more work is to be done for it.
    void Abandon() { abandoned_.store(true); }
    bool abandoned() const { return abandoned_.load(); }

   private:
    friend class CallsBeingRead;

    CallsBeingRead& calls_;
    std::multimap<std::string, Place*, std::less<>>::iterator here_;  // end(): not in the list
    std::atomic<bool> aborted_{false}, abandoned_{false};
  };

  // Marks all calls with that id as aborted; false if there is none. A caller that submits a
  // request and then finds its call not aborted may leave the rest to Engine::Abort, if that is
  // called after this.
  bool Abort(std::string_view id);

 private:
  std::mutex mutex_;  // guards what follows
  std::multimap<std::string, Place*, std::less<>> places_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_CALLS_BEING_READ_H_
