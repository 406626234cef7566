#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "tests/system/job.hpp"

namespace weir::test::moved_run_test {
namespace fs = std::filesystem;

namespace {

using Words = std::vector<std::string>;

/// `weir ARGUMENTS` in a working directory.
Ended run_in(const fs::path& folder, const Words& arguments) {
  Words command = {"env", "-C", folder.string(), WEIR_BINARY};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return Process(command).wait(60);
}

/// A short job, of which the paths are relative.
Words small_words(const Words& more) {
  Words all = {"train",           "--placement=local",   "--batch=4",
               "--micro-batch=2", "--data.held-out=400", "--progress=none",
               "--steps=4",       "--checkpoint-every=0"};
  for (const Words& words : {small_model(), more}) {
    all.insert(all.end(), words.begin(), words.end());
  }
  if (more.size() > 2) std::erase(all, "--steps=4");  // it has its own
  return all;
}

bool says(const Ended& ended, const std::string& words) {
  return ended.output.find(words) != std::string::npos;
}

std::string contents(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("a run that was moved, copied or is called from elsewhere goes on in its own folder") {
  const TemporaryFolder folder;
  fs::create_directories(folder / "project");
  fs::create_directories(folder / "elsewhere");
  write_corpus(folder / "project" / "book.txt", 20'000, 1);
  write_corpus(folder / "elsewhere" / "book.txt", 20'000, 2);  // another one of the same name
  const fs::path project = folder / "project";
  REQUIRE(run_in(project, small_words({"--data.files=book.txt", "--run=one"})).exit_code == 0);

  fs::copy(project / "one", folder / "elsewhere" / "copy", fs::copy_options::recursive);
  fs::rename(project / "one", project / "two");
  for (const auto& [from, run] :
       {std::pair(project, fs::path("two")), std::pair(folder / "elsewhere", fs::path("copy")),
        std::pair(folder / "elsewhere" / "copy", fs::path("."))}) {
    CAPTURE(from);
    CAPTURE(run);
    const fs::path whole = from / run;
    const auto before = read_steps(whole).size();
    const Ended ended =
        run_in(from, {"train", "--config", (run / "config.ini").string(),
                      "--steps=" + std::to_string(before + 2), "--rate.schedule=constant"});
    CAPTURE(ended.output);
    REQUIRE(ended.exit_code == 0);
    CHECK(says(ended, "goes on from " + (run / "checkpoints").string()));
    CHECK_FALSE(says(ended, "text is another"));
    CHECK(read_steps(whole).size() == before + 2);
    CHECK_FALSE(fs::exists(project / "one"));
    CHECK(contents(whole / "config.ini").find("files = " + (project / "book.txt").string()) !=
          std::string::npos);
  }
  CHECK(run_in(folder / "elsewhere", {"eval", "../project/two", "--samples=2"}).exit_code == 0);

  // The project as a whole, text and run: the text is found where it was relative to the run.
  fs::rename(project, folder / "renamed");
  const Ended moved = run_in(folder / "elsewhere", {"train", "--config=../renamed/two/config.ini",
                                                    "--steps=8", "--rate.schedule=constant"});
  CAPTURE(moved.output);
  CHECK(moved.exit_code == 0);
  CHECK(says(moved, "as " + (project / "book.txt").string() + " is not there"));
  CHECK(read_steps(folder / "renamed" / "two").size() == 8);
  const Ended scored = run_in(folder / "renamed", {"eval", "two", "--samples=2"});
  CAPTURE(scored.output);
  CHECK(scored.exit_code == 0);
}

TEST_CASE("a text that changed under the same name is told, and never leaks what was held out") {
  const TemporaryFolder folder;
  write_corpus(folder / "book.txt", 20'000, 1);
  const auto train = [&](const Words& more) { return run_in(folder.path(), small_words(more)); };
  const Words book = {"--data.files=book.txt", "--run=a"};
  REQUIRE(train(book).exit_code == 0);
  const std::string config = contents(folder / "a" / "config.ini");

  const std::string text = contents(folder / "book.txt");
  std::ofstream(folder / "book.txt", std::ios::app) << text;
  const Ended refused = train({"--data.files=book.txt", "--run=a", "--steps=6"});
  CAPTURE(refused.output);
  CHECK(refused.exit_code == 2);
  CHECK(says(refused, "the bytes 19,600 to 19,999, which were held out, are for training now"));
  CHECK(read_steps(folder / "a").size() == 4);
  CHECK(contents(folder / "a" / "config.ini") == config);
  const Ended scored = run_in(folder.path(), {"eval", "a", "--samples=2"});
  CHECK(scored.exit_code == 0);
  CHECK(says(
      scored,
      "warning: the text to score differs from what the run held out: it was book.txt (19,600"));
  const Ended accepted =
      train({"--data.files=book.txt", "--run=a", "--steps=6", "--accept-changed-data"});
  CHECK(accepted.exit_code == 0);
  CHECK(says(accepted, "warning: the text differs from the checkpoint's: it was book.txt"));
  CHECK(read_steps(folder / "a").size() == 6);
  // From here on this is the run's text.
  const Ended again = run_in(folder.path(), {"train", "--config=a/config.ini", "--steps=8"});
  CHECK(again.exit_code == 0);
  CHECK_FALSE(says(again, "is another"));

  // A second training in the folder of a finished one.
  write_corpus(folder / "other.txt", 20'000, 3);
  const Ended second = train({"--data.files=other.txt", "--run=a"});
  CAPTURE(second.output);
  CHECK(second.exit_code == 2);
  CHECK(says(second, "nothing would be trained: a has all of 4 steps, made with another text"));
}

}  // namespace weir::test::moved_run_test
