// What does a checkpoint cost a job that trains, how fast is it written and read, and how soon does
// a job go on after a rank has died?
#include <functional>
#include <iostream>

#include "benchmarks/bench.hpp"
#include "benchmarks/checkpoint_measures.hpp"
#include "benchmarks/job.hpp"
#include "benchmarks/torch_peer.hpp"
#include "common/base/text.hpp"

namespace weir::benchmark {
namespace {

constexpr double kMinute = 60;

/// How much is measured.
struct Amount {
  StateSize state;
  JobSize job;
  index_t saves;   ///< with the server in one process
  index_t rounds;  ///< with files
  index_t job_saves;
  index_t kills;
};

/// Each value as `scale` over it or times it.
Spread per(const Times& seconds, double amount) {
  Times rates;
  for (const double each : seconds) rates.push_back(amount / each);
  return spread_of(rates);
}
Spread times(const Times& seconds, double factor) {
  Times products;
  for (const double each : seconds) products.push_back(factor * each);
  return spread_of(products);
}

class Comparison {
 public:
  Comparison(const Amount& amount, const Options& options)
      : amount_(amount),
        quick_(options.quick),
        report_("checkpoint",
                "what does a checkpoint cost a job, how fast is it written and read, and how soon "
                "does a job go on after a rank has died?",
                options) {}

  void run(const Options& options) {
    corpus_ = write_letters(scratch_.path() / "bytes", 1'000'000);
    const std::vector<Part> parts = {
        {"stall", [this] { add_stall(); }},
        {"job: 1 worker + 1 server", [this] { add_job("1 worker + 1 server", {}, 1); }},
        {"job: 2 colocated",
         [this] {
           add_job("2 colocated", {"--replicas=2", "--placement=colocated"}, 2);
         }},
        {"files", [this] { add_files(); }},
        {"restart", [this] { add_restarts(); }},
    };
    for (const Part& part : wanted(parts, options)) {
      std::cerr << "checkpoint: " << part.name() << std::endl;
      part.measure();
    }
    report_.remark(text("files in ", scratch_.path().parent_path().string(),
                        " (TMPDIR says where); a state of ", short_number(gibibytes()), " GiB"));
    report_.print();
  }

 private:
  /// What --only can choose.
  struct Part {
    std::string title;
    std::function<void()> measure;
    const std::string& name() const { return title; }
  };

  double gibibytes() const {
    return static_cast<double>(amount_.state.bytes()) / (index_t{1} << 30);
  }

  void add_stall() {
    const StallTimes found = measure_stall(amount_.state, scratch_.path() / "stall", amount_.saves);
    const std::string name = "server and worker in one thread";
    const double copy_ms = 1e3 * (index_t{1} << 30) / 1e9 / spread_of(found.copy_gigabytes).median;
    const auto add = [&](const std::string& metric, const Times& seconds) {
      report_.add({name, metric, times(seconds, 1e3 / gibibytes()), "ms/GiB", "memcpy", copy_ms});
    };
    add("stall of a save, idle after it", found.stalls);
    add("stall of a save, next update at once", found.stalls_at_once);
    add("stall of the first save", {found.first_stall});
    report_.add({name, "update without a save", times(found.updates, 1e3 / gibibytes()), "ms/GiB"});
    report_.remark(
        "stall: what an update with a checkpoint takes beyond one without; if the next one comes "
        "at "
        "once, also what that takes more. Aim: 80 ms/GiB, or 50 where a bucket is copied only "
        "before its next step");
  }

  /// A job of two ranks.
  void add_job(const std::string& name, const std::vector<std::string>& layout, index_t servers) {
    const JobTimes found = measure_job(amount_.job, layout, corpus_, amount_.job_saves);
    const double gibibytes = static_cast<double>(found.state_bytes) / (index_t{1} << 30);
    report_.add({name, "step that no save disturbs", times(found.steps, 1e3), "ms"});
    report_.add({name, "cost of a save", times(found.saves, 1e3 * double(servers) / gibibytes),
                 "ms/GiB and server"});
    report_.add(
        {name, "overhead at one save a minute", times(found.saves, 100 / kMinute), "%", "aim", 1});
  }

