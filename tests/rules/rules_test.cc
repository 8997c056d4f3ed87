// The tree's own rules, checked on its sources: which includes are allowed, and which words may
// appear where.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

struct Source {
  std::string path;  // from the tree's root
  std::vector<std::string> lines;
};

bool IsSource(const fs::path& path) {
  const std::string e = path.extension().string();
  return e == ".h" || e == ".cc" || e == ".inc" || e == ".cu" || e == ".cuh";
}

std::vector<Source> ReadSources(const std::vector<std::string>& folders) {
  std::vector<Source> sources;
  const fs::path root = BARAM_SOURCE_DIR;
  for (const std::string& folder : folders) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      if (!entry.is_regular_file() || !IsSource(entry.path())) continue;
      Source source{fs::relative(entry.path(), root).string(), {}};
      std::ifstream in(entry.path());
      for (std::string line; std::getline(in, line);) source.lines.push_back(line);
      sources.push_back(std::move(source));
    }
  }
  return sources;
}

// The file named by an #include line, with its quotes or brackets; empty for other lines.
std::string Included(const std::string& line) {
  if (line.rfind("#include ", 0) != 0) return "";
  const size_t begin = line.find_first_of("\"<");
  const size_t end = begin == std::string::npos ? begin : line.find_first_of("\">", begin + 1);
  return end == std::string::npos ? "" : line.substr(begin, end - begin + 1);
}

bool StartsWithAny(const std::string& text, const std::vector<std::string>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](const std::string& p) { return text.rfind(p, 0) == 0; });
}

struct IncludeRule {
  const char* folder;                // applies to files below it; the longest match wins
  std::vector<std::string> allowed;  // our own headers, by prefix
  std::vector<std::string> banned;   // library headers, by prefix
  const char* sentence;
};

const std::vector<std::string> kServing = {"<grpc", "<google/", "<boost/", "<prometheus/", "<CLI/"};
const std::vector<std::string> kAllOutside = {"<grpc",    "<google/", "<boost/", "<prometheus/",
                                              "<CLI/",    "<cuda",    "<cublas", "<nlohmann/",
                                              "<spdlog/", "\"absl/"};

std::vector<std::string> With(std::vector<std::string> list, const std::vector<std::string>& more) {
  list.insert(list.end(), more.begin(), more.end());
  return list;
}

const IncludeRule kRules[] = {
    {"kernels/",
     {"\"kernels/"},
     kAllOutside,
     "kernels/ includes the standard library and kernels/ only"},
    {"kernels/ref/", {"\"kernels/"}, kAllOutside, "kernels/ref/ includes kernels/ only"},
    {"kernels/cpu/", {"\"kernels/"}, kAllOutside, "kernels/cpu/ includes kernels/ only"},
    {"kernels/cuda/",
     {"\"kernels/"},
     With(kServing, {"<nlohmann/", "<spdlog/", "\"absl/"}),
     "kernels/cuda/ includes kernels/ and CUDA only"},
    {"engine/model/",
     {"\"engine/model/", "\"kernels/device.h", "\"kernels/ops.h", "\"kernels/tensor.h",
      "\"kernels/step.h", "\"kernels/check.h", "\"kernels/rounding.h", "\"kernels/float_types.h",
      "\"kernels/trace/"},
     With(kServing, {"<cuda", "<spdlog/"}),
     "engine/model/ includes itself, kernels/{device,ops,tensor,step,check,rounding,float_types}.h "
     "and kernels/trace/, no RPC, no log"},
    {"engine/",
     {"\"engine/", "\"kernels/device.h", "\"kernels/ops.h", "\"kernels/tensor.h",
      "\"kernels/step.h", "\"kernels/check.h", "\"kernels/rounding.h"},
     With(kServing, {"<cuda", "<nlohmann/"}),
     "engine/ includes itself and kernels/{device,ops,tensor,step,check,rounding}.h, no RPC, no "
     "JSON"},
    {"server/",
     {"\"server/", "\"baram/v1/", "\"proto/", "\"google/rpc/", "\"engine/engine.h",
      "\"engine/config.h", "\"engine/blame.h", "\"engine/finish.h", "\"engine/memory_budget.h",
      "\"engine/request.h", "\"engine/outbox.h", "\"engine/stats.h", "\"engine/steady_time.h",
      "\"engine/touched_list.h"},
     {"<cuda"},
     "server/ includes itself, the protocol's headers and engine/{engine,config,blame,finish,"
     "memory_budget,request,outbox,stats,steady_time,touched_list}.h"},
};

bool IsOurs(const std::string& included) {
  return StartsWithAny(included, {"\"kernels/", "\"engine/", "\"server/", "\"tests/", "\"bench/",
                                  "\"proto/", "\"baram/", "\"google/"});
}

