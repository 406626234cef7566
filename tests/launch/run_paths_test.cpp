#include "launch/run_paths.hpp"

#include <doctest/doctest.h>

#include <fstream>

#include "tests/temporary_folder.hpp"

namespace weir::test::run_paths_test {
namespace {

using test::TemporaryFolder;

/// A folder that a run of weir has left, with this config.ini.
std::string run_folder(const fs::path& folder, const std::string& config) {
  fs::create_directories(folder);
  std::ofstream(folder / "LOCK") << "host a, process 7\n";
  std::ofstream(folder / "config.ini") << config;
  return (folder / "config.ini").string();
}

ParsedConfig parse(const std::string& config, std::vector<std::string> more = {},
                   const std::vector<std::string>& environment = {}) {
  more.insert(more.begin(), {"--config", config});
  return parse_run_config(more, environment);
}

std::string setting(const ParsedConfig& parsed, const std::string& name) {
  for (const Setting& each : parsed.settings) {
    if (each.name == name) return each.value;
  }
  return "?";
}

TEST_CASE("the config.ini of a run folder means that run, wherever it lies now") {
  const TemporaryFolder scratch;
  const fs::path two = scratch / "two";
  const std::string config =
      run_folder(two, "run = runs/one\nresume = never\naccept-changed-data = true\nsteps = 7\n");
  const ParsedConfig parsed = parse(config);
  CHECK(parsed.config.run == two.string());
  CHECK(setting(parsed, "run") == two.string());
  CHECK(parsed.config.resume == "auto");
  CHECK_FALSE(parsed.config.accept_changed_data);
  CHECK(parsed.config.train.training.steps == 7);
  REQUIRE(parsed.remarks.size() == 1);
  CHECK(parsed.remarks[0] == text("the run is ", two.string(), ", where ", config,
                                  " lies; it was runs/one when that was written"));
  // Nothing to remark where it lies as it says.
  CHECK(parse(run_folder(two, text("run = ", two.string(), "\n"))).remarks.empty());
}

TEST_CASE("a --run that is given counts, and the log says whose settings are taken") {
  const TemporaryFolder scratch;
  const std::string config = run_folder(scratch / "two", "run = runs/one\n");
  for (const auto& [parsed, said] :
       {std::pair(parse(config, {"--run=three"}), "--run"),
        std::pair(parse(config, {}, {"WEIR_RUN=three"}), "WEIR_RUN")}) {
    CHECK(parsed.config.run == "three");
    REQUIRE(parsed.remarks.size() == 1);
    CHECK(parsed.remarks[0] ==
          text("the run is three, as ", said, " says; only its settings come from ", config));
  }
  const ParsedConfig same = parse(config, {"--run", (scratch / "two").string() + "/."});
  CHECK(same.config.run == (scratch / "two").string() + "/.");
  CHECK(same.remarks.empty());
  CHECK(parse(config, {"--resume=never"}).config.resume == "never");
}

TEST_CASE("a file of the user's own stays what it is") {
  const TemporaryFolder scratch;
  std::ofstream(scratch / "config.ini") << "run = runs/one\nresume = never\n";
  std::string config = (scratch / "config.ini").string();  // no run has been in this folder
  CHECK(parse(config).config.run == "runs/one");
  CHECK(parse(config).config.resume == "never");
  run_folder(scratch / "two", "");
  config = (scratch / "two" / "job.ini").string();
  std::ofstream(config) << "run = runs/one\n";
  CHECK(parse(config).config.run == "runs/one");
}

TEST_CASE("settings are kept with absolute paths") {
  const std::string here = fs::current_path().string();
  const std::vector<Setting> kept = with_absolute_paths({
      {"run", "runs/a", {}},
      {"resume", "auto", {}},
      {"replay", "", {}},
      {"data.files", "book.txt,sub/../more.txt,/else/where.txt", {}},
      {"model.task", "language", {}},
  });
  CHECK(kept[0].value == here + "/runs/a");
  CHECK(kept[1].value == "auto");
  CHECK(kept[2].value.empty());
  CHECK(kept[3].value == here + "/book.txt," + here + "/more.txt,/else/where.txt");
  CHECK(kept[4].value == "language");
  CHECK(with_absolute_paths({{"resume", "runs/a", {}}})[0].value == here + "/runs/a");
  CHECK(with_absolute_paths({{"replay", "runs/a/decisions.jsonl", {}}})[0].value ==
        here + "/runs/a/decisions.jsonl");
}

TEST_CASE("a text that moved with its run is found again; one that is where it was is read there") {
  const TemporaryFolder scratch;
  const fs::path now = scratch / "new";
  fs::create_directories(now / "runs" / "a");
  std::ofstream(now / "book.txt") << "text";
  std::vector<std::string> remarks;
  const fs::path run = now / "runs" / "a";
  CHECK(find_data_again("/old/book.txt,/old/gone.txt", "/old/runs/a", run, remarks) ==
        (now / "book.txt").string() + ",/old/gone.txt");
  REQUIRE(remarks.size() == 1);
  CHECK(remarks[0] ==
        text("reads ", (now / "book.txt").string(), ", as /old/book.txt is not there"));
  // As earlier versions wrote them: both relative.
  remarks.clear();
  CHECK(find_data_again("book.txt", "runs/a", run, remarks) == (now / "book.txt").string());
  std::ofstream(scratch / "here.txt") << "text";
  remarks.clear();
  const std::string here = (scratch / "here.txt").string();
  CHECK(find_data_again(here, "/old/runs/a", run, remarks) == here);
  CHECK(remarks.empty());

  // config.ini and a copy of its text elsewhere: --data.files of the command line is left alone.
  const std::string config = run_folder(run, "run = /old/runs/a\n[data]\nfiles = /old/book.txt\n");
  CHECK(parse(config).config.data.files == (now / "book.txt").string());
  CHECK(parse(config, {"--data.files=/old/book.txt"}).config.data.files == "/old/book.txt");
}

}  // namespace

}  // namespace weir::test::run_paths_test
