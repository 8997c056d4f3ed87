// baram serve, the program: how it rejects what it can't serve, and how it ends.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <memory>
#include <regex>
#include <string>
#include <vector>

#include "baram/v1/operator.grpc.pb.h"
#include "server/exit_codes.h"
#include "server/json_fields.h"
#include "server/settings.h"
#include "server/settings_table.h"
#include "tests/model/scratch_folder.h"
#include "tests/server/comes.h"
#include "tests/server/http_client.h"
#include "tests/server/program.h"
#include "tests/server/tiny_folder.h"

namespace baram::testing {
namespace {

using server::Json;
using ::testing::HasSubstr;
using ::testing::Not;

class ServeTest : public ::testing::Test {
 protected:
  // The command, on free ports.
  std::string Serve(const std::string& more = "") const {
    return "$BARAM serve --grpc-listen 127.0.0.1:0 --http-listen off --metrics-listen off "
           "--model " +
           model_.path() + more;
  }
  std::string Inspect(const std::string& more = "") const {
    return "$BARAM inspect --model " + model_.path() + more;
  }
  // Shell code that waits until the file `log` contains `word`.
  std::string Await(const std::string& word, const std::string& log) const {
    return "; for i in $(seq 200); do grep -q " + word + " " + log + " && break; sleep 0.1; done";
  }

  // A server that runs on, all its listeners on free ports, until it is signalled twice or for two
  // minutes. `before` is shell code.
  struct Background {
    std::string pid, log;

    // Of the listener "gRPC", "HTTP" or "metrics".
    std::string Address(const std::string& name) const {
      const size_t at = log.find(" " + name + " 127.0.0.1:");
      if (at == std::string::npos) return "127.0.0.1:1";
      const size_t from = at + name.size() + 2;
      return log.substr(from, log.find(',', from) - from);
    }
    server::RawResponse Ask(const std::string& name, const std::string& request) const {
      server::RawClient client(Address(name));
      client.Send(request);
      return client.Read();
    }
    void Signal(const std::string& signal) const { RunShell("kill -" + signal + " " + pid); }
  };
  Background ServeOn(const std::string& settings, const std::string& before = "") const {
    const std::string log = scratch_.Write("log", "");
    const Ran started = RunShell(
        "(" + before +
        "exec timeout 120 ${BARAM##* } serve --grpc-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 "
        "--metrics-listen 127.0.0.1:0 --model " +
        model_.path() + settings + " > /dev/null 2>> " + log + ") & echo $!" +
        Await("ready:", log) + "; cat " + log);
    return {.pid = started.output.substr(0, started.output.find('\n')), .log = started.output};
  }

