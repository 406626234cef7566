#include "launch/top.hpp"

#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <iostream>
#include <optional>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/base/safe_text.hpp"
#include "launch/command.hpp"
#include "launch/run/hang.hpp"
#include "launch/run/run_folder.hpp"
#include "launch/terminal/progress_bar.hpp"
#include "launch/terminal/quantities.hpp"
#include "launch/terminal/table.hpp"

namespace weir {
namespace {

constexpr double kRefreshSeconds = 1;
/// A record that is this much older than the newest is late: its rank does not run.
constexpr double kLateSeconds = 3;

volatile std::sig_atomic_t interrupted = 0;
extern "C" void note_interrupt(int) { interrupted = 1; }

/// Gives each key at once, without showing it, as long as it lives.
class Keys {
 public:
  Keys() {
    if (isatty(STDIN_FILENO) == 0 || tcgetattr(STDIN_FILENO, &before_) != 0) return;
    termios now = before_;
    now.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    is_set_ = tcsetattr(STDIN_FILENO, TCSANOW, &now) == 0;
  }
  Keys(const Keys&) = delete;
  Keys& operator=(const Keys&) = delete;
  ~Keys() {
    if (is_set_) tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  /// Waits; true if somebody wants to leave.
  bool leave(double seconds) const {
    pollfd input = {is_set_ ? STDIN_FILENO : -1, POLLIN, 0};
    char key = 0;
    const bool came = poll(&input, 1, static_cast<int>(1000 * seconds)) > 0;
    if (came && read(STDIN_FILENO, &key, 1) <= 0) return true;
    return interrupted != 0 || key == 'q';
  }

 private:
  termios before_{};
  bool is_set_ = false;
};

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void draw(const std::string& words) {
  std::cout << "\x1b[H\x1b[2J" << safe_text(words) << "q or Ctrl-C leaves\n" << std::flush;
}

/// Shows the job until it ends or somebody leaves.
void follow(const fs::path& run) {
  std::signal(SIGINT, note_interrupt);
  const Keys keys;
  std::vector<LiveRecord> records = records_of_job(run);
  do {
    draw(top_table(records));
    if (keys.leave(kRefreshSeconds)) return;
    try {
      records = records_of_job(run);
    } catch (const Error&) {
      std::cout << "the job has ended\n" << std::flush;
      return;
    }
  } while (true);
}

}  // namespace

std::string top_table(const std::vector<LiveRecord>& records) {
  Table table("rlllrrrrl", {"rank", "role", "host", "phase", "step", "steps/s", "waits", "moved",
                            "what it does"});
  for (const LiveRecord& record : records) {
    const bool is_late = record.age_s > kLateSeconds;
    table.add({text(record.rank), record.role, record.host, record.phase, grouped(record.step),
               fixed(record.steps_a_second, 2), percent(record.waiting_share),
               text(fixed(record.still_s + record.age_s, 1), " s ago"),
               is_late ? text("nothing: its record is ", fixed(record.age_s, 0), " s old; ",
                              doing_text(record), " then")
                       : doing_text(record)});
  }
  return table.to_text();
}

std::vector<LiveRecord> records_of_job(const fs::path& run) {
  if (!is_run_folder(run)) throw UsageError(text(run.string(), " is not a run folder"));
  std::vector<LiveRecord> records = read_live_records(live_folder(run));
  if (records.empty()) {
    throw Error(text("no job runs in ", run.string(),
                     " now: there is no record of one in live/, where each rank writes once a "
                     "second"));
  }
  const bool runs = std::ranges::any_of(
      records, [&](const LiveRecord& record) { return may_be_alive(record, unix_seconds()); });
  if (!runs) {
    const LiveRecord& first = records.front();
    throw Error(text("no job runs in ", run.string(), " now: process ", first.process, " on ",
                     first.host, " has left its record without taking it away, ",
                     fixed(unix_seconds() - first.written_s, 0), " s ago"));
  }
  return records;
}

int top(const Arguments& all) {
  Arguments arguments = all;
  bool once = false;
  const std::vector<Option> table = {
      {"once", "", "prints the table once, as it does where stdout is no terminal", &once},
  };
  if (asks_for_help(arguments)) {
    std::cout << help_of_command(
        "top", "RUN [options]",
        "Shows what each rank of the job that runs in this folder does, once a second: its phase "
        "and\n"
        "step, how long ago it last moved, what it waits for and whom; steps each second and the\n"
        "share of waiting are those of the last ten seconds. q or Ctrl-C leaves.",
        table);
    return 0;
  }
  const std::string run = take_path("top", "a run folder", table, arguments);
  parse_options(table, std::nullopt, {}, arguments);
  if (once || terminal_columns() == 0) {
    std::cout << safe_text(top_table(records_of_job(run))) << std::flush;
  } else {
    follow(run);
  }
  return 0;
}

}  // namespace weir
