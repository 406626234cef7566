#include "tests/faults/saving_job.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "common/io/checkpoint_format.hpp"
#include "tests/faults/part.hpp"

namespace weir::test {
namespace {

namespace fs = std::filesystem;

constexpr index_t kSteps = 6;
constexpr double kSeconds = 300;  // a busy machine is no hang

/// The folders below a run folder that hold checkpoints: that of the servers, and those of
/// replicas.
std::vector<fs::path> checkpoint_folders(const fs::path& run) {
  std::vector<fs::path> folders;
  const fs::path servers = run / "checkpoints";
  if (!fs::exists(servers)) return folders;
  folders.push_back(servers);
  for (const auto& entry : fs::directory_iterator(servers)) {
    if (entry.path().filename().string().starts_with("replica-")) folders.push_back(entry.path());
  }
  std::ranges::sort(folders);
  return folders;
}

/// The digests of the last checkpoint of servers and replicas.
std::string all_digests(const fs::path& run) {
  std::string all;
  for (const fs::path& folder : checkpoint_folders(run)) {
    const CheckpointReader reader(checkpoint_folder(folder, kSteps));
    for (const RangeDigest& digest : reader.manifest().digests) {
      all += text(digest.record, ' ', digest.begin, ' ', digest.end, ' ', digest.crc, '\n');
    }
  }
  return all;
}

/// The last step whose commit these calls have completed in a folder, given as in the calls; 0 if
/// none: a rename of the finished folder, and an fsync of the folder that it is in.
index_t committed_step(const std::vector<Call>& calls, const std::string& folder) {
  const std::string save = folder + "/.tmp-step-";
  index_t renamed = 0, committed = 0;
  for (const Call& call : calls) {
    if (call.name == "rename" && call.path.starts_with(save) &&
        call.path.find('/', save.size()) == std::string::npos) {
      renamed = std::stoll(call.path.substr(save.size()));
    }
    if (call.name == "fsync" && call.path == folder) committed = std::max(committed, renamed);
  }
  return committed;
}

bool is_in_step(const std::string& name) { return name.find("/step-") != std::string::npos; }

/// The names of all that is below a run folder.
std::set<std::string> names_below(const fs::path& run) {
  std::set<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(run)) {
    names.insert(entry.path().lexically_relative(run).string());
  }
  return names;
}

/// The call without the random end of a temporary file's name.
Call without_end(Call call) {
  const std::size_t name = call.path.rfind('/') + 1;
  const bool is_folder = call.path.compare(name, 10, ".tmp-step-") == 0;
  if (call.path.compare(name, 5, ".tmp-") == 0 && !is_folder) {
    call.path.resize(call.path.rfind('-') + 1);
  }
  return call;
}

std::vector<Point> points_of(const std::vector<Call>& calls) {
  std::map<std::pair<std::string, std::string>, index_t> counts;
  std::vector<Point> points;
  for (const Call& each : calls) {
    const Call call = without_end(each);
    if (call.path.starts_with("/live")) continue;
    points.push_back({call, ++counts[{call.name, call.path}]});
  }
  // Threads write beside each other, so the order of the calls differs from run to run.
  std::ranges::stable_sort(
      points, {}, [](const Point& point) { return std::pair(point.call.path, point.call.name); });
  return points;
}

std::string without_numbers(const std::string& path) {
  std::string kind;
  std::ranges::copy_if(path, std::back_inserter(kind),
                       [](char letter) { return letter < '0' || letter > '9'; });
  return kind;
}

/// One process; one and two servers; every rank a server; replicas that meet now and then, which
/// save, too.
std::vector<SavingLayout> saving_layouts() {
  return {
      {"local", 0, {"--placement=local"}},
      {"one server", 2, {"--servers=1"}},
      {"two servers", 3, {"--servers=2"}},
      {"colocated", 2, {"--placement=colocated", "--replicas=2"}},
      {"local steps", 3, {"--replicas=2", "--servers=1", "--consistency=local", "--local.steps=2"}},
  };
}

}  // namespace

SavingJob::SavingJob(const TemporaryFolder& folder, SavingLayout layout)
    : folder_(folder), layout_(std::move(layout)), undisturbed_(folder / (layout_.name + " run")) {
  const fs::path log = folder / (layout_.name + " calls");
  const Ended ended = run(undisturbed_, {.below = {}, .log = log});
  expect(ended.exit_code == 0, "the undisturbed job failed: ", ended.output);
  for (index_t rank = 0; rank < ranks(); ++rank)
    points_.push_back(points_of(read_calls(log, rank)));
  digests_ = all_digests(undisturbed_);
  steps_ = read_steps(undisturbed_);
}

