// OpenAiStream: one HTTP exchange, answered by one or more replies (one per prompt).
#ifndef BARAM_SERVER_OPENAI_STREAM_H_
#define BARAM_SERVER_OPENAI_STREAM_H_

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "server/call_log.h"
#include "server/http_server.h"
#include "server/openai_call.h"
#include "server/openai_reply.h"
#include "server/openai_request.h"
#include "server/serving.h"

namespace baram::server {

// Keeps itself alive until every reply is over. Chunks come from the delivery thread, acceptances
// from text pool threads, everything else from the listener's threads: one mutex orders them.
// Events' JSON is written without holding it, and on the text pool if it takes a while, so that
// neither delivery nor another prompt waits. Short unstreamed replies, ends of streams and errors
// are written while holding it: every part is over by then.
class OpenAiStream : public std::enable_shared_from_this<OpenAiStream> {
 public:
  OpenAiStream(const OpenAiCall& call, const OpenAiRequest& request, std::string request_id);

  // Submits the prompts of `call`, the request's, in turn. Nothing is sent before all are accepted,
  // so that a refusal is an ordinary HTTP error. `on_text_pool`: the caller is a job of that pool.
  void Start(Call call, bool on_text_pool);

 private:
  // The sink of one prompt's reply.
  class Part final : public ReplySink {
   public:
    Part(OpenAiStream& stream, size_t index) : stream_(stream), index_(index) {}
    // Returns false, as the listener limits bytes in flight itself. A chunk that waits only for
    // other prompts to be accepted is not in flight, and its client is not slow.
    bool Write(ReplyChunk chunk) override {
      stream_.Bring(index_, std::move(chunk));
      return false;
    }
    void Break(absl::Status, const UsageEvent&) override {}  // never called: see Write

    std::optional<std::string> echo;  // the prompt's text, if it came as text and is to be echoed
    std::shared_ptr<Reply> reply;     // once accepted
    bool over = false;                // nothing more comes from it
    // Its last chunk's events are in pending_ or being written; delivery waits for WriteDone.
    bool waits = false, sending = false;

   private:
    OpenAiStream& stream_;
    const size_t index_;
  };

  // Returns whether further prompts are wanted.
  bool OnAccepted(size_t index, absl::StatusOr<Accepted> accepted);
  void Bring(size_t index, ReplyChunk chunk);  // to OnChunk
  void OnChunk(size_t index, const ReplyChunk& chunk);
  void OnWritten(HttpEnd end);
  void OnGone(HttpEnd how);
  void OnCut();  // what all answers keep is too much, and this keeps most

  // The rest requires mutex_.
  // A part was aborted from elsewhere: so are the others, even those not accepted yet. The call
  // ends as its client requested, with "abort", which is no error.
  void EndAborted();
  // Ends a part whose prompt is not accepted. Unless the call has failed, it was aborted: its
  // choices say so, and show nothing of the prompt.
  void Skip(size_t index);
  // Events to be written; kept until then.
  void Pend(std::string_view events);
  std::string TakePending();
  // Ends every part; the first status counts. Before the headers are sent it becomes an ordinary
  // error.
  void Fail(const absl::Status& status);
  void Abandon(HttpEnd how);  // the same, when nothing more can be sent
  void Advance();             // sends what can be sent, and the end once every part is over
  void BeginStream();
  void Finish();
  absl::Status Told() const;  // status_ in the form sent to the client
  CallRecord Record() const;
  HttpHeaders Headers(const char* content_type) const;

  const OpenAiCall call_;
  const OpenAiFormat format_;
  const char* const max_tokens_name_;  // see Call
  const std::string request_id_;

  std::mutex mutex_;                    // guards what follows
  std::shared_ptr<OpenAiStream> self_;  // until every part is over
  std::vector<std::unique_ptr<Part>> parts_;
  KeptAnswers::One kept_;  // what reply_ and pending_ have
  OpenAiReply reply_;
  size_t undecided_ = 0;    // parts neither accepted nor refused
  size_t running_ = 0;      // parts that are not over
  bool streaming_ = false;  // headers are sent
  bool writing_ = false;
  // Set with the reason once nothing more can be sent.
  std::optional<HttpEnd> abandoned_;
  std::string pending_;                 // at most one chunk per part
  absl::Status status_;                 // of the whole call
  bool aborted_ = false;                // see EndAborted
  std::optional<EndReason> worst_end_;  // for the log
  UsageEvent usage_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_STREAM_H_
