#include "benchmarks/job.hpp"

#include <sys/wait.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/base/error.hpp"
#include "common/base/text.hpp"

namespace weir::benchmark {
namespace {

std::string contents_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::ostringstream contents;
  contents << file.rdbuf();
  return contents.str();
}

}  // namespace

std::string weir_path() { return WEIR_BINARY; }

std::string quoted(const std::string& word) {
  std::string result = "'";
  for (const char letter : word)
    result += letter == '\'' ? std::string("'\\''") : std::string(1, letter);
  return result + "'";
}

ScratchFolder::ScratchFolder() {
  std::string name = std::filesystem::temp_directory_path() / "weir-benchmark-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) {
    throw Error(text("cannot make a scratch folder ", name, ": ", std::strerror(errno)));
  }
  path_ = name;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string austen_text() {
  FILE* pipe = popen("'" WEIR_CORPUS "'", "r");
  if (pipe == nullptr) throw Error(text("cannot start ", WEIR_CORPUS));
  std::string path;
  for (int letter; (letter = std::fgetc(pipe)) != EOF;) path += static_cast<char>(letter);
  if (pclose(pipe) != 0) throw Error("there is no text to train on; see above, or use --quick");
  while (!path.empty() && path.back() == '\n') path.pop_back();
  return path;
}

std::string write_letters(const std::filesystem::path& path, index_t bytes) {
  std::ofstream file(path, std::ios::binary);
  for (index_t i = 0; i < bytes; ++i) file.put(static_cast<char>('a' + i * i % 26));
  return path;
}

JobRecord::JobRecord(const std::filesystem::path& metrics_file) {
  std::ifstream file(metrics_file);
  if (!file) throw Error(text("cannot read ", metrics_file.string(), "; did the job start?"));
  std::string line;
  while (std::getline(file, line)) {
    const auto object = nlohmann::json::parse(line, nullptr, false);
    if (!object.is_object()) throw Error(text(metrics_file.string(), ": no JSON object: ", line));
    for (const auto& [key, value] : object.items()) {
      if (!value.is_number()) continue;
      columns_[text(object.value("kind", ""), ".", key)].push_back(value.get<double>());
    }
  }
}

const std::vector<double>& JobRecord::column(const std::string& kind,
                                             const std::string& key) const {
  const auto found = columns_.find(text(kind, ".", key));
  if (found == columns_.end()) throw Error(text("the job's metrics hold no ", key, " of a ", kind));
  return found->second;
}

bool JobRecord::has(const std::string& kind, const std::string& key) const {
  return columns_.contains(text(kind, ".", key));
}

JobRecord train(index_t ranks, const std::vector<std::string>& options) {
  const ScratchFolder scratch;
  return train(ranks, options, scratch.path() / "run");
}

JobRecord train(index_t ranks, const std::vector<std::string>& options,
                const std::filesystem::path& run) {
  const std::filesystem::path said = run.string() + ".said";
  std::string command =
      ranks == 1 ? text(quoted(WEIR_BINARY), " train --placement local")
                 : text(quoted(WEIR_BINARY), " run --restarts 0 -- -n ", ranks, " train");
  command += text(" --run ", quoted(run.string()), " --resume never --progress none");
  for (const std::string& option : options) command += text(" ", quoted(option));
  command += text(" >", quoted(said.string()), " 2>&1 </dev/null");
  const int status = std::system(command.c_str());
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  // That a policy lets training diverge is a result.
  if (code != 0 && code != static_cast<int>(ExitCode::diverged)) {
    throw Error(text("the job failed: ", command, "\n", contents_of(said)));
  }
  return JobRecord(run / "metrics.jsonl");
}

void side_by_side(std::size_t count, index_t at_once,
                  const std::function<void(std::size_t)>& work) {
  std::atomic<std::size_t> next = 0;
  const auto work_on = [&] {
    try {
      for (std::size_t at = next++; at < count; at = next++) work(at);
    } catch (...) {
      next = count;
      throw;
    }
  };
  std::vector<std::future<void>> others;
  for (index_t each = 1; each < at_once; ++each) {
    others.push_back(std::async(std::launch::async, work_on));
  }
  work_on();
  for (std::future<void>& other : others) other.get();
}

}  // namespace weir::benchmark
