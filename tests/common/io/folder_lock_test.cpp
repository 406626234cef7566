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

TEST_CASE("a claim holds until a later job takes the folder, and then names that job") {
  const TemporaryFolder folder;
  Claim first = {folder.path()};
  check_claim(first);  // without a lock
  first.generation = FolderLock(folder.path()).generation();
  check_claim(first);
  fs::remove(folder.path() / "LOCK");
  check_claim(first);
  const FolderLock lock(folder.path());
  check_claim({folder.path(), lock.generation()});
  CHECK_THROWS_WITH_AS(
      check_claim(first),
      text(folder.path().string(), " belongs to a job that began later (host ", host_name(),
           ", process ", getpid(), "): this one ends, and writes and removes no checkpoint there")
          .c_str(),
      SupersededError);
  std::ofstream(folder.path() / "LOCK") << "host a, process 7\n";
  CHECK_THROWS_AS(check_claim(first), SupersededError);
}

TEST_CASE("a LOCK that cannot be read is no reason to believe in the claim") {
  const TemporaryFolder folder;
  fs::create_directory(folder.path() / "LOCK");
  CHECK_THROWS_AS(check_claim({folder.path(), "1"}), Error);
}