  TinyFolder model_;
  ScratchFolder scratch_;
};

struct Wrong {
  std::string setting, value;
  std::string words;  // after the place
  int flag_code = server::kExitUsage, other_code = server::kExitConfig;
};

// For settings that only a model, a machine or a file can show to be wrong.
TEST_F(ServeTest, AWrongSettingIsToldWithItsPlace) {
  for (const Wrong& wrong : {
           Wrong{"device", "fpga", ": there is no device \"fpga\""},
           Wrong{"isa", "avx2", ": device ref has no isa \"avx2\""},
           Wrong{"max-model-len", "100000", " is 100000 but the model was made for contexts"},
           Wrong{"kv-cache-bytes", "1", " 1 are too few: the smallest useful KV cache"},
           Wrong{"kv-cache-bytes", "900TiB", ": At least "},
           Wrong{"chat-template", "/none/such", ": There is no file /none/such",
                 server::kExitNoInput, server::kExitNoInput},
       }) {
    const std::string device = wrong.setting == "device" ? "" : " --device ref";
    const std::string file =
        scratch_.Write("baram.toml", "\n" + wrong.setting + " = " + wrong.value + "\n");
    const std::string variable = server::Variable(wrong.setting);
    for (const std::string& command : {Serve(device), Inspect(device)}) {
      const Ran flag = RunShell(command + " --" + wrong.setting + " " + wrong.value);
      EXPECT_EQ(flag.code, wrong.flag_code) << flag.output;
      EXPECT_THAT(flag.output, HasSubstr(" --" + wrong.setting + wrong.words));
      const Ran set = RunShell("export " + variable + "=" + wrong.value + "; " + command);
      EXPECT_EQ(set.code, wrong.other_code) << set.output;
      EXPECT_THAT(set.output, HasSubstr(" " + variable + wrong.words));
      const Ran read = RunShell(command + " --config " + file);
      EXPECT_EQ(read.code, wrong.other_code) << read.output;
      EXPECT_THAT(read.output,
                  HasSubstr(" --config " + file + ", line 2: " + wrong.setting + wrong.words));
    }
  }
}

TEST_F(ServeTest, AModelThatIsNotThereIsToldWithItsPlace) {
  const Ran ran = RunShell("export BARAM_MODEL=/none/such; $BARAM inspect");
  EXPECT_EQ(ran.code, server::kExitNoInput);
  EXPECT_THAT(ran.output, HasSubstr("BARAM_MODEL: There is no folder /none/such."));
}

// The reader should see the error at once.
TEST_F(ServeTest, AnErrorHasNoConfigurationAboveIt) {
  const auto lines = [](const Ran& ran) {
    return std::count(ran.output.begin(), ran.output.end(), '\n');
  };
  const Ran context = RunShell(Serve(" --max-model-len 100000"));
  EXPECT_EQ(lines(context), 2) << context.output;
  EXPECT_THAT(context.output, HasSubstr("baram "));
  const Ran json = RunShell(Serve(" --max-model-len 100000 --log-format json"));
  EXPECT_EQ(lines(json), 2) << json.output;
  // Even if only the last header is wrong.
  std::filesystem::resize_file(model_.path() + "/model.safetensors", 1000);
  const Ran weights = RunShell(Serve());
  EXPECT_EQ(weights.code, server::kExitData);
  EXPECT_THAT(weights.output, Not(HasSubstr("Configuration")));
}

TEST_F(ServeTest, TheConfigurationIsShownOnceItCanWork) {
  const std::string log = scratch_.Write("log", "");
  const Ran ran = RunShell(Serve(" --max-n 7 --drain-delay 0 2> " + log) + " & serve=$!" +
                           Await("ready:", log) + "; kill $serve; wait $serve; cat " + log);
  const size_t shown = ran.output.find("  * max-n                     7\n");
  EXPECT_NE(shown, std::string::npos) << ran.output;
  EXPECT_LT(shown, ran.output.find("ready:"));
  EXPECT_EQ(ran.output.find("Configuration"), ran.output.rfind("Configuration"));
}

TEST_F(ServeTest, WeightsThatAreNoNumbersAreRefused) {
  std::fstream file(model_.path() + "/model.safetensors",
                    std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-2, std::ios::end);
  file << "\xc0\x7f";  // a NaN, in the last norm
  file.close();
  const Ran ran = RunShell(Serve());
  EXPECT_EQ(ran.code, server::kExitData) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("the weights give logits that are not finite"));
}

TEST_F(ServeTest, WarnsWhereNothingEndsAReply) {
  const std::string log = scratch_.Write("log", "");
  const Ran ran =
      RunShell("cd " + model_.path() +
               "; sed -i 's/\"eos_token_id\":702/\"eos_token_id\":null/' config.json; " +
               "rm special_tokens_map.json tokenizer_config.json generation_config.json; " +
               Serve(" --drain-delay 0 2> " + log) + " & serve=$!" + Await("ready:", log) +
               "; kill $serve; wait $serve; cat " + log);
  EXPECT_THAT(ran.output, HasSubstr("warning EOS ids none: replies end at their limits alone"));
}

TEST_F(ServeTest, WarnsOfStepsThatMayBeTakenForAHang) {
  for (const auto& [tokens, warned] : {std::pair("4096", false), {"4097", true}}) {
    const std::string log = scratch_.Write("log", "");
    const Ran ran =
        RunShell(Serve(std::string(" --drain-delay 0 --device ref --max-num-batched-tokens ") +
                       tokens + " 2> " + log) +
                 " & serve=$!" + Await("ready:", log) + "; kill $serve; wait $serve; cat " + log);
    EXPECT_EQ(
        ran.output.find("warning max-num-batched-tokens 4097 on device ref: ") != std::string::npos,
        warned)
        << ran.output;
  }
}

TEST_F(ServeTest, WarnsOfASettingOfOtherDevices) {
  const std::string log = scratch_.Write("log", "");
  const Ran ran =
      RunShell(Serve(" --drain-delay 0 --gpu-memory-utilization 0.5 2> " + log) + " & serve=$!" +
               Await("ready:", log) + "; kill $serve; wait $serve; cat " + log);
  EXPECT_THAT(ran.output, HasSubstr("gpu-memory-utilization 0.5 has no effect on device cpu"));
}

// Loading blocks where the configuration is shown: the pipe is full and not read.
TEST_F(ServeTest, TheFirstSignalWhileTheModelLoadsStopsAtOnce) {
  const std::string pipe = scratch_.path() + "/pipe";
  for (const auto& [signal, code] : {std::pair("HUP", 129), {"INT", 130}, {"TERM", 143}}) {
    const Ran ran = RunShell(
        "pipe=" + pipe + "; rm -f $pipe; mkfifo $pipe; exec 3<>$pipe; " +
        "dd if=/dev/zero of=$pipe oflag=nonblock bs=4096 count=1024 2> /dev/null; " +
        Serve(" 2>&3") + " & timeout=$!; for i in $(seq 200); do " +
        "serve=$(cat /proc/$timeout/task/$timeout/children); " +
        "cat /proc/${serve% }/task/*/comm | grep -q baram-signals && break; sleep 0.1; done; " +
        "kill -" + signal + " $serve; wait $timeout");
    EXPECT_EQ(ran.code, code) << signal << ": " << ran.output;
  }
}

// A script's background job: the Ctrl-C is meant for the foreground. (`timeout`, under which the
// others run, undoes that.)
TEST_F(ServeTest, AnInterruptThatIsIgnoredFromTheStartStaysSo) {
  const std::string log = scratch_.Write("log", "");
  const Ran ran =
      RunShell("BARAM=${BARAM##* }; " + Serve(" --drain-delay 1 2> " + log) + " & serve=$!" +
               Await("ready:", log) + "; kill -STOP $serve; kill -INT $serve; kill $serve; " +
               "kill -CONT $serve; wait $serve; code=$?; cat " + log + "; exit $code");
  EXPECT_EQ(ran.code, 0) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("new calls are taken for 1 s more"));
}