TEST(Rules, FoldersIncludeOnlyWhatTheyMay) {
  size_t seen = 0;
  for (const Source& source : ReadSources({"kernels", "engine", "server"})) {
    const IncludeRule* rule = nullptr;
    for (const IncludeRule& r : kRules) {
      if (source.path.rfind(r.folder, 0) == 0 &&
          (rule == nullptr || std::string(r.folder).size() > std::string(rule->folder).size())) {
        rule = &r;
      }
    }
    ASSERT_NE(rule, nullptr) << source.path;
    for (const std::string& line : source.lines) {
      const std::string included = Included(line);
      if (included.empty()) continue;
      ++seen;
      EXPECT_FALSE(StartsWithAny(included, rule->banned))
          << source.path << " includes " << included << ": " << rule->sentence;
      EXPECT_TRUE(!IsOurs(included) || StartsWithAny(included, rule->allowed))
          << source.path << " includes " << included << ": " << rule->sentence;
    }
  }
  EXPECT_GT(seen, 100u) << "the rule found no includes to check";
}

TEST(Rules, DevicesDoNotKnowEachOther) {
  const std::vector<std::string> devices = {"ref", "trace", "fake", "cpu", "cuda"};
  for (const Source& source : ReadSources({"kernels"})) {
    for (const std::string& own : devices) {
      if (source.path.rfind("kernels/" + own + "/", 0) != 0) continue;
      for (const std::string& line : source.lines) {
        for (const std::string& other : devices) {
          if (other == own) continue;
          EXPECT_NE(Included(line).rfind("\"kernels/" + other + "/", 0), 0u)
              << source.path << " includes " << Included(line) << ": devices are independent";
        }
      }
    }
  }
}

TEST(Rules, IsaFilesIncludeOnlyIntrinsicsAndFixedWidthTypes) {
  size_t seen = 0;
  for (const Source& source : ReadSources({"kernels/cpu"})) {
    const bool isa = source.path.find("/isa_") != std::string::npos;
    const bool inc = source.path.ends_with(".inc");
    if (!isa && !inc) continue;
    ++seen;
    for (const std::string& line : source.lines) {
      const std::string included = Included(line);
      if (included.empty() || included[0] == '"') continue;
      EXPECT_TRUE(included == "<immintrin.h>" || included == "<cstdint>" || included == "<cstddef>")
          << source.path << " includes " << included
          << ": an inline library function compiled with ISA flags can be the copy the linker "
             "keeps "
             "for everyone";
    }
  }
  EXPECT_GT(seen, 3u);
}

// A word that may appear in product sources only in the files listed.
struct WordRule {
  const char* word;
  std::vector<std::string> except;
  const char* sentence;
};

const WordRule kWords[] = {
    {"getenv",
     {"server/settings.cc"},
     "environment variables are read in server/settings.cc only (I11)"},
    {"std::regex", {}, "no backtracking regex on client data"},
    {"alloca(", {}, "no stack allocation by size"},
    {"dlopen(", {"kernels/cuda/cublaslt.cc"}, "nothing but cuBLASLt is loaded at run time"},
    {"system(", {}, "no shell"},
    {"popen(", {}, "no shell"},
    {"dynamic_cast", {}, "no type tests"},
    {"TODO", {}, "unfinished work belongs in an issue"},
    {"FIXME", {}, "unfinished work belongs in an issue"},
    {"#ifdef BARAM_", {}, "no device or feature switches by preprocessor"},
    // Inside kernels/cpu/ one source is compiled for several instruction sets.
    {"#if BARAM_", {"kernels/cpu/"}, "no device or feature switches by preprocessor"},
};

TEST(Rules, WordsStandOnlyWhereTheyMay) {
  for (const Source& source : ReadSources({"kernels", "engine", "server", "bench"})) {
    for (const WordRule& rule : kWords) {
      if (StartsWithAny(source.path, rule.except)) continue;
      for (size_t i = 0; i < source.lines.size(); ++i) {
        EXPECT_EQ(source.lines[i].find(rule.word), std::string::npos)
            << source.path << ":" << i + 1 << ": " << rule.word << ": " << rule.sentence;
      }
    }
  }
}

TEST(Rules, FilesSayWhatTheyAreForAndCanBeReadInOneSitting) {
  for (const Source& source : ReadSources({"kernels", "engine", "server", "tests", "bench"})) {
    ASSERT_FALSE(source.lines.empty()) << source.path << " is empty";
    EXPECT_EQ(source.lines[0].rfind("// ", 0), 0u) << source.path << " does not say what it is for";
    EXPECT_LE(source.lines.size(), 800u) << source.path << " has more than one job";
    for (size_t i = 0; i < source.lines.size(); ++i) {
      // Breaking a long string literal would make it harder to find.
      if (source.lines[i].find('"') != std::string::npos) continue;
      // Multi-byte text is counted in characters, not bytes.
      const size_t columns = static_cast<size_t>(
          std::count_if(source.lines[i].begin(), source.lines[i].end(),
                        [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
      EXPECT_LE(columns, 100u) << source.path << ":" << i + 1;
    }
  }
}

}  // namespace
