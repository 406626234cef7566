#include "launch/supervise/requests.hpp"

#include <csignal>
#include <cstring>

#include "common/base/text.hpp"

namespace weir {

std::string Requests::take(int signal, double now) {
  if (signal == SIGTERM || signal == SIGINT) ++ending_count_;
  const bool is_first = !any();
  if (is_first) {
    first_signal_ = signal;
    first_at_ = now;
  }
  if (ending_count_ > 1 || !trains_) {
    ending_signal_ = signal;
    return {};
  }
  if (!is_first || signal == SIGUSR1) return {};
  return "weir: stops after the next step and a checkpoint; a second SIGTERM or SIGINT ends it at "
         "once";
}

bool Requests::overdue(double now) const { return any() && now - first_at_ > stop_wait_seconds_; }

std::string signal_name(int signal) {
  const char* const name = sigabbrev_np(signal);
  return name == nullptr ? text(signal) : name;
}

}  // namespace weir
