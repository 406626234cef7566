#include "launch/run/run_folder.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "tests/temporary_folder.hpp"

namespace weir {
namespace {

using test::TemporaryFolder;

std::string contents(const fs::path& path) {
  std::ostringstream all;
  all << std::ifstream(path).rdbuf();
  return all.str();
}

TEST_CASE("a run folder is made with its parents, and keeps configuration and environment") {
  const TemporaryFolder scratch;
  const RunFolder folder(scratch / "runs" / "a");
  CHECK(fs::is_directory(folder.checkpoints()));
  folder.write_config({{"steps", "7", Source::command_line}, {"clip.policy", "decay", {}}});
  const std::string config = contents(folder.path() / "config.ini");
  CHECK(config.find("steps = 7  # command line") != std::string::npos);
  CHECK(config.find("[clip]") != std::string::npos);
  folder.write_environment(3, "oneDNN with avx512", "emma.txt, 880,000 bytes");
  const std::string environment = contents(folder.path() / "environment.txt");
  CHECK(environment.find("ranks      3\n") != std::string::npos);
  CHECK(environment.find("products   oneDNN with avx512\n") != std::string::npos);
  CHECK(environment.find(cpu_name()) != std::string::npos);
  CHECK(environment.find("data       emma.txt, 880,000 bytes\n") != std::string::npos);
}

TEST_CASE("a second run in the folder is refused with the holder's name, until the first ends") {
  const TemporaryFolder scratch;
  {
    const RunFolder first(scratch.path());
    CHECK_THROWS_WITH_AS(RunFolder(scratch.path()),
                         doctest::Contains(text("process ", getpid()).c_str()), Error);
  }
  CHECK_NOTHROW(RunFolder(scratch.path()));
}

TEST_CASE("a folder with files of others is refused where weir would write over them") {
  const TemporaryFolder scratch;
  for (const char* const name :
       {"config.ini", "environment.txt", "metrics.jsonl", "decisions.jsonl", "report.html", "LOCK",
        "checkpoints/model.pt", "live/notes", "hang/notes"}) {
    CAPTURE(name);
    const fs::path folder = scratch / "others";
    fs::create_directories((folder / name).parent_path());
    std::ofstream(folder / name) << "# mine\n";
    CHECK_FALSE(is_run_folder(folder));
    CHECK_THROWS_WITH_AS(RunFolder{folder}, doctest::Contains("but no run of weir"), UsageError);
    CHECK(contents(folder / name) == "# mine\n");
    CHECK(std::distance(fs::directory_iterator(folder), {}) == 1);
    fs::remove_all(folder);
  }
}

TEST_CASE("a new run may lie beside a log, and where a job died while it made its folder") {
  // A power cut leaves of the first LOCK nothing, zeros or a part.
  for (const std::string& lock : {std::string(), std::string(51, '\0'), std::string("hos")}) {
    const TemporaryFolder scratch;
    std::ofstream(scratch / "train.log") << "submitted\n";
    std::ofstream(scratch / "LOCK") << lock;
    fs::create_directory(scratch / "checkpoints");
    CHECK_FALSE(is_run_folder(scratch.path()));
    CHECK_NOTHROW(RunFolder(scratch.path()));
    CHECK(is_run_folder(scratch.path()));
    CHECK_NOTHROW(RunFolder(scratch.path()));
  }
}

TEST_CASE("a run folder is known by its lock, its metrics or a checkpoint, each alone") {
  const TemporaryFolder scratch;
  const std::pair<const char*, const char*> marks[] = {
      {"LOCK", "host a, process 7\n"},
      {"metrics.jsonl", "{\"kind\":\"start\",\"step\":0}\n"},
      {"checkpoints/step-00000006/MANIFEST", "weir checkpoint 1\nstep 6\n"}};
  for (const auto& [name, line] : marks) {
    CAPTURE(name);
    const fs::path folder = scratch / "copied";
    fs::create_directories((folder / name).parent_path());
    std::ofstream(folder / name) << line;
    std::ofstream(folder / "config.ini") << "steps = 6\n";
    CHECK(is_run_folder(folder));
    CHECK_NOTHROW(RunFolder{folder});
    fs::remove_all(folder);
  }
  CHECK_FALSE(is_run_folder(scratch / "nowhere"));
}

TEST_CASE("what a killed job left of its small files goes with the next job, and nothing else") {
  const TemporaryFolder scratch;
  { const RunFolder first(scratch.path()); }
  std::ofstream(scratch / ".tmp-config.ini-0123abcd0123abcd") << "steps";
  std::ofstream(scratch / ".tmp-report.html-0123abcd0123abcd") << "is being written";
  const RunFolder folder(scratch.path());
  CHECK_FALSE(fs::exists(scratch / ".tmp-config.ini-0123abcd0123abcd"));
  CHECK(fs::exists(scratch / ".tmp-report.html-0123abcd0123abcd"));
}

TEST_CASE(
    "what an earlier job left of its ranks goes with the next job, which makes room for its own") {
  const TemporaryFolder scratch;
  { const RunFolder first(scratch.path()); }
  for (const char* const folder : {"live", "hang"}) {
    fs::create_directory(scratch / folder);
    std::ofstream(scratch / folder / "rank-3.json") << "{}";
  }
  const RunFolder folder(scratch.path());
  CHECK(fs::is_empty(scratch / "live"));
  CHECK_FALSE(fs::exists(scratch / "hang"));
}

TEST_CASE("a run folder that cannot be made is told with the reason") {
  CHECK_THROWS_WITH_AS(
      RunFolder("/dev/null/runs"),
      "no run folder: cannot make the folder /dev/null/runs: Not a directory; choose another with "
      "--run",
      Error);
}

}  // namespace
}  // namespace weir
