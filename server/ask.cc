// baram ask: a streaming terminal client of the gRPC API.
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "baram/v1/inference.grpc.pb.h"
#include "engine/steady_time.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/ask_options.h"
#include "server/commands.h"
#include "server/exit_codes.h"
#include "server/interrupts.h"
#include "server/program_name.h"
#include "server/settings.h"
#include "server/terminal_text.h"
#include "server/text/utf8.h"

namespace baram::server {
namespace {

void AddMessage(const char* role, const std::string& content, v1::Chat* chat) {
  v1::Message* message = chat->add_messages();
  message->set_role(role);
  message->set_content(content);
}

// The request without its prompt.
v1::GenerateRequest RequestOf(const AskOptions& options) {
  v1::GenerateRequest request;
  request.set_model(options.model);
  v1::Sampling* sampling = request.mutable_sampling();
  if (options.temperature) sampling->set_temperature(*options.temperature);
  if (options.top_p) sampling->set_top_p(*options.top_p);
  if (options.top_k) sampling->set_top_k(*options.top_k);
  if (options.min_p) sampling->set_min_p(*options.min_p);
  if (options.repetition_penalty) sampling->set_repetition_penalty(*options.repetition_penalty);
  if (options.seed) sampling->set_seed(*options.seed);
  if (options.max_tokens) request.mutable_stopping()->set_max_tokens(*options.max_tokens);
  for (const std::string& stop : options.stop) request.mutable_stopping()->add_stop(stop);
  // To count the tokens of an answer that is interrupted.
  request.mutable_output()->set_token_ids(options.timings);
  return request;
}

void ShowTimings(const v1::Usage& usage, bool stopped) {
  if (stopped && usage.first_token_s() <= 0) {
    absl::FPrintF(stderr, "[stopped after %.3f s, before the first token]\n", usage.total_s());
    return;
  }
  const double decoding = usage.total_s() - usage.first_token_s();
  const std::string rate =
      usage.completion_tokens() > 1 && decoding > 0
          ? absl::StrFormat("%.1f tokens/s", (usage.completion_tokens() - 1) / decoding)
          : "-";
  absl::FPrintF(
      stderr,
      "[first token %.3f s, then %s, total %.3f s; %u prompt tokens (%u cached), %u new%s]\n",
      usage.first_token_s(), rate, usage.total_s(), usage.prompt_tokens(), usage.cached_tokens(),
      usage.completion_tokens(), stopped ? "; stopped" : "");
}

// The outcome of a question.
struct Answer {
  grpc::Status status;
  std::string text;
  bool begun = false;    // something arrived
  bool stopped = false;  // by Ctrl-C
  bool cut = false;      // by --max-tokens, or by the end of the context
  int write_error = 0;   // errno, if the text can't be written
};

// The request field that the server rejected; empty if it names none.
std::string RefusedField(const grpc::Status& status) {
  google::rpc::Status details;
  google::rpc::BadRequest bad;
  if (!details.ParseFromString(status.error_details())) return "";
  for (const auto& detail : details.details()) {
    if (detail.UnpackTo(&bad) && !bad.field_violations().empty()) {
      return bad.field_violations(0).field();
    }
  }
  return "";
}

// The server uses its own field names; this command has flags for some of them.
std::string InFlags(const std::string& message, const std::string& field) {
  static const std::map<std::string, std::string> kFlags = {
      {"stopping.max_tokens", "--max-tokens"},
      {"sampling.temperature", "--temperature"},
      {"sampling.top_p", "--top-p"},
      {"sampling.top_k", "--top-k"},
      {"sampling.min_p", "--min-p"},
      {"sampling.repetition_penalty", "--repetition-penalty"},
      {"sampling.seed", "--seed"},
      {"stopping.stop", "--stop"}};
  // Of a prompt that is too long; these sentences quote nothing of it.
  if (field == "prompt" || field == "stopping.max_tokens") {
    std::string plain = absl::StrReplaceAll(
        message, {{" or set truncate_prompt_tokens", ""}, {" max_tokens ", " --max-tokens "}});
    if (plain != message) return plain;
  }
  const auto flag = kFlags.find(field);
  if (flag == kFlags.end() || !message.starts_with(field + " ")) return message;
  return flag->second + message.substr(field.size());
}

// Whether the dialogue has outgrown the context.
bool OutgrewContext(const AskOptions& options, const std::string& field) {
  const bool for_its_answer = field == "stopping.max_tokens" && options.max_tokens > 0u;
  return options.chat && (field == "prompt" || for_its_answer);
}

// Why nothing came from the address: gRPC's message, and our explanation.
std::string DescribeSilence(const std::string& grpc_words, const AskOptions& options) {
  constexpr std::pair<std::string_view, std::string_view> kForeign[] = {
      {"http1.x server", "speaks HTTP/1, not gRPC"},
      {"Failed parsing HTTP/2", "does not speak gRPC"},
  };
  if (grpc_words.starts_with("DNS resolution failed")) {
    return absl::StrFormat("the host of %s can't be resolved; check its name, or give its address.",
                           options.address);
  }
  for (const auto& [met, meaning] : kForeign) {
    if (grpc_words.find(met) == std::string::npos) continue;
    return absl::StrFormat("what answers at %s %s; the gRPC port of a server is 50051 by default.",
                           options.address, meaning);
  }
  return absl::StrFormat("no server answers at %s. Start one with: %s serve --model DIR",
                         options.address, options.program);
}

// Makes foreign text safe to show: on a terminal it can't emit control sequences; a file or a pipe
// gets it byte for byte.
std::string Showable(const std::string& text, int stream) {
  return isatty(stream) == 1 ? ForTerminal(text) : text;
}

// Reports what went wrong; returns the exit code.
int Explain(const Answer& answer, const AskOptions& options) {
  if (answer.write_error != 0) {
    absl::FPrintF(stderr, "baram ask: can't write the answer: %s.\n",
                  std::strerror(answer.write_error));
    return kExitIo;
  }
  if (answer.stopped) return Interrupts::kExitInterrupted;
  const grpc::Status& status = answer.status;
  if (status.ok()) return 0;
  // A status without details does not come from the server.
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && status.error_details().empty()) {
    if (answer.begun) {
      absl::FPrintF(stderr,
                    "baram ask: the server at %s went away before the answer was complete.\n",
                    options.address);
    } else {
      absl::FPrintF(stderr, "baram ask: %s\n", DescribeSilence(status.error_message(), options));
    }
    return kExitUnavailable;
  }
  const std::string field = RefusedField(status);
  absl::FPrintF(stderr, "baram ask: %s\n",
                Showable(InFlags(status.error_message(), field), STDERR_FILENO));
  if (OutgrewContext(options, field)) {
    std::fputs("baram ask: /clear forgets the dialogue and begins another.\n", stderr);
  }
  const bool asked_wrong = status.error_code() == grpc::StatusCode::INVALID_ARGUMENT ||
                           status.error_code() == grpc::StatusCode::NOT_FOUND;
  return asked_wrong ? kExitUsage : kExitUnavailable;
}

// gRPC would reject it with a message that users can't understand.
grpc::Status CheckText(const v1::GenerateRequest& request) {
  bool valid = text::IsValidUtf8(request.text());
  for (const v1::Message& message : request.chat().messages()) {
    valid = valid && text::IsValidUtf8(message.content());
  }
  return valid ? grpc::Status::OK
               : grpc::Status(grpc::StatusCode::INVALID_ARGUMENT,
                              "the question is not valid UTF-8; convert it, or set the terminal "
                              "to UTF-8.");
}

// The client's own measurement of a call: an interrupted call delivers no usage.
class Measured {
 public:
  void Note(const v1::GenerateResponse& event) {
    if (event.has_usage()) {
      usage_ = event.usage();
      whole_ = true;
    }
    if (whole_) return;
    if (event.has_prompt()) {
      usage_.set_prompt_tokens(event.prompt().prompt_tokens());
      usage_.set_cached_tokens(event.prompt().cached_tokens());
    } else if (event.has_delta()) {
      if (usage_.first_token_s() <= 0) usage_.set_first_token_s(Seconds());
      usage_.set_completion_tokens(usage_.completion_tokens() +
                                   static_cast<uint32_t>(event.delta().token_ids_size()));
    }
  }
  // The server's usage, if it came.
  v1::Usage Usage() {
    if (!whole_) usage_.set_total_s(Seconds());
    return usage_;
  }

