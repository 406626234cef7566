#include "tests/mpi_test.hpp"

#include <signal.h>
#include <unistd.h>

#include <cstring>
#include <exception>
#include <string>

#include "common/base/text.hpp"
#include "tests/mpi_runner.hpp"

namespace weir::test {

namespace {

// doctest calls cases without arguments, and a signal handler has none either.
MpiRunner* runner = nullptr;
volatile sig_atomic_t inside_a_body = 0;
char alarm_message[512];

extern "C" void report_hang(int signal_number) {
  if (inside_a_body) {
    [[maybe_unused]] auto written = write(STDERR_FILENO, alarm_message, strlen(alarm_message));
  } else {
    // A rank that waits for a hanging one has nothing to say, and mpirun ends all ranks with the
    // first that dies: the hanging one speaks before that.
    sleep(1);
  }
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

/// Ends every rank: the others may be waiting for this one.
[[noreturn]] void give_up(const char* claim, const char* why) {
  runner->out << "'" << claim << "' ended the job: " << why << std::endl;
  abort_job(1);
}

}  // namespace

int RankLines::overflow(int character) {
  if (character == traits_type::eof()) return 0;
  line_ += static_cast<char>(character);
  return character == '\n' ? sync() : character;
}

int RankLines::sync() {
  if (rank_ != 0 && !line_.empty()) {
    line_ = line_.starts_with("[doctest]") ? "" : text("[rank ", rank_, "] ", line_);
  }
  out_->sputn(line_.data(), static_cast<std::streamsize>(line_.size()));
  line_.clear();
  return out_->pubsync();
}

MpiRunner::MpiRunner(int& argument_count, char**& arguments, unsigned alarm_s)
    : session(argument_count, arguments), alarm_s(alarm_s), lines(std::cout.rdbuf(), world.rank()) {
  runner = this;
  signal(SIGALRM, report_hang);
}

MpiRunner::~MpiRunner() { runner = nullptr; }

void run_on_ranks(const char* claim, int rank_count, void (*body)(const Ranks&)) {
  const Comm& world = runner->world;
  if (rank_count > world.size()) {
    ++runner->cases_without_ranks;
    if (world.rank() == 0) {
      runner->out << "skipped: '" << claim << "' needs " << rank_count << " ranks, there are "
                  << world.size() << std::endl;
    }
    return;
  }
  snprintf(alarm_message, sizeof alarm_message, "[rank %d] '%s' is still busy after %u s\n",
           world.rank(), claim, runner->alarm_s);
  alarm(runner->alarm_s);
  {
    const bool takes_part = world.rank() < rank_count;
    const Comm comm = world.split(takes_part ? std::optional(0) : std::nullopt, world.rank());
    if (takes_part) {
      inside_a_body = 1;
      try {
        body({comm, comm.rank()});
      } catch (const doctest::detail::TestFailureException&) {
        give_up(claim, "a REQUIRE failed");
      } catch (const std::exception& error) {
        give_up(claim, error.what());
      } catch (...) {
        give_up(claim, "something was thrown that is no std::exception");
      }
      inside_a_body = 0;
    }
    world.barrier();
  }
  alarm(0);
}

}  // namespace weir::test
