// Process metrics, from /proc/self and related system calls.
#include "server/process_metrics.h"

#include <prometheus/metric_family.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>

#include "server/descriptors.h"

namespace baram::server {
namespace {

using prometheus::MetricType;

// Fields of /proc/self/stat.
struct Stat {
  double start_ticks = 0;  // since the system's boot
  double virtual_bytes = 0;
  double resident_pages = 0;
};

std::optional<Stat> ReadStat() {
  std::ifstream file("/proc/self/stat");
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  // The name may contain anything; the third field follows its last parenthesis.
  std::istringstream fields(line.substr(line.rfind(')') + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  Stat stat;
  fields >> stat.start_ticks >> stat.virtual_bytes >> stat.resident_pages;
  return fields ? std::optional(stat) : std::nullopt;
}

double Now(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

std::optional<double> OpenDescriptors() {
  std::error_code error;
  const std::filesystem::directory_iterator open("/proc/self/fd", error);
  // There is no descriptor left to look with, which is when operators want to know.
  if (error.value() == EMFILE) return static_cast<double>(DescriptorLimit());
  if (error) return std::nullopt;
  return static_cast<double>(std::distance(begin(open), end(open)) - 1);  // less its own
}

}  // namespace

double ProcessStartTime() {
  const std::optional<Stat> stat = ReadStat();
  if (!stat) return 0;
  const double booted = Now(CLOCK_REALTIME) - Now(CLOCK_BOOTTIME);
  return booted + stat->start_ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

int64_t ResidentBytes() {
  const std::optional<Stat> stat = ReadStat();
  return stat ? static_cast<int64_t>(stat->resident_pages) * sysconf(_SC_PAGESIZE) : 0;
}

std::vector<prometheus::MetricFamily> ProcessMetrics(double start_time_s) {
  std::vector<prometheus::MetricFamily> families;
  const auto add = [&](const char* name, const char* help, MetricType type,
                       std::optional<double> value) {
    if (!value) return;
    prometheus::MetricFamily family;
    family.name = name;
    family.help = help;
    family.type = type;
    prometheus::ClientMetric& metric = family.metric.emplace_back();
    (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = *value;
    families.push_back(std::move(family));
  };
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  add("process_cpu_seconds_total", "CPU time of this process, of users and of the system.",
      MetricType::Counter, Seconds(usage.ru_utime) + Seconds(usage.ru_stime));
  add("process_open_fds", "File descriptors that are open.", MetricType::Gauge, OpenDescriptors());
  add("process_max_fds", "Most file descriptors that may be open.", MetricType::Gauge,
      static_cast<double>(DescriptorLimit()));
  if (const std::optional<Stat> stat = ReadStat()) {
    add("process_virtual_memory_bytes", "Address space of this process.", MetricType::Gauge,
        stat->virtual_bytes);
    add("process_resident_memory_bytes", "Memory of this process that is resident.",
        MetricType::Gauge, stat->resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE)));
  }
  add("process_start_time_seconds", "Unix time at which this process began.", MetricType::Gauge,
      start_time_s);
  return families;
}

}  // namespace baram::server
