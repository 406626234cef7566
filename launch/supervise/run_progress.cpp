#include "launch/supervise/run_progress.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "common/base/error.hpp"
#include "common/io/checkpoint_format.hpp"
#include "launch/run/run_folder.hpp"

namespace weir {
namespace {

/// Makes a folder the working directory as long as this lives; an empty path changes nothing.
class WorkingFolder {
 public:
  explicit WorkingFolder(const fs::path& folder) : before_(fs::current_path()) {
    if (!folder.empty()) fs::current_path(folder);
  }
  WorkingFolder(const WorkingFolder&) = delete;
  WorkingFolder& operator=(const WorkingFolder&) = delete;
  ~WorkingFolder() {
    std::error_code ignored;
    fs::current_path(before_, ignored);
  }

 private:
  fs::path before_;
};

/// The WEIR_ variables of the ranks: those that mpirun is told to export replace others.
std::vector<std::string> environment_of(const MpirunWords& words) {
  std::vector<std::string> all = weir_environment();
  for (const std::string& assignment : words.exported) {
    const std::string name = assignment.substr(0, assignment.find('=') + 1);
    if (!name.starts_with("WEIR_")) continue;
    std::erase_if(all, [&](const std::string& each) { return each.starts_with(name); });
    all.push_back(assignment);
  }
  return all;
}

}  // namespace

std::optional<RunConfig> config_of_job(const MpirunWords& words) {
  if (!words.trains()) return std::nullopt;
  try {
    const WorkingFolder folder(words.folder);
    const std::vector<std::string> options(words.command.begin() + 1, words.command.end());
    RunConfig config = parse_run_config(options, environment_of(words)).config;
    config.run = fs::absolute(config.run).string();
    return config;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

RunProgress::RunProgress(const MpirunWords& words) {
  const std::optional<RunConfig> config = config_of_job(words);
  if (!config) return;
  run_ = config->run;
  std::error_code error;
  const auto size = fs::file_size(run_ / "metrics.jsonl", error);
  if (!error) metrics_begin_ = static_cast<index_t>(size);
}

index_t RunProgress::committed_step() const {
  if (run_.empty()) return -1;
  try {
    for (const auto& [step, folder] : checkpoints_in(RunFolder::checkpoints_of(run_))) {
      if (is_checkpoint(folder)) return step;
    }
  } catch (const Error&) {  // the ranks say why the folder cannot be read
  }
  return -1;
}

std::string RunProgress::holder() const {
  std::ifstream file(run_ / "LOCK");
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The lines of metrics.jsonl since this was made; none without the file.
RunLog RunProgress::log() const {
  const fs::path file = run_ / "metrics.jsonl";
  std::error_code error;
  return run_.empty() || !fs::exists(file, error) ? RunLog() : read_run_log(file, metrics_begin_);
}

bool RunProgress::is_asked_to_stop() const {
  std::error_code error;
  return !run_.empty() && fs::exists(run_ / "STOP", error);
}

bool RunProgress::is_finished() const {
  try {
    const RunLog newest = log();
    const auto step = newest.summary.find("step");
    return step != newest.summary.end() && !newest.stopped &&
           step->second == static_cast<double>(committed_step());
  } catch (const Error&) {
    return false;
  }
}

SupervisionMetrics RunProgress::supervision() const {
  SupervisionMetrics metrics;
  metrics.step = std::max<index_t>(0, committed_step());
  const RunLog log = this->log();
  metrics.lost_step_count = log.steps.lost_count;
  metrics.step_count = static_cast<index_t>(log.steps.steps.size());
  if (!log.steps.has("step_s")) return metrics;
  for (const double seconds : log.steps.column("step_s")) {
    if (std::isfinite(seconds)) metrics.productive_seconds += seconds;
  }
  return metrics;
}

void RunProgress::write(const SupervisionMetrics& metrics) const {
  const fs::path file = run_ / "metrics.jsonl";
  std::error_code error;
  if (run_.empty() || !fs::exists(file, error)) return;
  MetricsFile(file).supervision(metrics);
}

}  // namespace weir
