#include "launch/run_folder.hpp"

#include <csignal>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "common/base/machine.hpp"

namespace weir {
namespace {

constexpr double kLookSeconds = 0.5;

// A handler can reach nothing else.
volatile std::sig_atomic_t stop_signalled = 0;

extern "C" void note_stop_signal(int) { stop_signalled = 1; }

fs::path made_folder(const fs::path& path) {
  std::error_code error;
  const fs::path checkpoints = RunFolder::checkpoints_of(path);
  fs::create_directories(checkpoints, error);
  if (error) {
    throw Error(text("cannot make the run folder ", checkpoints.string(), ": ", error.message(),
                     "; choose another with --run"));
  }
  return path;
}

}  // namespace

RunFolder::RunFolder(const fs::path& path) : path_(made_folder(path)), lock_(path_) {
  if (std::error_code error; fs::remove(path_ / "STOP", error)) {
    log_info(text("removed ", (path_ / "STOP").string(), ", which was left from before"));
  }
}

void RunFolder::write_config(const std::vector<Setting>& settings) const {
  replace_file(path_ / "config.ini", settings_as_ini(settings));
}

void RunFolder::write_environment(index_t ranks, std::string_view data) const {
  replace_file(
      path_ / "environment.txt",
      text("weir       ", WEIR_VERSION, "\nhost       ", host_name(), "\ncpu        ", cpu_name(),
           "\ncores      ", core_count(), "\nOpenBLAS   ", blas_core(), "\nranks      ", ranks,
           "\ndata       ", data, "\n"));
}

StopRequest::StopRequest(const fs::path& run) : file_(run / "STOP") {
  struct sigaction action {};
  action.sa_handler = note_stop_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
}

bool StopRequest::arrived() {
  if (stop_signalled != 0) arrived_ = true;
  const double now = seconds_now();
  if (!arrived_ && now - looked_at_ >= kLookSeconds) {
    looked_at_ = now;
    std::error_code error;
    arrived_ = fs::exists(file_, error);
  }
  return arrived_;
}

}  // namespace weir
