// baram ask: the program itself, against a server that answers as each test needs.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "baram/v1/inference.grpc.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/http_server.h"
#include "server/listening_sockets.h"
#include "server/openai.h"
#include "server/program_name.h"
#include "tests/model/scratch_folder.h"

extern char** environ;

namespace baram::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

// How a server reports an invalid field.
grpc::Status Refusal(const std::string& field, const std::string& message) {
  google::rpc::BadRequest bad;
  bad.add_field_violations()->set_field(field);
  google::rpc::Status details;
  details.add_details()->PackFrom(bad);
  return {grpc::StatusCode::INVALID_ARGUMENT, message, details.SerializeAsString()};
}

// Sequences that set the clipboard, clear the screen and rewrite the line, and their form on a
// terminal.
constexpr char kSteering[] = "\x1b]52;c;aGk=\a\u009b2J바람\rok\t.\n";
constexpr char kSteeringShown[] = "\\u001b]52;c;aGk=\\u0007\\u009b2J바람\\u000dok\t.\n";

// Answers by the last message: "fine" with "ok."; "hang" with "begun", and then nothing; "flood"
// likewise with more than any pipe holds; "mute" with nothing; "die" like a server that ends in the
// middle; "steer" with terminal control sequences, "steer back" with such an error; "unknown" like
// a server without that model; "wrong" as to an invalid value; "long" as to a dialogue that exceeds
// the context.
class FakeInference final : public v1::Inference::Service {
 public:
  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    std::string dialogue;
    for (const v1::Message& message : request->chat().messages()) {
      dialogue += (dialogue.empty() ? "" : "|") + message.content();
    }
    const std::string word = dialogue.substr(dialogue.rfind('|') + 1);
    {
      std::lock_guard lock(mutex_);
      dialogues_.push_back(dialogue);
    }
    if (word == "wrong") {
      return Refusal("stopping.max_tokens", "stopping.max_tokens is 0 but must be more.");
    }
    if (word == "long") {
      return Refusal("prompt",
                     "The prompt is too long; shorten the prompt or set truncate_prompt_tokens.");
    }
    if (word == "unknown") return {grpc::StatusCode::NOT_FOUND, "The model `x` does not exist."};
    if (word == "steer back") return {grpc::StatusCode::NOT_FOUND, kSteering};
    v1::GenerateResponse event;
    event.mutable_prompt()->set_prompt_tokens(7);
    if (word != "mute") writer->Write(event);
    event.mutable_delta()->set_text(word == "fine"    ? "ok."
                                    : word == "flood" ? std::string(2 << 20, 'x')
                                    : word == "steer" ? kSteering
                                                      : "begun");
    event.mutable_delta()->add_token_ids(1);
    event.mutable_delta()->add_token_ids(2);
    if (word != "mute") writer->Write(event);
    if (word == "die") return {grpc::StatusCode::UNAVAILABLE, "Socket closed"};
    if (word == "hang" || word == "mute" || word == "flood") {
      while (!context->IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return grpc::Status::CANCELLED;
    }
    event.mutable_usage()->set_completion_tokens(2);
    writer->Write(event);
    return grpc::Status::OK;
  }
  // The messages of each call, in order.
  std::vector<std::string> dialogues() {
    std::lock_guard lock(mutex_);
    return dialogues_;
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> dialogues_;
};

// `baram ask` with a terminal as its standard input and output, and optionally as its standard
// error.
class Asking {
 public:
  Asking(const std::string& server, std::vector<std::string> args, bool complains_there = false) {
    terminal_ = posix_openpt(O_RDWR | O_NOCTTY);
    grantpt(terminal_);
    unlockpt(terminal_);
    const int own = open(ptsname(terminal_), O_RDWR | O_NOCTTY);
    termios mode{};
    tcgetattr(own, &mode);
    mode.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    mode.c_oflag &= ~static_cast<tcflag_t>(OPOST);
    tcsetattr(own, TCSANOW, &mode);
    int errors[2];
    EXPECT_EQ(pipe(errors), 0);
    errors_ = errors[0];

    args.insert(args.begin(), {BARAM_PROGRAM, "ask", "--server", server});
    std::vector<char*> argv;
    for (std::string& arg : args) argv.push_back(arg.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, own, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, own, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, complains_there ? own : errors[1], STDERR_FILENO);
    for (const int fd : {own, terminal_, errors[0], errors[1]}) {
      posix_spawn_file_actions_addclose(&files, fd);
    }
    EXPECT_EQ(posix_spawn(&pid_, BARAM_PROGRAM, &files, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&files);
    close(own);
    close(errors[1]);
  }
  ~Asking() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(terminal_);
    close(errors_);
  }

