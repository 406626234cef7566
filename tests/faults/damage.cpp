#include "tests/faults/damage.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <fstream>
#include <mutex>
#include <thread>

#include "common/base/machine.hpp"
#include "common/io/digest.hpp"
#include "tests/faults/allocations.hpp"
#include "tests/faults/damage_subject.hpp"
#include "tests/temporary_folder.hpp"

#ifdef WEIR_SANITIZE
#include <sanitizer/common_interface_defs.h>
#endif

namespace weir::test {
namespace {

#ifdef WEIR_SANITIZE
constexpr double kCpuSecondsMax = 20;  // sanitized code takes some ten times as long
#else
constexpr double kCpuSecondsMax = 2;
#endif
constexpr double kHangSeconds = 60;  // of the clock, where other programs may be busy
constexpr index_t kBytesMax = 64 << 20;

/// What this thread is about, for a word before the process dies.
thread_local char trial_at_work[200] = "no trial";

void say_trial() {
  const char begin[] = "damage: died in ";
  const bool said = write(STDERR_FILENO, begin, sizeof begin - 1) > 0 &&
                    write(STDERR_FILENO, trial_at_work, strlen(trial_at_work)) > 0 &&
                    write(STDERR_FILENO, "\n", 1) > 0;
  if (!said) _exit(1);
}

extern "C" void on_death(int number) {
  say_trial();
  std::signal(number, SIG_DFL);
  raise(number);
}

void say_trial_at_death() {
#ifdef WEIR_SANITIZE
  __sanitizer_set_death_callback(say_trial);
#else
  for (const int number : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL}) {
    std::signal(number, on_death);
  }
#endif
}

double thread_cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Ends the process, with a word, if a trial takes for ever.
class HangWatch {
 public:
  HangWatch() : thread_([this](const std::stop_token& stop) { watch(stop); }) {}
  void begin(index_t trial, const std::string& words) {
    const std::lock_guard guard(mutex_);
    under_way_[trial] = {seconds_now(), words};
  }
  void end(index_t trial) {
    const std::lock_guard guard(mutex_);
    under_way_.erase(trial);
  }

 private:
  void watch(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      sleep_microseconds(200'000);
      const std::lock_guard guard(mutex_);
      for (const auto& [trial, begun] : under_way_) {
        if (seconds_now() - begun.first < kHangSeconds) continue;
        std::fprintf(stderr, "damage: trial %ld hangs: %s\n", static_cast<long>(trial),
                     begun.second.c_str());
        std::_Exit(1);
      }
    }
  }

  std::mutex mutex_;
  std::map<index_t, std::pair<double, std::string>> under_way_;
  std::jthread thread_;
};

void write_file(const fs::path& path, const std::string& contents) {
  std::ofstream(path, std::ios::binary) << contents;
}

/// Puts something there that is no plain file, or none, or a giant. Returns what.
std::string make_strange(const fs::path& path, std::size_t kind) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
  switch (kind) {
    case 0:
      return "missing";
    case 1:
      write_file(path, "");
      return "empty";
    case 2:
      fs::create_directory(path);
      return "a folder";
    case 3:
      right(mkfifo(path.c_str(), 0600) == 0, "no pipe can be made");
      return "a pipe";
    case 4:
      fs::create_symlink(path.filename(), path);
      return "a link to itself";
    case 5:
      fs::create_symlink("/dev/zero", path);
      return "a link to /dev/zero";
    default: {
      write_file(path, "");
      constexpr std::uintmax_t kHuge = std::uintmax_t{1} << 40;
      fs::resize_file(path, kHuge, ignored);
      return "a file of a TiB of zeros";
    }
  }
}

/// The damaged lines of a MANIFEST with the CRC that they should have.
std::string forged_manifest(const std::string& manifest, Mutator& random) {
  const std::size_t end = manifest.rfind("crc32c ");
  const std::string lines = random.damaged(manifest.substr(0, end), manifest.substr(0, end), true);
  return text(lines, "crc32c ", hexadecimal(crc32c(std::as_bytes(std::span(lines)))), '\n');
}

