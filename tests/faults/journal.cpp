#include "tests/faults/journal.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "common/base/error.hpp"

namespace weir::test {
namespace {

/// What a shell command prints, its first line.
std::string first_line_of(const std::string& command) {
  std::string line;
  if (FILE* const pipe = popen((command + " 2>/dev/null").c_str(), "r")) {
    for (int letter = fgetc(pipe); letter != EOF && letter != '\n'; letter = fgetc(pipe)) {
      line += static_cast<char>(letter);
    }
    pclose(pipe);
  }
  return line;
}

}  // namespace

Journal::Journal(std::filesystem::path path, const std::string& commit, index_t trials,
                 std::uint64_t& seed)
    : path_(std::move(path)) {
  std::ifstream old(path_);
  std::string old_commit;
  index_t old_trials = 0;
  std::uint64_t old_seed = 0;
  if (old >> old_commit >> old_trials >> old_seed && old_commit == commit && old_trials == trials) {
    seed = old_seed;
    index_t trial = 0;
    double seconds = 0;
    std::string result;
    while (old >> trial >> seconds >> result) {
      std::string rest;
      if (!std::getline(old, rest)) break;  // cut off while it was written
      results_[trial] = result == "passed";
      seconds_ += seconds;
    }
    return;
  }
  std::filesystem::create_directories(path_.parent_path());
  std::ofstream(path_) << commit << ' ' << trials << ' ' << seed << '\n';
}

void Journal::add(index_t trial, const std::string& failure, double seconds) {
  const std::lock_guard guard(mutex_);
  results_[trial] = failure.empty();
  seconds_ += seconds;
  std::string line = failure.empty() ? "passed" : "failed: " + failure;
  std::ranges::replace(line, '\n', ' ');
  std::ofstream(path_, std::ios::app) << trial << ' ' << seconds << ' ' << line << '\n';
}

index_t Journal::count(index_t begin, index_t end) const {
  return std::distance(results_.lower_bound(begin), results_.lower_bound(end));
}

index_t Journal::failure_count(index_t begin, index_t end) const {
  return std::count_if(results_.lower_bound(begin), results_.lower_bound(end),
                       [](const auto& each) { return !each.second; });
}

std::string commit_here() {
  const std::string commit = first_line_of("git rev-parse --short HEAD");
  if (commit.empty()) return "unknown";
  return commit + (first_line_of("git status --porcelain -uno").empty() ? "" : "+");
}

}  // namespace weir::test
