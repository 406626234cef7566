#include "launch/inspect.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <limits>
#include <sstream>

#include "common/base/error.hpp"
#include "common/io/checkpoint_format.hpp"
#include "launch/command.hpp"
#include "tests/temporary_folder.hpp"

namespace weir::test::inspect_test {
namespace {

using test::TemporaryFolder;

/// A checkpoint of two parameters and a moment, in `run`/checkpoints.
fs::path save(const fs::path& run, index_t step, float damage = 0) {
  FileSystem& files = posix_file_system();
  const fs::path checkpoints = run / "checkpoints";
  List<CheckpointRecord> records = {{"/model/embedding.weight", {4, 3}},
                                    {"/model/final_norm.bias", {2}},
                                    {"/optimizer/mean/final_norm.bias", {2}}};
  begin_checkpoint(files, checkpoints, step, records);
  CheckpointWriter writer(files, checkpoints, step, records);
  std::vector<float> embedding(12, -2.0f);
  embedding[0] = 2.0f + damage;
  writer.write(0, 0, embedding);
  writer.write(1, 0, std::vector<float>{3.0f, -4.0f});
  writer.write(2, 0, std::vector<float>{0.0f, 0.5f});
  Manifest manifest;
  manifest.step = step;
  manifest.cursor = 16 * step;
  manifest.settings["model.width"] = "3";
  manifest.integers["skipped_count"] = 2;
  manifest.numbers["clip.threshold"] = 0.97;
  manifest.records = records;
  manifest.digests = writer.finish();
  commit_checkpoint(files, checkpoints, manifest);
  return checkpoint_folder(checkpoints, step);
}

/// Turns a bit of the file's last float.
void damage(const fs::path& file) {
  std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
  bytes.seekg(-1, std::ios::end);
  const auto last = static_cast<char>(bytes.get() ^ 1);
  bytes.seekp(-1, std::ios::end);
  bytes.put(last);
}

std::string inspect_text(const fs::path& path, const InspectRequest& request) {
  return inspect_path(path, request).text;
}

/// `words` with runs of blanks as single ones: how wide a column is does not matter here.
bool has(const std::string& shown, const std::string& words) {
  const auto is_second_blank = [](char left, char right) { return left == ' ' && right == ' '; };
  std::string squeezed = shown;
  squeezed.erase(std::unique(squeezed.begin(), squeezed.end(), is_second_blank), squeezed.end());
  return squeezed.find(words) != std::string::npos;
}

TEST_CASE("inspect shows step, cursor, state and the rms of every parameter") {
  const TemporaryFolder folder;
  const std::string shown = inspect_text(save(folder.path(), 1200), {});
  CAPTURE(shown);
  CHECK(has(shown, "step 1,200\n"));
  CHECK(has(shown, "cursor 19,200\n"));
  CHECK(has(shown, "parameters 14 in 2 tensors\n"));
  CHECK(has(shown, "optimizer 2 in 1 tensors\n"));
  CHECK(has(shown, "model.width 3\n"));
  CHECK(has(shown, "skipped_count 2\n"));
  CHECK(has(shown, "clip.threshold 0.97\n"));
  CHECK(has(shown, "embedding.weight 4 x 3 12 2.00000\n"));
  CHECK(has(shown, "final_norm.bias 2 2 3.53553\n"));  // sqrt(25 / 2)
  CHECK_FALSE(has(shown, "mean/"));
}

TEST_CASE("one tensor is shown with its values, by its parameter's name or in full") {
  const TemporaryFolder folder;
  const fs::path checkpoint = save(folder.path(), 7);
  const std::string shown = inspect_text(checkpoint, {.tensor = "final_norm.bias"});
  CAPTURE(shown);
  CHECK(has(shown, "shape 2\n"));
  CHECK(has(shown, "range -4.00000 to 3.00000\n"));
  CHECK(has(shown, "mean -0.50000\n"));
  CHECK(has(shown, "values 3, -4\n"));
  CHECK(has(inspect_text(checkpoint, {.tensor = "/optimizer/mean/final_norm.bias"}),
            "values 0, 0.5\n"));
  CHECK_THROWS_WITH_AS(inspect_text(checkpoint, {.tensor = "final_nrom.bias"}),
                       doctest::Contains("(did you mean final_norm.bias?)"), UsageError);
}

TEST_CASE("values that are not finite are counted, not averaged") {
  const TemporaryFolder folder;
  const fs::path checkpoint = save(folder.path(), 7, std::numeric_limits<float>::infinity());
  CHECK(has(inspect_text(checkpoint, {}), "1 not finite"));
  const std::string shown = inspect_text(checkpoint, {.tensor = "embedding.weight"});
  CAPTURE(shown);
  CHECK(has(shown, "not finite 1\n"));
  CHECK(has(shown, "mean -2.00000\n"));
}

TEST_CASE("a run folder lists its checkpoints and names the newest complete one") {
  const TemporaryFolder folder;
  save(folder.path(), 10);
  const fs::path newest = save(folder.path(), 20);
  const fs::path damaged = save(folder.path(), 30);
  fs::resize_file(damaged / "model.h5", fs::file_size(damaged / "model.h5") - 1);
  const std::string shown = inspect_text(folder.path(), {});
  CAPTURE(shown);
  CHECK(has(shown, "step-00000010 10"));
  CHECK(has(shown, "step-00000020 20"));
  CHECK(has(shown, "truncated"));
  CHECK(has(shown, "newest complete: " + newest.string() + "\n"));
  CHECK(inspect_text(folder / "checkpoints", {}) == shown);
  CHECK(has(inspect_text(newest / "model.h5", {}), "step 20\n"));
}

TEST_CASE("--verify reads all: damage outside of the parameters shows") {
  const TemporaryFolder folder;
  const fs::path checkpoint = save(folder.path(), 10);
  CHECK(has(inspect_text(checkpoint, {.verify = true}), "all 3 hold"));
  damage(checkpoint / "model.h5");
  CHECK_NOTHROW(inspect_text(checkpoint, {}));
  CHECK_THROWS_AS(inspect_text(checkpoint, {.verify = true}), Error);
  CHECK(has(inspect_text(folder.path(), {}), "complete"));
  CHECK(inspect_path(folder.path(), {}).problem.empty());
  const Inspection only = inspect_path(folder.path(), {.verify = true});
  CHECK_FALSE(has(only.text, "digests hold"));
  CHECK(has(only.text, "none is complete"));
  CHECK(has(only.problem, "1 of 1 checkpoints are damaged, 0 cannot be read"));
  const fs::path older = save(folder.path(), 8);
  const Inspection two = inspect_path(folder.path(), {.verify = true});
  CHECK(has(two.text, "newest complete: " + older.string() + "\n"));
  CHECK(has(two.problem, "1 of 2 checkpoints are damaged"));
}

TEST_CASE("inspect RUN --verify ends with 1 if any checkpoint is damaged") {
  const TemporaryFolder folder;
  save(folder.path(), 8);
  const fs::path newest = save(folder.path(), 10);
  std::ostringstream ignored;
  std::streambuf* const screen = std::cout.rdbuf(ignored.rdbuf());
  CHECK(inspect({folder.path().string(), "--verify"}) == 0);
  damage(newest / "model.h5");
  CHECK(inspect({folder.path().string()}) == 0);
  CHECK_THROWS_AS(inspect({folder.path().string(), "--verify"}), Error);
  std::cout.rdbuf(screen);
}

TEST_CASE("what is no checkpoint is told") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH_AS(inspect_text(folder / "none", {}),
                       doctest::Contains("none: there is no such file or folder"), UsageError);
  CHECK_THROWS_WITH_AS(inspect_text(folder.path(), {}),
                       doctest::Contains("neither a checkpoint (a folder with MANIFEST and"),
                       UsageError);
  fs::create_directories(folder / "run" / "checkpoints");
  CHECK(has(inspect_text(folder / "run", {}), "holds no checkpoint yet"));
  CHECK_THROWS_WITH_AS(inspect_text(folder / "run", {.tensor = "x"}),
                       doctest::Contains("--tensor needs a checkpoint"), UsageError);
  std::ofstream(folder / "model.h5") << "not HDF5";
  CHECK_THROWS_WITH_AS(inspect_text(folder.path(), {}), doctest::Contains("MANIFEST is missing"),
                       Error);
}

}  // namespace

}  // namespace weir::test::inspect_test