class Damage final : public Part {
 public:
  index_t prepare(bool is_long) override {
    say_trial_at_death();
    subjects_ = checkpoint_subjects();
    for (DamageSubject& each : run_folder_subjects()) subjects_.push_back(std::move(each));
    for (std::size_t at = 0; at < subjects_.size(); ++at) {
      shares_.insert(shares_.end(), subjects_[at].share, at);
    }
    return is_long ? 1'000'000 : 2000;
  }

  void attempt(index_t trial, std::uint64_t seed) override {
    Mutator random(seed);
    const DamageSubject& subject = subjects_[shares_[random.below(shares_.size())]];
    const TemporaryFolder folder(memory_folder());
    DamagedRead damaged = {.folder = folder.path(), .is_forged = false, .random = random};
    index_t data_bytes = 0;
    const std::string done = subject.name + damage_files(subject, damaged, data_bytes);
    std::snprintf(trial_at_work, sizeof trial_at_work, "trial %ld: %s", static_cast<long>(trial),
                  done.c_str());
    watch_.begin(trial, done);
    const double begin = thread_cpu_seconds();
    std::string failure;
    index_t peak = 0;
    {
      const AllocationPeak allocations;
      failure = read(subject, damaged);
      peak = allocations.bytes();
    }
    const double seconds = thread_cpu_seconds() - begin;
    watch_.end(trial);
    expect(failure.empty(), done, ": ", failure);
    expect(peak <= kBytesMax + data_bytes, done, ": allocates ", peak >> 20, " MiB for ",
           data_bytes, " bytes");
    expect(seconds < kCpuSecondsMax, done, ": takes ", seconds, " s");
  }

 private:
  /// Writes the subject's files, one or two of them damaged. Returns what was done.
  static std::string damage_files(const DamageSubject& subject, DamagedRead& damaged,
                                  index_t& data_bytes) {
    Mutator& random = damaged.random;
    std::string done;
    std::vector<std::string> names;
    for (const auto& [name, contents] : subject.files) names.push_back(name);
    const std::size_t first = random.below(names.size());
    const std::size_t second = random.chance(8) ? random.below(names.size()) : first;
    for (std::size_t at = 0; at < names.size(); ++at) {
      const fs::path path = damaged.folder / names[at];
      fs::create_directories(path.parent_path());
      std::string contents = subject.files.at(names[at]);
      const bool is_chosen = at == first || at == second;
      if (is_chosen && random.chance(30)) {
        const std::size_t kinds = names[at] == "metrics.jsonl" ? 6 : 7;  // that may be a giant
        done += text(": ", names[at], ": ", make_strange(path, random.below(kinds)));
        continue;
      }
      if (is_chosen) {
        Mutator own(random.below(std::size_t{1} << 62));
        const bool is_manifest = path.filename() == "MANIFEST";
        const bool is_data = path.extension() == ".h5";
        if (is_manifest && random.chance(2)) {
          contents = forged_manifest(contents, own);
          damaged.is_forged = true;
          done += ": forged";
        } else {
          contents = own.damaged(contents, subject.other.at(names[at]), !is_data);
        }
        done += text(": ", names[at], ": ", own.words());
      }
      write_file(path, contents);
      data_bytes += std::ssize(contents);
    }
    return done;
  }

  /// Returns what is wrong, or nothing.
  static std::string read(const DamageSubject& subject, const DamagedRead& damaged) {
    try {
      subject.read(damaged);
    } catch (const Error& error) {
      const std::string words = error.what();
      const auto holds = [&](const std::string& name) {
        return words.find(name) != std::string::npos;
      };
      const bool names =
          holds(damaged.folder.string()) || std::ranges::any_of(subject.also_names, holds);
      if (!names) return "refused, but not by name: " + words;
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  }

  std::vector<DamageSubject> subjects_;
  std::vector<std::size_t> shares_;  ///< each subject as often as it is drawn
  HangWatch watch_;
};

}  // namespace

std::unique_ptr<Part> damage() { return std::make_unique<Damage>(); }

}  // namespace weir::test
