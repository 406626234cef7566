#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <iostream>
#include <new>
#include <optional>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "common/base/machine.hpp"
#include "common/base/safe_text.hpp"
#include "common/net/agree.hpp"
#include "common/net/mpi.hpp"
#include "launch/command.hpp"
#include "launch/stop_request.hpp"
#include "launch/supervise/rank.hpp"
#include "launch/supervise/signals.hpp"
#include "worker/kernels/cpu/blas.hpp"

namespace weir {
namespace {

void print_error(std::string_view message) {
  const std::string identity = log_identity();
  std::cerr << safe_text(
                   text("weir: ", identity.empty() ? "" : text("[", identity, "] "), message, '\n'))
            << std::flush;
}

constexpr std::string_view kRun = "run";

std::string_view first_word(int argc, char** argv) { return argc < 2 ? "" : argv[1]; }

/// Sets what must hold before anything else runs. The first call in main.
void begin_process(int argc, char** argv) {
  // Without this, a file that is opened later could get the number of a closed stdout, and with it
  // what is printed.
  int descriptor = open("/dev/null", O_RDONLY);
  while (0 <= descriptor && descriptor <= STDERR_FILENO) descriptor = open("/dev/null", O_RDONLY);
  if (descriptor >= 0) close(descriptor);
  std::signal(SIGXFSZ, SIG_IGN);  // with `ulimit -f` the write then fails and says why
  if (first_word(argc, argv) == kRun) return catch_request_signals();
  if (first_word(argc, argv) != "train") return;
  std::signal(SIGPIPE, SIG_IGN);  // training goes on when nobody reads what it prints
  catch_stop_signals(!started_by_mpi_launcher());
}

/// The exit code of a command that returned `code`: an error if what it printed cannot leave the
/// process.
int after_output(int code) {
  std::cout.flush();
  if (std::cout) return code;
  // The stream has lost the reason; the system tells it again.
  const bool fails_still = write(STDOUT_FILENO, "\n", 1) < 0;
  print_error(text("cannot write to stdout: ",
                   fails_still ? std::strerror(errno) : "part of the output is missing"));
  return code == 0 ? static_cast<int>(ExitCode::error) : code;
}

/// Whether these words start a job that speaks MPI.
bool speaks_mpi(const Arguments& words) {
  if (words.empty()) return false;
  const auto& known = commands();
  const auto command = std::ranges::find(known, words[0], &Command::name);
  return command != known.end() && command->speaks_mpi &&
         !asks_for_help({words.begin() + 1, words.end()});
}

int run(int argc, char** argv) {
  const Arguments words(argv + 1, argv + argc);
  // Under mpirun every rank would do and print the same, so only rank 0 does it.
  if (const int rank = launcher_rank(); rank > 0 && !speaks_mpi(words)) {
    if (rank == 1) log_info("rank 0 does this alone, the other ranks do nothing");
    return 0;
  }
  if (words.empty()) {
    std::cerr << help_of_weir();
    return static_cast<int>(ExitCode::usage);
  }
  const auto is_first = [&](const Arguments& names) {
    return std::ranges::find(names, words[0]) != names.end();
  };
  if (is_first({"help", "--help", "-h"})) {
    if (words.size() > 1) return find_command(words[1]).run({"--help"});
    std::cout << help_of_weir();
    return 0;
  }
  if (is_first({"version", "--version", "-V"})) {
    std::cout << "weir " << WEIR_VERSION << '\n';
    return 0;
  }
  const Command& command = find_command(words[0]);
  const Arguments arguments(words.begin() + 1, words.end());
  std::optional<Session> session;
  if (command.speaks_mpi && started_by_mpi_launcher() && !asks_for_help(arguments)) {
    session.emplace(argc, argv);
  }
  try {
    return command.run(arguments);
  } catch (const AgreedError& error) {  // all ranks are here, so all may return
    if (error.speaks()) print_error(error.what());
    return static_cast<int>(error.code());
  }
}

}  // namespace
}  // namespace weir

// Errors are caught only here. A rank that fails alone ends the whole job with abort_job: if it
// returned, the others would wait for it in MPI_Finalize for ever.
int main(int argc, char** argv) {
  using namespace weir;
  if (first_word(argc, argv) == kAsRank) return run_rank({argv + 2, argv + argc});
  begin_process(argc, argv);
  if (first_word(argc, argv) != kRun) {  // which computes nothing, and takes its signals itself
    ensure_blas_core(argc, argv);
    release_stop_signals();
  }
  try {
    return after_output(run(argc, argv));
  } catch (const Error& error) {
    print_error(error.what());
    abort_job(static_cast<int>(error.code()));
  } catch (const std::bad_alloc&) {
    print_error("out of memory; `weir plan` estimates what each rank needs");
    abort_job(static_cast<int>(ExitCode::error));
  } catch (const std::exception& error) {
    print_error(text("unexpected: ", error.what()));
    abort_job(static_cast<int>(ExitCode::error));
  }
}
