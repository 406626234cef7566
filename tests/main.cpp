// The test program of a folder. Started plainly it runs the serial cases and never speaks MPI;
// under mpirun it runs the cases for several ranks (MPI_TEST_CASE). Options beside doctest's own:
//   --alarm-s=N           a case for several ranks may take this long (default 60)
//   --allow-fewer-ranks   cases that need more ranks than there are do not fail the run
#define DOCTEST_CONFIG_IMPLEMENT
#define DOCTEST_CONFIG_NO_POSIX_SIGNALS  // else every rank that an abort kills reports a crash
#include <doctest/doctest.h>

#include <cstdlib>
#include <string_view>

#include "common/base/machine.hpp"
#include "tests/mpi_runner.hpp"
#include "tests/mpi_test.hpp"
#include "worker/kernels/cpu/blas.hpp"

#ifdef WEIR_SANITIZE
// HDF5 1.10 never frees a file whose close failed, as on a full disk; we test that it does fail.
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5_serial\n"; }
#endif

namespace {

using weir::test::MpiRunner;

struct RunnerOptions {
  unsigned alarm_s = 60;
  bool allow_fewer_ranks = false;
};

RunnerOptions runner_options(int argument_count, char** arguments) {
  RunnerOptions options;
  for (int i = 1; i < argument_count; ++i) {
    const std::string_view argument = arguments[i];
    constexpr std::string_view kAlarm = "--alarm-s=";
    if (argument.starts_with(kAlarm)) {
      options.alarm_s = static_cast<unsigned>(std::atoi(arguments[i] + kAlarm.size()));
    }
    if (argument == "--allow-fewer-ranks") options.allow_fewer_ranks = true;
  }
  return options;
}

int run_serial_cases(doctest::Context& context) {
  context.addFilter("test-suite-exclude", weir::test::kMpiSuite);
  return context.run();
}

int run_mpi_cases(doctest::Context& context, MpiRunner& runner, bool allow_fewer_ranks) {
  context.addFilter("test-suite", weir::test::kMpiSuite);
  context.setCout(&runner.out);
  const bool speaks = runner.world.rank() == 0;
  context.setOption("minimal", !speaks);
  context.setOption("no-colors", true);  // RankLines reads the lines
  const bool failed_here = context.run() != 0;
  runner.out.flush();

  const auto failed_ranks = runner.world.sum(weir::index_t{failed_here});
  const bool too_few_ranks = runner.cases_without_ranks > 0 && !allow_fewer_ranks;
  if (speaks && failed_ranks > 0) runner.out << "failed on " << failed_ranks << " ranks\n";
  if (speaks && too_few_ranks) {
    runner.out << runner.cases_without_ranks << " cases need more ranks than there are; "
               << "start more, or give --allow-fewer-ranks" << std::endl;
  }
  return failed_ranks > 0 || too_few_ranks ? 1 : 0;
}

}  // namespace

// What Open MPI itself leaks is no concern of ours; the serial run is checked for leaks.
extern "C" int __lsan_is_turned_off() { return weir::started_by_mpi_launcher(); }

int main(int argument_count, char** arguments) {
  weir::ensure_blas_core(argument_count, arguments);
  doctest::Context context(argument_count, arguments);
  if (!weir::started_by_mpi_launcher()) return run_serial_cases(context);
  const RunnerOptions options = runner_options(argument_count, arguments);
  MpiRunner runner(argument_count, arguments, options.alarm_s);
  return run_mpi_cases(context, runner, options.allow_fewer_ranks);
}
