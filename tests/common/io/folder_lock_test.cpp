#include "common/io/folder_lock.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "common/base/machine.hpp"
#include "tests/temporary_folder.hpp"

using namespace weir;
using test::TemporaryFolder;

TEST_CASE("a folder has one owner at a time, and the second learns who it is") {
  const TemporaryFolder folder;
  const std::string message =
      text(folder.path().string(), " is in use by another run (host ", host_name(), ", process ",
           getpid(), "); wait until it ends or choose another folder");
  {
    const FolderLock lock(folder.path());
    CHECK_THROWS_WITH_AS(FolderLock{folder.path()}, message.c_str(), Error);
  }
  const FolderLock again(folder.path());
}

TEST_CASE("a process that dies leaves its folder free") {
  const TemporaryFolder folder;
  const pid_t child = fork();
  if (child == 0) {
    const FolderLock lock(folder.path());
    _exit(0);  // without destructors, as if killed
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(fs::exists(folder.path() / "LOCK"));
  const FolderLock lock(folder.path());
}

TEST_CASE("a folder in which nothing can be written cannot be locked") {
  CHECK_THROWS_WITH_AS(
      FolderLock{"/nowhere"},
      "cannot write into the folder: cannot open /nowhere/LOCK: No such file or directory", Error);
}

TEST_CASE("each owner of a folder has a generation above that of the one before") {
  const TemporaryFolder folder;
  for (index_t owner = 1; owner < 4; ++owner)
    CHECK(FolderLock(folder.path()).generation() == owner);
  for (const char* const foreign :
       {"", "host a, process 7\n", "host a\ngeneration x\n", "host a\ngeneration -3\n",
        "host a\ngeneration 9223372036854775807\n"}) {
    CAPTURE(foreign);
    std::ofstream(folder.path() / "LOCK") << foreign;
    CHECK(FolderLock(folder.path()).generation() == 1);
    CHECK(FolderLock(folder.path()).generation() == 2);
  }
}

TEST_CASE("a claim holds until a later job takes the folder, and then names that job") {
  const TemporaryFolder folder;
  Claim claim = {folder.path(), 0};
  check_claim(claim);  // without a lock
  claim.generation = FolderLock(folder.path()).generation();
  check_claim(claim);
  std::ofstream(folder.path() / "LOCK") << "host other, process 7\ngeneration 2\n";
  CHECK_THROWS_WITH_AS(
      check_claim(claim),
      (folder.path().string() + " belongs to a job that began later (host other, process 7): this "
                                "one ends and writes nothing more there")
          .c_str(),
      SupersededError);
  fs::remove(folder.path() / "LOCK");
  check_claim(claim);
}
