#include <iostream>

#include "common/net/mpi.hpp"
#include "launch/command.hpp"
#include "launch/training_job.hpp"

namespace weir {

int train(const Arguments& arguments) {
  if (asks_for_help(arguments)) {
    RunConfig standard;
    std::cout << help_of_command(
        "train", "[--config FILE] [options]",
        "Trains a model: under mpirun with workers and parameter servers (each worker's rank is a\n"
        "server as well with --placement colocated), or in one process with --placement local.\n"
        "--config RUN/config.ini continues the run in that folder. Relative paths start from the\n"
        "working directory.",
        options(standard));
    return 0;
  }
  TrainingJob job(started_by_mpi_launcher() ? Comm::world() : Comm());
  job.agree(arguments);
  job.plan();
  job.connect();
  job.resume();
  job.run();
  return static_cast<int>(job.close());
}

}  // namespace weir
