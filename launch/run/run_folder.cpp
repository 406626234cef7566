#include "launch/run/run_folder.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <fstream>
#include <sstream>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "common/base/machine.hpp"
#include "launch/run/live.hpp"
#include "worker/kernels/cpu/blas.hpp"

namespace weir {
namespace {

/// The first line of a regular file, cut at 100 bytes; empty if there is none.
std::string first_line(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(fs::symlink_status(path, error))) return {};
  std::array<char, 101> line{};
  std::ifstream(path).getline(line.data(), line.size());
  return line.data();
}

bool holds_anything(const fs::path& folder) {
  std::error_code error;
  return fs::directory_iterator(folder, error) != fs::directory_iterator();
}

/// Throws UsageError if weir would overwrite files of others. A new run folder may hold other
/// files: a job's log, its settings, its text.
void refuse_foreign(const fs::path& folder) {
  if (is_run_folder(folder)) return;
  for (const char* const name :
       {"config.ini", "environment.txt", "metrics.jsonl", "decisions.jsonl", "report.html", "LOCK",
        "checkpoints", "live", "hang"}) {
    const fs::path path = folder / name;
    std::error_code error;
    if (!fs::exists(fs::symlink_status(path, error))) continue;
    // A job that was killed while it made its folder leaves only these.
    const bool is_begun = (path.filename() == "LOCK" && lock_state(folder) == LockState::begun) ||
                          (path.filename() == "checkpoints" && fs::is_directory(path, error) &&
                           !holds_anything(path));
    if (is_begun) continue;
    throw UsageError(text("--run ", folder.string(), ": this folder holds ", name,
                          ", but no run of weir, which would write there; choose another folder, "
                          "or take the file away"));
  }
}

/// Removes leftovers of replace_file, for files that only the owner of the folder writes.
void remove_half_written(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    for (const char* const own : {"config.ini", "environment.txt", "decisions.jsonl", "BEST"}) {
      if (name.starts_with(text(".tmp-", own, "-"))) fs::remove(entry.path(), error);
    }
  }
}

fs::path made_folder(const fs::path& path, FileSystem& files) {
  refuse_foreign(path);
  try {
    make_folders(files, RunFolder::checkpoints_of(path));
  } catch (const FileError& error) {
    throw Error(text("no run folder: ", error.what(), "; choose another with --run"));
  }
  return path;
}

/// How long ago this process was started, to about 10 ms.
double process_age_seconds() {
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  std::istringstream fields(line.substr(std::min(line.size(), line.rfind(')') + 1)));
  constexpr int kStartField = 22, kFirstField = 3;  // proc(5)
  std::string ticks;
  for (int field = kFirstField; field <= kStartField; ++field) fields >> ticks;
  timespec now{};
  if (ticks.empty() || clock_gettime(CLOCK_BOOTTIME, &now) != 0) return 0;
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec) -
         std::stod(ticks) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

/// A request to stop from before this process began was for an earlier job.
void remove_old_request(const fs::path& file) {
  std::error_code error;
  const auto made_at = fs::last_write_time(file, error);
  if (error) return;
  // The clock of its file system may be another one.
  const std::chrono::duration<double> age =
      fs::last_write_time(file.parent_path() / "LOCK", error) - made_at;
  if (error || age.count() < process_age_seconds()) return;
  if (fs::remove(file, error)) {
    log_info(text("removed ", file.string(), ", which was left from before"));
  }
}

}  // namespace

bool is_run_folder(const fs::path& folder) {
  if (lock_state(folder) == LockState::written) return true;
  if (first_line(folder / "metrics.jsonl").starts_with("{\"kind\":\"")) return true;
  std::error_code error;
  const fs::directory_iterator checkpoints(RunFolder::checkpoints_of(folder), error);
  return std::ranges::any_of(checkpoints, [](const fs::directory_entry& entry) {
    return first_line(entry.path() / "MANIFEST").starts_with("weir checkpoint ");
  });
}

RunFolder::RunFolder(const fs::path& path, FileSystem& files)
    : files_(files), path_(made_folder(path, files)), lock_(path_, files) {
  remove_half_written(path_);
  remove_half_written(checkpoints());
  remove_live_records(hang_folder(path_));
  remove_live_records(live_folder(path_));
  std::error_code failed;
  fs::create_directory(live_folder(path_), failed);
  if (failed) {
    log_warning(
        text("no watchdog: cannot make ", live_folder(path_).string(), ": ", failed.message()));
  }
  remove_old_request(path_ / "STOP");
}

void RunFolder::write_config(const std::vector<Setting>& settings) const {
  replace_file(path_ / "config.ini", settings_as_ini(settings), files_);
}

void RunFolder::write_environment(index_t ranks, std::string_view products,
                                  std::string_view data) const {
  replace_file(path_ / "environment.txt",
               text("weir       ", WEIR_VERSION, "\nhost       ", host_name(), "\ncpu        ",
                    cpu_name(), "\ncores      ", core_count(), "\nOpenBLAS   ", blas_core(),
                    "\nproducts   ", products, "\nranks      ", ranks, "\ndata       ", data, "\n"),
               files_);
}

}  // namespace weir