// As when a terminal closes: its shell and the kernel send one each. Here both are pending at once.
TEST_F(ServeTest, SignalsThatComeTogetherAreOneRequest) {
  const std::string log = scratch_.Write("log", "");
  const Ran ran = RunShell(Serve(" 2> " + log) + " & timeout=$!" + Await("ready:", log) +
                           "; serve=$(cat /proc/$timeout/task/$timeout/children); " +
                           "kill -STOP $serve; kill -INT $serve; kill $serve; kill -CONT $serve; " +
                           "wait $timeout; code=$?; cat " + log + "; exit $code");
  EXPECT_EQ(ran.code, 0) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("info stopped"));
}

// Clients do not send calls to a server that refuses them: the delay would be pointless.
TEST_F(ServeTest, ADrainThatWasAskedForIsNotDelayed) {
  const std::string log = scratch_.Write("log", "");
  std::future<Ran> ran = std::async(std::launch::async, [&] {
    return RunShell(Serve(" --drain-delay 3600 2> " + log) + " & serve=$!" +
                    Await("draining", log) + "; kill $serve; wait $serve; code=$?; cat " + log +
                    "; exit $code");
  });
  std::smatch ready;
  std::string text;
  EXPECT_TRUE(Comes([&] {
    std::ifstream file(log);
    text.assign(std::istreambuf_iterator<char>(file), {});
    return std::regex_search(text, ready, std::regex(" gRPC ([0-9.:]+), "));
  }));
  const auto channel = grpc::CreateChannel(ready[1], grpc::InsecureChannelCredentials());
  grpc::ClientContext context;
  v1::DrainResponse response;
  EXPECT_TRUE(v1::Operator::NewStub(channel)->Drain(&context, {}, &response).ok());
  const Ran ended = ran.get();
  EXPECT_EQ(ended.code, 0) << ended.output;
  EXPECT_THAT(ended.output, Not(HasSubstr("new calls are taken")));
}