  void add_files() {
    const FileTimes found = measure_files(amount_.state, scratch_.path(), amount_.rounds,
                                          !quick_ && (has_module("h5py") || has_torch()));
    const double gigabytes = 1e-9 * static_cast<double>(amount_.state.bytes());
    const Spread written = per(found.write, gigabytes), loaded = per(found.load, gigabytes);
    const Spread read = per(found.read, gigabytes), crc = per(found.crc, gigabytes);
    report_.add({"write", "weir, to the commit", written, "GB/s", "dd with fsync",
                 per(found.dd, gigabytes).median});
    const char* const parts[] = {"room on the disk", "data and digests", "fsync and commit"};
    for (index_t part = 0; part < std::ssize(parts); ++part) {
      report_.add({"write", parts[part], times(found.write_parts[part], 1e3), "ms"});
    }
    const double bound = 1 / (1 / read.median + 1 / crc.median);
    report_.add({"load, one core", "weir, all digests", per(found.verify, gigabytes), "GB/s",
                 "read, then CRC-32C", bound});
    report_.add({"load, one core", "weir, into memory, with digests", loaded, "GB/s",
                 "read, then CRC-32C", bound});
    report_.add({"load, one core", "read alone", read, "GB/s"});
    report_.add({"load, one core", "CRC-32C alone", crc, "GB/s"});
    for (const auto& [name, peer] : found.peers) {
      const std::string which = text(name, " ", peer.version);
      report_.add({"write", which, per(peer.write, gigabytes), "GB/s", "weir", written.median});
      report_.add({"load, one core", which, per(peer.load, gigabytes), "GB/s"});
    }
    report_.remark(
        "write: room for the file, data, a CRC-32C of each MiB, fsync, MANIFEST, rename, fsync of "
        "the folder. Aim: 80 % of dd's speed. load: from the page cache. Aim: 5 GB/s");
    if (!found.peers.empty()) {
      report_.remark(
          "h5py and torch.save write one file in place and fsync it: no rename, no fsync of the "
          "folder. h5py has no digests; torch.save writes a CRC-32 of each tensor, which loading "
          "does not check. They load into fresh memory, weir into memory that is there");
    }
  }

  void add_restarts() {
    const RestartTimes found =
        measure_restarts(amount_.job, scratch_.path(), corpus_, amount_.kills);
    const std::string name = "from the death of a rank";
    report_.add({name, "it is named", times(found.named, 1), "s"});
    report_.add({name, "mpirun has ended", times(found.ended, 1), "s"});
    report_.add({name, "checkpoint found and read", times(found.verified, 1), "s"});
    report_.add({name, "loaded, ready to train", times(found.loaded, 1), "s"});
    report_.add({name, "next step done", times(found.stepped, 1), "s", "aim", 5});
    report_.remark(
        "death: SIGKILL of the worker and of the server in turns, under `weir run`, the checkpoint "
        "in the page cache");
  }

  Amount amount_;
  bool quick_;
  Report report_;
  ScratchFolder scratch_;
  std::string corpus_;
};

void run(const Options& options) {
  const Amount amount = options.quick ? Amount{.state = {.matrices = 4, .side = 128},
                                               .job = {2, 64, 32, 40},
                                               .saves = 2,
                                               .rounds = 1,
                                               .job_saves = 1,
                                               .kills = 1}
                                      : Amount{.state = {.matrices = 85, .side = 1024},
                                               .job = {7, 1024, 64, 12},
                                               .saves = 5,
                                               .rounds = 5,
                                               .job_saves = 3,
                                               .kills = 4};
  Comparison(amount, options).run(options);
}

}  // namespace
}  // namespace weir::benchmark

int main(int argument_count, char** arguments) {
  return weir::benchmark::run_program("checkpoint", argument_count, arguments,
                                      weir::benchmark::run);
}
