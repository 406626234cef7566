#include "common/io/mapped_file.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>

#include "common/base/error.hpp"
#include "tests/temporary_folder.hpp"

using namespace weir;
namespace fs = std::filesystem;

namespace {

/// Runs `work` in a process of its own with its stderr in `said`; how it ended, as waitpid has it.
template <class Work>
int in_a_process(const fs::path& said, const Work& work) {
  const pid_t child = fork();
  if (child == 0) {
    if (freopen(said.c_str(), "w", stderr) == nullptr) _exit(90);
    work();
    _exit(91);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  return status;
}

std::string contents(const fs::path& path) {
  std::ostringstream all;
  all << std::ifstream(path).rdbuf();
  return all.str();
}

}  // namespace

TEST_CASE("a mapped file shows the bytes, also none") {
  const test::TemporaryFolder folder;
  std::ofstream(folder / "file") << "abc";
  std::ofstream(folder / "empty") << "";
  MappedFile mapped(folder / "file");
  REQUIRE(mapped.bytes().size() == 3);
  CHECK(mapped.bytes()[2] == std::byte{'c'});
  MappedFile moved = std::move(mapped);
  CHECK(moved.bytes()[0] == std::byte{'a'});
  CHECK(MappedFile(folder / "empty").bytes().empty());
  moved = MappedFile(folder / "empty");
  CHECK(moved.bytes().empty());
  const std::string missing = (folder / "missing").string();
  CHECK_THROWS_WITH_AS(MappedFile{missing},
                       ("cannot open " + missing + ": No such file or directory").c_str(), Error);
}

TEST_CASE("a mapped file that becomes shorter is named, and the process ends with 1") {
  const test::TemporaryFolder folder;
  const auto pages = static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) * 3;
  for (const char* name : {"before", "corpus", "after"}) {
    std::ofstream(folder / name) << std::string(pages, 'x');
  }
  const int status = in_a_process(folder / "said", [&] {
    const MappedFile before(folder / "before");
    const MappedFile corpus(folder / "corpus");
    { const MappedFile gone(folder / "before"); }
    const MappedFile after(folder / "after");
    fs::resize_file(folder / "corpus", 10);
    const volatile std::byte last = corpus.bytes().back();
    static_cast<void>(last);
  });
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 1);
  CHECK(contents(folder / "said") ==
        "weir: cannot read " + (folder / "corpus").string() +
            ": it became shorter while it was in use, or its disk failed. Start again when nobody "
            "changes it any more\n");
}

TEST_CASE("a bus error that no mapped file has caused ends the process as ever") {
  const test::TemporaryFolder folder;
  std::ofstream(folder / "file") << "abc";
  const int status = in_a_process(folder / "said", [&] {
    const MappedFile mapped(folder / "file");
    raise(SIGBUS);
  });
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGBUS);
}
