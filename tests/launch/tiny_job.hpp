#pragma once

#include <fstream>
#include <optional>
#include <string>

#include "common/base/log.hpp"
#include "launch/training_job.hpp"
#include "tests/temporary_folder.hpp"

/// A training job that takes milliseconds, in the processes of the test.
namespace weir::test {

inline constexpr index_t kTinyJobSteps = 4;

/// What a job sets for the whole process, put back.
struct LogAsBefore {
  LogAsBefore() = default;
  LogAsBefore(const LogAsBefore&) = delete;
  LogAsBefore& operator=(const LogAsBefore&) = delete;
  ~LogAsBefore() {
    set_log_identity("");
    set_log_level(LogLevel::info);
  }
};

/// Rank 0 of `comm` makes a folder with a text; all know its path.
class SharedFolder {
 public:
  explicit SharedFolder(const Comm& comm = {}) {
    if (!comm || comm.rank() == 0) {
      own_.emplace();
      std::ofstream file(*own_ / "text");
      for (int line = 0; line < 60; ++line) file << line << " the weir regulates the stream\n";
    }
    const std::string own = own_ ? own_->path().string() : "";
    path_ = comm ? comm.broadcast(own, 0) : own;
  }
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::optional<TemporaryFolder> own_;
  fs::path path_;
};

/// A model of a few thousand parameters that learns the text of the folder.
inline Arguments tiny_job(const SharedFolder& folder, const std::string& run,
                          const Arguments& more) {
  Arguments all = {
      "--run=" + (folder / run).string(),
      "--data.files=" + (folder / "text").string(),
      text("--steps=", kTinyJobSteps),
      "--length=16",
      "--batch=4",
      "--micro-batch=2",
      "--model.layers=1",
      "--model.width=16",
      "--model.heads=2",
      "--model.feed-forward=32",
      "--attention.left=8",
      "--eval-every=2",
      "--eval-samples=2",
      "--progress=none",
      "--log-level=error",
  };
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

/// All phases of the job.
inline ExitCode train(TrainingJob& job, const Arguments& arguments) {
  job.agree(arguments);
  job.plan();
  job.connect();
  job.resume();
  job.run();
  return job.close();
}

}  // namespace weir::test
