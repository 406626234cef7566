#include <iostream>
#include <new>
#include <optional>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "common/base/machine.hpp"
#include "common/net/agree.hpp"
#include "common/net/mpi.hpp"
#include "launch/command.hpp"

namespace weir {
namespace {

void print_error(std::string_view message) {
  const std::string identity = log_identity();
  std::cerr << text("weir: ", identity.empty() ? "" : text("[", identity, "] "), message, '\n')
            << std::flush;
}

int run(int argc, char** argv) {
  const Arguments words(argv + 1, argv + argc);
  if (words.empty()) {
    std::cerr << help_of_weir();
    return static_cast<int>(ExitCode::usage);
  }
  if (asks_for_help(words)) {
    std::cout << help_of_weir();
    return 0;
  }
  if (words == Arguments{"--version"}) {
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

// Only here errors are caught. A rank that fails alone ends the whole job with abort_job: if it
// returned, the others would wait for it in MPI_Finalize for ever.
int main(int argc, char** argv) {
  using namespace weir;
  ensure_blas_core(argc, argv);
  try {
    return run(argc, argv);
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
