#include "launch/supervise/signals.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "common/base/machine.hpp"

namespace weir {
namespace {

// A handler can reach nothing else.
int signal_pipe[2] = {-1, -1};

extern "C" void write_signal(int number) {
  const int interrupted_errno = errno;
  const auto byte = static_cast<unsigned char>(number);
  [[maybe_unused]] const ssize_t written = write(signal_pipe[1], &byte, 1);
  errno = interrupted_errno;
}

void catch_by_pipe(int number) {
  struct sigaction action {};
  action.sa_handler = write_signal;
  action.sa_flags = SA_RESTART;
  sigaction(number, &action, nullptr);
}

}  // namespace

void catch_request_signals() {
  if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) != 0) return;  // signals then end the process
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) {
    struct sigaction before {};
    sigaction(number, nullptr, &before);
    if (before.sa_handler != SIG_IGN) catch_by_pipe(number);
  }
}

void restore_signals_for_program() {
  for (const int number : {SIGPIPE, SIGXFSZ}) std::signal(number, SIG_DFL);
}

Signals::Signals() { catch_by_pipe(SIGCHLD); }

int Signals::descriptor() const { return signal_pipe[0]; }

std::optional<int> Signals::next() const {
  unsigned char byte = 0;
  while (read(descriptor(), &byte, 1) == 1) {
    if (byte != SIGCHLD) return byte;
  }
  return std::nullopt;
}

std::optional<int> Signals::wait(double seconds) const {
  const double end = seconds_now() + seconds;
  for (;;) {
    if (const auto signal = next()) return signal;
    const double left = end - seconds_now();
    if (left <= 0) return std::nullopt;
    pollfd each = {descriptor(), POLLIN, 0};
    poll(&each, 1, static_cast<int>(left * 1000) + 1);
  }
}

}  // namespace weir
