#include "common/base/machine.hpp"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <optional>
#include <thread>

namespace weir {
namespace {

/// What follows `key` and a colon in a file of /proc, without the blanks around it.
std::optional<std::string> field_of(const char* file, const std::string& key) {
  std::ifstream stream(file);
  std::string line;
  while (std::getline(stream, line)) {
    if (!line.starts_with(key)) continue;
    const auto begin = line.find_first_not_of(" \t", line.find(':') + 1);
    if (begin != std::string::npos) return line.substr(begin);
  }
  return std::nullopt;
}

}  // namespace

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

ThreadClock::ThreadClock() {
  if (pthread_getcpuclockid(pthread_self(), &clock_) != 0) clock_ = CLOCK_PROCESS_CPUTIME_ID;
}

double ThreadClock::seconds() const {
  timespec time{};
  if (clock_gettime(clock_, &time) != 0) return 0;
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void sleep_microseconds(index_t microseconds) {
  std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
}

index_t peak_resident_bytes() {
  // Not getrusage: its figure outlives an exec.
  const auto kibibytes = field_of("/proc/self/status", "VmHWM");
  return kibibytes ? std::stoll(*kibibytes) * 1024 : 0;
}

std::string cpu_name() { return field_of("/proc/cpuinfo", "model name").value_or("unknown"); }

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

int core_count() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  return sched_getaffinity(0, sizeof cores, &cores) == 0 ? std::max(1, CPU_COUNT(&cores)) : 1;
}

}  // namespace weir