  void Type(const std::string& text) {
    EXPECT_EQ(write(terminal_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void Interrupt() { kill(pid_, SIGINT); }
  // Reads until what was shown since the last call ends with `text`; false if that does not happen.
  bool Shows(const std::string& text) {
    shown_.clear();
    while (!shown_.ends_with(text)) {
      if (!ReadSome(terminal_, &shown_)) return false;
    }
    return true;
  }
  // Waits until something is shown, and leaves it unread.
  bool Begins() {
    pollfd ready{.fd = terminal_, .events = POLLIN, .revents = 0};
    return poll(&ready, 1, kPatienceMs) == 1;
  }
  // Interrupts it until it ends, without reading. Returns the exit code, or nullopt if it does not
  // end.
  std::optional<int> EndsByInterrupts() {
    for (int i = 0; i < 100; ++i) {
      Interrupt();
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      int status = 0;
      if (waitpid(pid_, &status, WNOHANG) != pid_) continue;
      pid_ = -1;
      return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    return std::nullopt;
  }
  // The names of its threads.
  std::set<std::string> Threads() const {
    std::set<std::string> names;
    const std::string tasks = "/proc/" + std::to_string(pid_) + "/task";
    for (const auto& task : std::filesystem::directory_iterator(tasks)) {
      std::ifstream file(task.path() / "comm");
      std::string name;
      std::getline(file, name);
      names.insert(name);
    }
    return names;
  }
  // The exit code, once it has ended; `output` and `complaint` are then complete.
  int Ends() {
    while (ReadSome(errors_, &complaint)) {
    }
    while (ReadSome(terminal_, &shown_)) {
    }
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  std::string output, complaint;

 private:
  static constexpr int kPatienceMs = 20'000;

  bool ReadSome(int fd, std::string* to) {
    pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
    char bytes[4096];
    if (poll(&ready, 1, kPatienceMs) != 1) return false;
    const ssize_t got = read(fd, bytes, sizeof(bytes));
    if (got <= 0) return false;  // on a terminal that its last user has closed: an error
    to->append(bytes, static_cast<size_t>(got));
    if (fd == terminal_) output.append(bytes, static_cast<size_t>(got));
    return true;
  }

  pid_t pid_ = -1;
  int terminal_ = -1, errors_ = -1;
  std::string shown_;
};

class AskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    address_ = "127.0.0.1:" + std::to_string(port);
  }
  void TearDown() override { server_->Shutdown(std::chrono::system_clock::now()); }
  Asking Ask(std::vector<std::string> args) { return Asking(address_, std::move(args)); }
  // The exit code of a shell command; "$ASK" is the program with its server.
  int Shell(const std::string& command) {
    const std::string line = "ASK='timeout 20 " BARAM_PROGRAM " ask --server " + address_ + "'; (" +
                             command + ") 2>/dev/null";
    const int status = std::system(line.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  FakeInference service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

TEST_F(AskTest, CtrlCStopsAnAnswerAndKeepsTheDialogue) {
  Asking asking = Ask({"--chat"});
  ASSERT_TRUE(asking.Shows("> "));
  asking.Type("hang\n");
  ASSERT_TRUE(asking.Shows("begun"));
  asking.Interrupt();
  ASSERT_TRUE(asking.Shows("\n> "));
  asking.Type("mute\n");
  while (service_.dialogues().size() < 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  asking.Interrupt();
  ASSERT_TRUE(asking.Shows("\n> "));
  asking.Type("fine\n");
  ASSERT_TRUE(asking.Shows("ok.\n> "));
  asking.Type("/quit\n");
  EXPECT_EQ(asking.Ends(), 0);
  EXPECT_EQ(asking.complaint, "");
  // A partial answer that was shown is part of the dialogue; a question without an answer is not.
  EXPECT_THAT(service_.dialogues(), ElementsAre("hang", "hang|begun|mute", "hang|begun|fine"));
}

TEST_F(AskTest, ALineThatLooksLikeACommandIsNotSent) {
  Asking asking = Ask({"--chat"});
  ASSERT_TRUE(asking.Shows("> "));
  asking.Type("fine\n");
  ASSERT_TRUE(asking.Shows("ok.\n> "));
  asking.Type("/wat\n");
  ASSERT_TRUE(asking.Shows("> "));
  asking.Type("/clear\n");
  ASSERT_TRUE(asking.Shows("> "));
  asking.Type("//wat\n");
  ASSERT_TRUE(asking.Shows("> "));
  asking.Type("/quit\n");
  EXPECT_EQ(asking.Ends(), 0);
  EXPECT_THAT(asking.complaint,
              HasSubstr("there are /clear, which forgets the dialogue, and /quit"));
  EXPECT_THAT(asking.complaint, HasSubstr("// is sent with one slash"));
  EXPECT_THAT(service_.dialogues(), ElementsAre("fine", "/wat"));
  EXPECT_EQ(Shell("printf '/wat\\nfine\\n' | $ASK --chat > /dev/null"), 64);
}

// Ctrl-V lets a terminal pass the carriage return.
TEST_F(AskTest, TakesLinesOfWindowsFilesAndSkipsBlankOnes) {
  Asking asking = Ask({"--chat"});
  ASSERT_TRUE(asking.Shows("> "));
  asking.Type(
      "\xef\xbb\xbf"
      "fine\x16\r\n");
  ASSERT_TRUE(asking.Shows("ok.\n> "));
  asking.Type(" \t\x16\r\n\n/quit\x16\r\n");
  EXPECT_EQ(asking.Ends(), 0);
  EXPECT_EQ(asking.complaint, "");
  EXPECT_THAT(service_.dialogues(), ElementsAre("fine"));
}

TEST_F(AskTest, CtrlCAtThePromptEndsTheDialogue) {
  Asking asking = Ask({"--chat", "fine"});
  ASSERT_TRUE(asking.Shows("ok.\n> "));
  asking.Interrupt();
  EXPECT_EQ(asking.Ends(), 130);
  EXPECT_THAT(asking.output, EndsWith("> \n"));
}

TEST_F(AskTest, CtrlCEndsAnAnswerThatNobodyReads) {
  Asking asking = Ask({"flood"});
  ASSERT_TRUE(asking.Begins());
  EXPECT_EQ(asking.EndsByInterrupts(), 130);
}

TEST_F(AskTest, NothingThatItIsToldSteersTheTerminal) {
  Asking asking = Ask({"--chat", "steer"});
  ASSERT_TRUE(asking.Shows("> "));
  EXPECT_EQ(asking.output, kSteeringShown + std::string("> "));
  asking.Type("fine\n");
  ASSERT_TRUE(asking.Shows("> "));
  EXPECT_THAT(service_.dialogues(),
              ElementsAre("steer", std::string("steer|") + kSteering + "|fine"));

  Asking refused(address_, {"steer back"}, /*complains_there=*/true);
  EXPECT_EQ(refused.Ends(), 64);
  EXPECT_THAT(refused.output, HasSubstr(std::string("baram ask: ") + kSteeringShown));
}

TEST_F(AskTest, APipeGetsTheBytesOfTheAnswer) {
  const ScratchFolder folder;
  const std::string answer = folder.Write("answer", kSteering);
  EXPECT_EQ(Shell("$ASK steer | cmp - " + answer), 0);
  const std::string complaint =
      folder.Write("complaint", std::string("baram ask: ") + kSteering + "\n");
  EXPECT_EQ(Shell("$ASK steer back 2>&1 | cmp - " + complaint), 0);
}

// As for an `ask` in a script's background.
TEST_F(AskTest, ACtrlCThatIsIgnoredFromTheStartStaysSo) {
  const auto before = std::signal(SIGINT, SIG_IGN);
  Asking asking = Ask({"--chat"});
  std::signal(SIGINT, before);
  ASSERT_TRUE(asking.Shows("> "));
  asking.Interrupt();
  asking.Type("fine\n");
  ASSERT_TRUE(asking.Shows("ok.\n> "));
  asking.Interrupt();
  asking.Type("/quit\n");
  EXPECT_EQ(asking.Ends(), 0);
}

TEST_F(AskTest, TheThreadOfCtrlCHasAName) {
  Asking asking = Ask({"--chat"});
  ASSERT_TRUE(asking.Shows("> "));
  EXPECT_THAT(asking.Threads(), Contains("baram-signals"));
}

TEST_F(AskTest, CtrlCShowsWhatWasMeasured) {
  Asking asking = Ask({"--timings", "hang"});
  ASSERT_TRUE(asking.Shows("begun"));
  asking.Interrupt();
  EXPECT_EQ(asking.Ends(), 130);
  EXPECT_EQ(asking.output, "begun\n");
  EXPECT_THAT(asking.complaint, HasSubstr("7 prompt tokens (0 cached), 2 new; stopped]\n"));

  Asking mute = Ask({"--timings", "mute"});
  while (service_.dialogues().size() < 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  mute.Interrupt();
  EXPECT_EQ(mute.Ends(), 130);
  EXPECT_EQ(mute.output, "\n");
  EXPECT_THAT(mute.complaint, HasSubstr("before the first token]\n"));
}

TEST_F(AskTest, AServerThatGoesAwayIsOneSentence) {
  Asking asking = Ask({"die"});
  EXPECT_EQ(asking.Ends(), 69);
  EXPECT_EQ(asking.output, "begun\n");
  EXPECT_EQ(asking.complaint, "baram ask: the server at " + address_ +
                                  " went away before the answer was complete.\n");
  Asking nobody("127.0.0.1:1", {"fine"});
  EXPECT_EQ(nobody.Ends(), 69);
  EXPECT_THAT(nobody.complaint,
              HasSubstr("no server answers at 127.0.0.1:1. Start one with: " +
                        server::ProgramName(BARAM_PROGRAM) + " serve --model DIR\n"));
  Asking unresolved("nohost.invalid:1", {"fine"});
  EXPECT_EQ(unresolved.Ends(), 69);
  EXPECT_THAT(unresolved.complaint, HasSubstr("the host of nohost.invalid:1 can't be resolved;"));
}

// What is asked goes to the server and nowhere else.
TEST_F(AskTest, NoProxyIsAsked) {
  EXPECT_EQ(Shell("http_proxy=http://127.0.0.1:1 https_proxy=http://127.0.0.1:1 no_proxy= "
                  "\"" BARAM_PROGRAM "\" ask --server " +
                  address_ + " fine | grep -qx ok."),
            0);
}

TEST_F(AskTest, RawTextHasNoMessages) {
  Asking asking = Ask({"--raw", "--system", "Be brief.", "fine"});
  EXPECT_EQ(asking.Ends(), 64);
  EXPECT_EQ(asking.complaint, "baram ask: --raw has no messages; leave out --system.\n");
}

// Also where it is not on PATH.
TEST_F(AskTest, ExamplesNameTheProgramAsItWasCalled) {
  const auto shown = [this](const std::string& arguments, const std::string& example) {
    return Shell("cd /; \"" BARAM_PROGRAM "\" " + arguments + " 2>&1 | grep -qF -- \"" +
                 server::ProgramName(BARAM_PROGRAM) + " " + example + "\"") == 0;
  };
  EXPECT_TRUE(shown("--help", "serve --model DIR"));
  EXPECT_TRUE(shown("", "inspect --model DIR"));
  EXPECT_TRUE(shown("serve --help", "serve --model ./SmolLM2-135M-Instruct"));
  EXPECT_TRUE(shown("inspect --help", "inspect --model DIR"));
  EXPECT_TRUE(shown("ask --help", "ask --temperature 0 --timings"));
  EXPECT_FALSE(shown("ask --help", "ask --no-such-option"));
}

TEST_F(AskTest, AnAddressThatAnswersInHttpIsTold) {
  auto free_port = server::ListeningSockets::Bind("127.0.0.1:0");
  ASSERT_TRUE(free_port.ok()) << free_port.status();
  const auto http =
      server::HttpServer::Listen(*std::move(free_port), {.error_body = server::ListenerErrorBody});
  ASSERT_TRUE(http.ok()) << http.status();
  Asking asking((*http)->address(), {"fine"});
  EXPECT_EQ(asking.Ends(), 69);
  EXPECT_EQ(asking.complaint, "baram ask: what answers at " + (*http)->address() +
                                  " speaks HTTP/1, not gRPC; the gRPC port of a server is 50051 by "
                                  "default.\n");
}

TEST_F(AskTest, AnAddressThatAnswersInAnotherWayIsTold) {
  auto sockets = server::ListeningSockets::Bind("127.0.0.1:0");
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  const int listener = sockets->sockets()[0].fd;
  std::thread mail([listener] {
    pollfd called{.fd = listener, .events = POLLIN, .revents = 0};
    if (poll(&called, 1, 20'000) != 1) return;
    const int fd = accept(listener, nullptr, nullptr);
    const std::string greeting = "220 mail.example ESMTP at your service\r\n";
    (void)!write(fd, greeting.data(), greeting.size());
    char bytes[4096];
    while (read(fd, bytes, sizeof(bytes)) > 0) continue;
    close(fd);
  });
  const std::string address = "127.0.0.1:" + std::to_string(sockets->port());
  Asking asking(address, {"fine"});
  EXPECT_EQ(asking.Ends(), 69);
  mail.join();
  EXPECT_THAT(asking.complaint,
              HasSubstr("what answers at " + address + " does not speak gRPC; the gRPC port"));
}

TEST_F(AskTest, AModelThatIsNotServedIsAWrongQuestion) {
  Asking asking = Ask({"--model", "x", "unknown"});
  EXPECT_EQ(asking.Ends(), 64);
  EXPECT_EQ(asking.complaint, "baram ask: The model `x` does not exist.\n");
}

TEST_F(AskTest, WhatTheServerRefusesIsNamedAsItsFlag) {
  Asking asking = Ask({"--max-tokens", "0", "wrong"});
  EXPECT_EQ(asking.Ends(), 64);
  EXPECT_EQ(asking.complaint, "baram ask: --max-tokens is 0 but must be more.\n");
}

TEST_F(AskTest, ADialogueThatOutgrewTheContextMayBeForgotten) {
  Asking asking = Ask({"--chat", "long"});
  ASSERT_TRUE(asking.Shows("> "));
  asking.Type("/quit\n");
  EXPECT_EQ(asking.Ends(), 64);
  EXPECT_EQ(asking.complaint,
            "baram ask: The prompt is too long; shorten the prompt.\n"
            "baram ask: /clear forgets the dialogue and begins another.\n");
  Asking wrong = Ask({"--chat", "--max-tokens", "0", "wrong"});
  ASSERT_TRUE(wrong.Shows("> "));
  wrong.Type("/quit\n");
  EXPECT_EQ(wrong.Ends(), 64);
  EXPECT_EQ(wrong.complaint, "baram ask: --max-tokens is 0 but must be more.\n");
}

TEST_F(AskTest, AnAddressThatIsNoneIsAWrongQuestion) {
  for (const char* address : {"foo", "http://127.0.0.1:8000", "127.0.0.1:", ":50051"}) {
    Asking asking(address, {"fine"});
    EXPECT_EQ(asking.Ends(), 64) << address;
    EXPECT_THAT(asking.complaint, HasSubstr("must be HOST:PORT")) << address;
  }
}

TEST_F(AskTest, ADialogueEndsAsItsLastAnswer) {
  Asking stopped = Ask({"--chat", "hang"});
  ASSERT_TRUE(stopped.Shows("begun"));
  stopped.Interrupt();
  ASSERT_TRUE(stopped.Shows("\n> "));
  stopped.Type("/quit\n");
  EXPECT_EQ(stopped.Ends(), 130);

  Asking refused = Ask({"--chat", "unknown"});
  ASSERT_TRUE(refused.Shows("> "));
  refused.Type("/quit\n");
  EXPECT_EQ(refused.Ends(), 64);

  Asking mended = Ask({"--chat", "unknown"});
  ASSERT_TRUE(mended.Shows("> "));
  mended.Type("fine\n");
  ASSERT_TRUE(mended.Shows("ok.\n> "));
  mended.Type("/quit\n");
  EXPECT_EQ(mended.Ends(), 0);

  Asking nobody("127.0.0.1:1", {"--chat", "fine"});
  ASSERT_TRUE(nobody.Shows("> "));
  nobody.Type("/quit\n");
  EXPECT_EQ(nobody.Ends(), 69);
}

TEST_F(AskTest, OutputThatIsLostIsNoSuccess) {
  EXPECT_EQ(Shell("$ASK fine > /dev/null"), 0);
  EXPECT_EQ(Shell("$ASK fine > /dev/full"), 74);
  EXPECT_EQ(Shell("$ASK hang > /dev/full"), 74);  // and does not wait for the rest
  EXPECT_EQ(Shell("echo fine | $ASK --chat > /dev/full"), 74);
  EXPECT_EQ(Shell("$ASK --help > /dev/full"), 74);
  EXPECT_EQ(Shell(BARAM_PROGRAM " --version > /dev/full"), 74);
  // More than a buffer: an earlier write fails.
  EXPECT_EQ(Shell(BARAM_PROGRAM " serve --help > /dev/full"), 74);
  EXPECT_EQ(Shell("{ " BARAM_PROGRAM " serve --help > /dev/full; } 2>&1 | "
                  "grep -q \"can't write the output: [^S]\""),
            0);
}

}  // namespace
}  // namespace baram::testing
