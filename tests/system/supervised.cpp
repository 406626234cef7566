#include "tests/system/supervised.hpp"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/io/checkpoint_format.hpp"

namespace weir::test {
namespace {

std::string contents_of(const std::filesystem::path& path) {
  std::ostringstream contents;
  contents << std::ifstream(path, std::ios::binary).rdbuf();
  return contents.str();
}

}  // namespace

std::vector<std::string> supervised(const std::vector<std::string>& options, int ranks,
                                    const std::vector<std::string>& job) {
  std::vector<std::string> all = {WEIR_BINARY, "run"};
  all.insert(all.end(), options.begin(), options.end());
  all.insert(all.end(), {"--", "-n", std::to_string(ranks)});
  all.insert(all.end(), job.begin(), job.end());
  return all;
}

std::vector<pid_t> processes(const std::string& words, int rank) {
  const std::string variable = "OMPI_COMM_WORLD_RANK=" + std::to_string(rank) + '\0';
  std::vector<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string line = contents_of(entry.path() / "cmdline");  // once: it may be dying
    if (line.find(words) == std::string::npos) continue;
    if (rank >= 0 && (line.find("as-rank") != std::string::npos ||
                      contents_of(entry.path() / "environ").find(variable) == std::string::npos)) {
      continue;
    }
    found.push_back(std::stoi(name));
  }
  return found;
}

std::vector<pid_t> children_of(int process) {
  const std::string id = std::to_string(process);
  std::istringstream numbers(contents_of("/proc/" + id + "/task/" + id + "/children"));
  std::vector<pid_t> all;
  for (pid_t child; numbers >> child;) all.push_back(child);
  return all;
}

pid_t rank_of(Process& job, const std::filesystem::path& run, int rank) {
  while (job.running()) {
    // The zero ends the word: other runs may have names that begin so.
    const std::vector<pid_t> found = processes("--run=" + run.string() + '\0', rank);
    if (!found.empty()) return found.front();
    sleep_microseconds(1000);
  }
  throw Error(text("the job ended before rank ", rank, " began: ", job.wait(1).output));
}

index_t committed_step(const std::filesystem::path& run) {
  const auto all = checkpoints_in(run / "checkpoints");
  return all.empty() ? 0 : all.begin()->first;
}

bool is_saving(const std::filesystem::path& run) {
  std::error_code error;
  const std::filesystem::directory_iterator entries(run / "checkpoints", error);
  return std::ranges::any_of(entries, [](const std::filesystem::directory_entry& entry) {
    return entry.path().filename().string().starts_with(".tmp-step-");
  });
}

}  // namespace weir::test
