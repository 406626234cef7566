#include "launch/run/run_folder.hpp"

#include <algorithm>
#include <array>
#include <fstream>

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
    const bool is_begun = (path.filename() == "LOCK" && fs::is_empty(path, error)) ||
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

fs::path made_folder(const fs::path& path) {
  refuse_foreign(path);
  try {
    make_folders(posix_file_system(), RunFolder::checkpoints_of(path));
  } catch (const FileError& error) {
    throw Error(text("no run folder: ", error.what(), "; choose another with --run"));
  }
  return path;
}

}  // namespace

bool is_run_folder(const fs::path& folder) {
  if (first_line(folder / "LOCK").starts_with("host ")) return true;
  if (first_line(folder / "metrics.jsonl").starts_with("{\"kind\":\"")) return true;
  std::error_code error;
  const fs::directory_iterator checkpoints(RunFolder::checkpoints_of(folder), error);
  return std::ranges::any_of(checkpoints, [](const fs::directory_entry& entry) {
    return first_line(entry.path() / "MANIFEST").starts_with("weir checkpoint ");
  });
}

RunFolder::RunFolder(const fs::path& path) : path_(made_folder(path)), lock_(path_) {
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
  if (std::error_code error; fs::remove(path_ / "STOP", error)) {
    log_info(text("removed ", (path_ / "STOP").string(), ", which was left from before"));
  }
}

void RunFolder::write_config(const std::vector<Setting>& settings) const {
  replace_file(path_ / "config.ini", settings_as_ini(settings));
}

void RunFolder::write_environment(index_t ranks, std::string_view products,
                                  std::string_view data) const {
  replace_file(
      path_ / "environment.txt",
      text("weir       ", WEIR_VERSION, "\nhost       ", host_name(), "\ncpu        ", cpu_name(),
           "\ncores      ", core_count(), "\nOpenBLAS   ", blas_core(), "\nproducts   ", products,
           "\nranks      ", ranks, "\ndata       ", data, "\n"));
}

}  // namespace weir