// Connections without calls, however many, take no descriptor that a probe needs.
TEST_F(ServeTest, WithFewDescriptorsProbesAreAnswered) {
  const Background serve = ServeOn(" --drain-delay 0", "ulimit -n 200; ");
  EXPECT_THAT(serve.log,
              HasSubstr("warning limiting HTTP and gRPC to 19 connections each instead of "));
  std::vector<std::unique_ptr<server::RawClient>> idle;
  for (const char* const name : {"HTTP", "gRPC", "metrics"}) {
    for (int i = 0; i < 260; ++i) {
      idle.push_back(std::make_unique<server::RawClient>(serve.Address(name)));
    }
  }
  for (const char* const path : {"/live", "/ready", "/metrics"}) {
    const server::RawResponse response = serve.Ask("metrics", server::RawRequest("GET", path));
    EXPECT_EQ(response.status, 200) << path << "\n" << serve.log;
    if (std::string(path) == "/metrics") {
      EXPECT_THAT(response.body, HasSubstr("TOO_MANY_CONNECTIONS"));
      EXPECT_THAT(response.body, Not(HasSubstr("OUT_OF_DESCRIPTORS")));
    }
  }
  serve.Signal("TERM");
}

// Load balancers ask for a while before they notice; until then they send calls.
TEST_F(ServeTest, WhileADrainIsDelayedAServerIsNotReadyButServes) {
  for (const char* const signal : {"TERM", "HUP"}) {
    const Background serve = ServeOn(" --drain-delay 3600");
    const auto ready = [&] {
      return serve.Ask("metrics", server::RawRequest("GET", "/ready")).status;
    };
    EXPECT_EQ(ready(), 200) << serve.log;
    serve.Signal(signal);
    EXPECT_TRUE(Comes([&] { return ready() == 503; })) << signal;
    const server::RawResponse answer =
        serve.Ask("HTTP", server::RawRequest("POST", "/v1/completions", R"({"prompt":"hello"})",
                                             "Content-Type: application/json\r\n"));
    EXPECT_EQ(answer.status, 200) << signal << answer.body;
    RunShell("sleep 1.1");  // signals that come sooner are part of the same request
    serve.Signal("TERM");
  }
}

// Whoever presses it waits for the process.
TEST_F(ServeTest, CtrlCIsNotDelayed) {
  const std::string log = scratch_.Write("log", "");
  const Ran ran =
      RunShell(Serve(" --drain-delay 3600 2> " + log) + " & serve=$!" + Await("ready:", log) +
               "; kill -INT $serve; wait $serve; code=$?; cat " + log + "; exit $code");
  EXPECT_EQ(ran.code, 0) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("info stopped"));
}

TEST_F(ServeTest, ASecondSignalLeavesALineOfTheLog) {
  const std::string log = scratch_.Write("log", "");
  const Ran ran =
      RunShell(Serve(" --log-format json --drain-delay 30 2> " + log) + " & serve=$!" +
               Await("ready", log) + "; kill $serve" + Await("stopping", log) +
               "; sleep 1.1; kill $serve; wait $serve; code=$?; tail -n 1 " + log + "; exit $code");
  EXPECT_EQ(ran.code, 143) << ran.output;
  const Json line = Json::parse(ran.output, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(line.is_object()) << ran.output;
  EXPECT_EQ(line["level"], "warning");
  EXPECT_EQ(line["message"], "stopped at once by a signal");
}

}  // namespace
}  // namespace baram::testing