std::vector<std::string> SavingJob::words(const fs::path& run) const {
  std::vector<std::string> more = layout_.words;
  for (const char* const each :
       {"--steps=6", "--checkpoint-every=2", "--checkpoint.keep=2", "--checkpoint.wait=0",
        "--eval-every=0", "--model.layers=1", "--model.width=16", "--model.heads=2",
        "--model.feed-forward=32", "--batch=2", "--resume=auto"}) {
    more.push_back(each);
  }
  return weir_command(layout_.ranks, small_job(folder_, run.filename().string(), more));
}

Ended SavingJob::run(const fs::path& run) const { return Process(words(run)).wait(kSeconds); }

Ended SavingJob::run(const fs::path& run, Injection injection) const {
  injection.below = run;
  return Process(with_injection(words(run), injection)).wait(kSeconds);
}

Faulted SavingJob::run_with_fault(const fs::path& run, const Point& point,
                                  Injection injection) const {
  injection.log = run.string() + ".calls";
  injection.at = point.nth;
  injection.call = point.call;
  fs::remove_all(run);
  Faulted faulted;
  faulted.ended = this->run(run, injection);
  faulted.where = text(name(), ", rank ", injection.rank, ", ", point.call.name, ' ',
                       point.call.path, " number ", point.nth);
  for (index_t rank = 0; rank < ranks(); ++rank) {
    faulted.calls.push_back(read_calls(injection.log, rank));
    fs::remove(text(injection.log.string(), '.', rank));
  }
  faulted.struck = std::ranges::any_of(faulted.calls[injection.rank], &Call::struck);
  return faulted;
}

void SavingJob::expect_whole(const fs::path& run,
                             const std::vector<std::vector<Call>>& calls) const {
  for (const fs::path& folder : checkpoint_folders(run)) {
    const auto checkpoints = checkpoints_in(folder);
    for (const auto& [step, path] : checkpoints) CheckpointReader(path).verify();
    const std::string name = '/' + folder.lexically_relative(run).string();
    for (const std::vector<Call>& its : calls) {
      const index_t committed = committed_step(its, name);
      expect(committed == 0 || (!checkpoints.empty() && checkpoints.begin()->first >= committed),
             "the checkpoint of step ", committed, " was committed in ", name, " and is gone");
    }
  }
}

void SavingJob::expect_same_bits(const fs::path& run) const {
  expect(all_digests(run) == digests_, "the last checkpoint has other bits");
  for (const StepLine& line : read_steps(run)) {
    expect(line == steps_.at(static_cast<std::size_t>(line.step - 1)), "step ", line.step,
           " has another loss or norm");
  }
}

void SavingJob::expect_same_files(const fs::path& run, bool but_steps) const {
  const std::set<std::string> wanted = names_below(undisturbed_);
  const std::set<std::string> found = names_below(run);
  for (const std::string& name : found) {
    expect(wanted.contains(name) || is_in_step(name), "left behind: ", name);
  }
  for (const std::string& name : wanted) {
    expect(found.contains(name) || (but_steps && is_in_step(name)), "missing: ", name);
  }
}

SavingJobs saving_jobs(const TemporaryFolder& folder) {
  write_corpus(folder / "corpus.txt", 20'000, 5);
  SavingJobs jobs;
  for (const SavingLayout& layout : saving_layouts()) {
    jobs.push_back(std::make_unique<SavingJob>(folder, layout));
  }
  return jobs;
}

std::vector<RankPoints> each_point(const SavingJobs& jobs) {
  std::vector<RankPoints> all;
  for (const auto& job : jobs) {
    for (index_t rank = 0; rank < job->ranks(); ++rank) {
      for (index_t at = 0; at < std::ssize(job->points(rank)); ++at) {
        all.push_back({job.get(), rank, {at}});
      }
    }
  }
  return all;
}

std::vector<std::vector<index_t>> spread_over(const std::vector<Point>& points, index_t count) {
  const index_t all = std::ssize(points);
  std::vector<std::vector<index_t>> sets;
  const index_t parts = (count + 2) / 3;
  for (index_t part = 0; part < parts; ++part) {
    const index_t begin = part * all / parts;
    const index_t end = std::max(begin + 1, (part + 1) * all / parts);
    std::vector<index_t> set;
    for (index_t at = begin; at < end; ++at) set.push_back(at);
    sets.push_back(set);
  }
  std::map<std::string, std::vector<index_t>> groups;
  for (index_t at = 0; at < all; ++at) {
    const Call& call = points[at].call;
    groups[call.name + ' ' + without_numbers(call.path)].push_back(at);
  }
  while (std::ssize(sets) < count) {
    for (const auto& [kind, group] : groups) sets.push_back(group);
  }
  sets.resize(count);
  return sets;
}

}  // namespace weir::test
