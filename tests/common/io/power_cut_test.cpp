#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "common/io/checkpoint_format.hpp"
#include "tests/common/io/recorded_disk.hpp"
#include "tests/quiet_log.hpp"
#include "tests/temporary_folder.hpp"

using namespace weir;
using namespace weir::test;

namespace {

List<CheckpointRecord> small_records() {
  return {{"/model/weight", {50, 10}}, {"/optimizer/mean/weight", {50, 10}}};
}

std::vector<float> values_at(index_t step) {
  std::vector<float> values(500);
  std::iota(values.begin(), values.end(), static_cast<float>(1000 * step));
  return values;
}

void save_small(FileSystem& files, const fs::path& checkpoints, index_t step) {
  List<CheckpointRecord> records = small_records();
  begin_checkpoint(files, checkpoints, step, records);
  CheckpointWriter writer(files, checkpoints, step, records);
  for (const index_t record : {0, 1}) writer.write(record, 0, values_at(step));
  Manifest manifest;
  manifest.step = step;
  manifest.records = records;
  manifest.digests = writer.finish();
  commit_checkpoint(files, checkpoints, manifest);
}

bool holds_small(const fs::path& folder, index_t step) {
  const CheckpointReader reader(folder);
  std::vector<float> values(500);
  for (const index_t record : {0, 1}) {
    reader.read(record, 0, values);
    if (values != values_at(step)) return false;
  }
  return true;
}

/// From this many changes on the checkpoint of this step must be there, or one of more steps.
struct Commit {
  std::size_t count = 0;
  index_t step = 0;
};

/// Runs: `make` makes the folder of checkpoints; then four saves, two of them of one step, with a
/// retention of one.
std::vector<Commit> first_job(RecordedDisk& disk, const fs::path& checkpoints,
                              void (*make)(FileSystem&, const fs::path&)) {
  std::vector<Commit> commits = {{0, 0}};
  make(disk, checkpoints);
  for (const index_t step : {2, 4, 4, 6}) {
    save_small(disk, checkpoints, step);
    commits.push_back({disk.count(), step});
    remove_old_checkpoints(disk, checkpoints, step, 1);
  }
  return commits;
}

/// Whether a power cut after `count` changes loses a committed checkpoint, or leaves one that is
/// taken and does not hold what was saved.
bool loses(const RecordedDisk& disk, const std::vector<Commit>& commits, std::size_t count,
           Survivors survivors, Broken broken = {}, unsigned seed = 0) {
  const TemporaryFolder after;
  disk.cut_power(count, survivors, seed, broken, after.path());
  index_t committed = 0;
  for (const Commit& commit : commits) {
    if (commit.count <= count) committed = commit.step;
  }
  try {
    const auto newest = newest_complete(after.path() / "runs" / "book" / "checkpoints");
    const index_t step = newest ? read_manifest(*newest).step : 0;
    return step < committed || (newest && !holds_small(*newest, step));
  } catch (const Error&) {  // all are damaged
    return committed > 0;
  }
}

/// The losses of a power cut after any change if nothing survives that was not brought to the disk.
int losses(const RecordedDisk& disk, const std::vector<Commit>& commits, Broken broken = {}) {
  int lost = 0;
  for (std::size_t count = 0; count <= disk.count(); ++count) {
    lost += loses(disk, commits, count, Survivors::none, broken) ? 1 : 0;
  }
  return lost;
}

/// Makes the folders, but leaves their names to chance.
void make_without_sync(FileSystem& files, const fs::path& checkpoints) {
  const fs::path run = checkpoints.parent_path();
  for (const fs::path& folder : {run.parent_path(), run, checkpoints}) files.make_folder(folder);
}

}  // namespace

TEST_CASE("a power cut at any moment of a new run's first saves loses nothing that was committed") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  RecordedDisk disk(folder.path());
  const auto commits =
      first_job(disk, folder.path() / "runs" / "book" / "checkpoints", make_folders);
  REQUIRE(disk.count() > 60);
  CHECK(losses(disk, commits) == 0);
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  for (std::size_t count = 0; count <= disk.count(); ++count) {
    CAPTURE(count);
    CHECK_FALSE(loses(disk, commits, count, Survivors::all));
    const unsigned chance = seed + static_cast<unsigned>(count);
    CHECK_FALSE(loses(disk, commits, count, Survivors::prefixes, {}, chance));
    CHECK_FALSE(loses(disk, commits, count, Survivors::any, {}, chance));
  }
}

TEST_CASE("the same sweep finds what was not brought to the disk: files, names, new folders") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  RecordedDisk disk(folder.path());
  const auto commits =
      first_job(disk, folder.path() / "runs" / "book" / "checkpoints", make_folders);
  CHECK(losses(disk, commits, {.forgets_folder_syncs = true}) > 20);
  CHECK(losses(disk, commits, {.forgets_file_syncs = true}) > 20);
  const TemporaryFolder other;
  RecordedDisk careless(other.path());
  const auto careless_commits =
      first_job(careless, other.path() / "runs" / "book" / "checkpoints", make_without_sync);
  CHECK(losses(careless, careless_commits) > 20);
}