 private:
  double Seconds() const { return SecondsSince(began_); }

  const SteadyTime began_ = std::chrono::steady_clock::now();
  v1::Usage usage_;
  bool whole_ = false;
};

// Returns 0, or the errno of a failed write to standard output.
int Print(std::string_view text) {
  errno = 0;
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
  if (std::ferror(stdout) == 0) return 0;
  return errno != 0 ? errno : EIO;
}

// Streams one answer to standard output until it ends or Ctrl-C interrupts it.
Answer Stream(const AskOptions& options, const v1::GenerateRequest& request,
              Interrupts& interrupts) {
  Answer answer;
  answer.status = CheckText(request);
  if (!answer.status.ok()) return answer;
  // One connection per question: a failed one backs off before it reconnects.
  grpc::ChannelArguments own;
  own.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  own.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // the question goes to --server and nowhere else
  const auto stub = v1::Inference::NewStub(
      grpc::CreateCustomChannel(options.address, grpc::InsecureChannelCredentials(), own));
  grpc::ClientContext context;
  interrupts.Guard([&context] { context.TryCancel(); });
  Measured measured;
  const auto reader = stub->Generate(&context, request);
  for (v1::GenerateResponse event; reader->Read(&event);) {
    answer.begun = true;
    measured.Note(event);
    answer.cut |= event.finish().reason() == v1::FINISH_REASON_LENGTH;
    if (!event.has_delta() || answer.write_error != 0) continue;
    answer.text += event.delta().text();
    answer.write_error = Print(Showable(event.delta().text(), STDOUT_FILENO));
    if (answer.write_error != 0) context.TryCancel();
  }
  answer.status = reader->Finish();
  answer.stopped = interrupts.Release() && !answer.status.ok();
  // Whatever follows, be it only the shell's prompt, starts on its own line.
  const bool open = !answer.text.empty() && answer.text.back() != '\n';
  if ((open || answer.stopped) && answer.write_error == 0) answer.write_error = Print("\n");
  if (answer.cut && isatty(STDERR_FILENO) == 1) {
    std::fputs(
        options.max_tokens ? "[cut off by --max-tokens]\n" : "[cut off: the context is full]\n",
        stderr);
  }
  if (options.timings && (answer.status.ok() || answer.stopped)) {
    ShowTimings(measured.Usage(), answer.stopped);
  }
  return answer;
}

int AskOnce(const AskOptions& options, Interrupts& interrupts) {
  v1::GenerateRequest request = RequestOf(options);
  if (options.raw) {
    request.set_text(options.question);
  } else {
    v1::Chat* chat = request.mutable_chat();
    if (!options.system.empty()) AddMessage("system", options.system, chat);
    AddMessage("user", options.question, chat);
  }
  return Explain(Stream(options, request, interrupts), options);
}

// Reads a line without what an editor on Windows adds to it: a byte order mark, a carriage return.
// False at the end.
bool ReadLine(std::string* line) {
  if (!std::getline(std::cin, *line)) return false;
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (line->starts_with(kByteOrderMark)) line->erase(0, kByteOrderMark.size());
  if (line->ends_with('\r')) line->pop_back();
  return true;
}

// Returns the exit code of the last answer.
int Converse(const AskOptions& options, Interrupts& interrupts) {
  const bool terminal = isatty(STDIN_FILENO) == 1;
  v1::GenerateRequest request = RequestOf(options);
  v1::Chat* chat = request.mutable_chat();
  const auto start = [&] {
    chat->clear_messages();
    if (!options.system.empty()) AddMessage("system", options.system, chat);
  };
  start();
  std::string line = options.question;
  int code = 0;
  while (true) {
    if (line.empty()) {
      if (terminal) std::fputs("> ", stdout);
      std::fflush(stdout);
      if (!ReadLine(&line)) break;
    }
    if (line == "/quit") break;
    if (line == "/clear") {
      start();
    } else if (line.starts_with('/') && !line.starts_with("//")) {
      std::fputs(
          "baram ask: there is no such command; there are /clear, which forgets the dialogue, and "
          "/quit. A line that begins with // is sent with one slash.\n",
          stderr);
      if (!terminal) return kExitUsage;
    } else if (line.find_first_not_of(" \t") != std::string::npos) {
      AddMessage("user", line.starts_with('/') ? line.substr(1) : line, chat);
      const Answer answer = Stream(options, request, interrupts);
      const bool kept = answer.status.ok() || (answer.stopped && !answer.text.empty());
      code = Explain(answer, options);
      if (code == kExitIo || (code != 0 && !answer.stopped && !terminal)) return code;
      if (kept) {
        AddMessage("assistant", answer.text, chat);
      } else {
        chat->mutable_messages()->RemoveLast();
      }
    }
    line.clear();
  }
  return code;
}

}  // namespace

int Ask(const std::string& program, const std::vector<std::string>& args) {
  if (WantsHelp(args)) {
    std::fputs(WithProgram(kAskHelp, program).c_str(), stdout);
    return 0;
  }
  absl::StatusOr<AskOptions> options = ParseAskOptions(args);
  if (!options.ok()) {
    absl::FPrintF(stderr, "baram ask: %s\n", options.status().message());
    return kExitUsage;
  }
  options->program = program;
  if (options->raw && (options->chat || !options->system.empty())) {
    absl::FPrintF(stderr, "baram ask: --raw has no %s.\n",
                  options->chat ? "dialogue; leave out --chat" : "messages; leave out --system");
    return kExitUsage;
  }
  if (options->question.empty() && !options->chat) {
    if (isatty(STDIN_FILENO) == 1) {
      absl::FPrintF(stderr,
                    "baram ask: there is no question, as in: %s ask \"Why is the sky blue?\"\n",
                    program);
      return kExitUsage;
    }
    options->question.assign(std::istreambuf_iterator<char>(std::cin), {});
    if (options->question.find_first_not_of(" \t\r\n") == std::string::npos) {
      std::fputs("baram ask: the question is empty.\n", stderr);
      return kExitUsage;
    }
  }
  Interrupts interrupts;
  return options->chat ? Converse(*options, interrupts) : AskOnce(*options, interrupts);
}

}  // namespace baram::server
