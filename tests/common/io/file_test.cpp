#include "common/io/file.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <string>
#include <vector>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/io/folder_lock.hpp"
#include "common/io/hdf5.hpp"
#include "common/io/mapped_file.hpp"
#include "tests/common/io/faulty_file_system.hpp"
#include "tests/temporary_folder.hpp"

using namespace weir;

namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

constexpr index_t kMax = 1 << 20;

mode_t current_umask() {
  const mode_t mask = umask(0);
  umask(mask);
  return mask;
}

mode_t mode_of(const fs::path& path) { return static_cast<mode_t>(fs::status(path).permissions()); }

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

}  // namespace

TEST_CASE("what was written at offsets, brought to the disk and renamed reads back") {
  const test::TemporaryFolder folder;
  FileSystem& files = posix_file_system();
  files.make_folder(folder.path() / "a");
  CHECK(mode_of(folder.path() / "a") == (0777 & ~current_umask()));
  File file = files.create(folder.path() / "a" / "file");
  files.preallocate(file, 10);
  CHECK(file.size() == 10);
  files.write(file, 4, bytes_of("efgh"));
  files.write(file, 0, bytes_of("abcd"));
  files.sync(file);
  files.close(std::move(file));
  File again = files.open_for_writing(folder.path() / "a" / "file");
  files.write(again, 8, bytes_of("ij"));
  files.close(std::move(again));
  files.rename(folder.path() / "a", folder.path() / "b");
  files.sync_folder(folder.path());
  CHECK(read_whole(folder.path() / "b" / "file", kMax) == "abcdefghij");
  CHECK(mode_of(folder.path() / "b" / "file") == (0666 & ~current_umask()));
  files.remove_all(folder.path() / "b");
  CHECK_FALSE(fs::exists(folder.path() / "b"));
  files.remove_all(folder.path() / "b");  // nothing there is no error
}

TEST_CASE("a file is replaced whole or stays as it was, whichever call fails") {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "config.ini";
  test::FaultyFileSystem counting(test::kNever, false);
  replace_file(path, "old", counting);
  CHECK(read_whole(path, kMax) == "old");
  CHECK(mode_of(path) == (0666 & ~current_umask()));
  REQUIRE(counting.calls() == 6);  // create, write, sync, close, rename, sync of the folder
  for (int fatal = 1; fatal <= counting.calls(); ++fatal) {
    for (const bool dies : {false, true}) {
      CAPTURE(fatal);
      CAPTURE(dies);
      replace_file(path, "old");
      test::FaultyFileSystem faulty(fatal, dies);
      CHECK_THROWS_AS(replace_file(path, "new and longer", faulty), Error);
      CHECK(read_whole(path, kMax) == (fatal < 6 ? "old" : "new and longer"));
      if (!dies) CHECK(names_in(folder.path()) == std::vector<std::string>{"config.ini"});
      for (const std::string& name : names_in(folder.path())) {
        if (name != "config.ini") fs::remove(folder.path() / name);
      }
    }
  }
}

TEST_CASE("no link is followed where a file is replaced, appended to or locked") {
  const test::TemporaryFolder folder, elsewhere;
  const fs::path target = elsewhere.path() / "target";
  std::ofstream(target) << "mine";
  fs::create_symlink(target, folder.path() / "config.ini");
  replace_file(folder.path() / "config.ini", "weir's");
  CHECK(read_whole(folder.path() / "config.ini", kMax) == "weir's");
  CHECK_FALSE(fs::is_symlink(folder.path() / "config.ini"));

  fs::create_symlink(target, folder.path() / "metrics.jsonl");
  CHECK_THROWS_WITH_AS(open_for_appending(folder.path() / "metrics.jsonl"),
                       doctest::Contains("it is a link, which weir does not follow here"), Error);
  fs::create_symlink(target, folder.path() / "LOCK");
  CHECK_THROWS_WITH_AS(FolderLock{folder.path()},
                       doctest::Contains("it is a link, which weir does not follow here"), Error);
  CHECK(read_whole(target, kMax) == "mine");
}

TEST_CASE("a file is opened for appending at its end; a pipe is refused at once") {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "lines";
  for (const char* const line : {"one\n", "two\n"}) {
    const File file = open_for_appending(path);
    CHECK(write(file.descriptor(), line, 4) == 4);
  }
  CHECK(read_whole(path, kMax) == "one\ntwo\n");
  const std::string pipe = (folder.path() / "pipe").string();
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  const File reader(::open(pipe.c_str(), O_RDONLY | O_NONBLOCK), pipe);
  CHECK_THROWS_WITH_AS(
      open_for_appending(pipe),
      ("cannot open for writing " + pipe + ": it is a pipe, not a regular file").c_str(), Error);
}

TEST_CASE("a pipe or a device is refused at once by all that reads files") {
  const test::TemporaryFolder folder;
  const std::string pipe = (folder.path() / "pipe").string();
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);  // nobody writes it: to open it would wait
  const std::string message = "cannot open " + pipe + ": it is a pipe, not a regular file";
  CHECK_THROWS_WITH_AS(File::open(pipe), message.c_str(), Error);
  CHECK_THROWS_WITH_AS(read_whole(pipe, kMax), message.c_str(), Error);
  CHECK_THROWS_WITH_AS(MappedFile{pipe}, message.c_str(), Error);
  CHECK_THROWS_WITH_AS(read_whole("/dev/zero", kMax),
                       "cannot open /dev/zero: it is a device, not a regular file", Error);
  CHECK_THROWS_WITH_AS(read_whole("/", kMax), "cannot open /: it is a folder, not a regular file",
                       Error);
}

TEST_CASE("files and folders follow the umask, also what HDF5 makes, and can be kept private") {
  const test::TemporaryFolder folder;
  FileSystem& files = posix_file_system();
  const auto modes = [&](const std::string& name) {
    const fs::path inside = folder.path() / name;
    files.make_folder(inside);
    files.close(files.create(inside / "file"));
    List<Hdf5Dataset> datasets = {{"/model/a", {3}}};
    create_hdf5(inside / "model.h5", datasets);
    const FolderLock lock(inside);
    std::vector<mode_t> all = {mode_of(inside)};
    for (const char* file : {"file", "model.h5", "LOCK"}) all.push_back(mode_of(inside / file));
    return all;
  };
  const mode_t before = umask(002);
  CHECK(modes("group") == std::vector<mode_t>{0775, 0664, 0664, 0664});
  keep_new_files_private();
  CHECK(modes("private") == std::vector<mode_t>{0700, 0600, 0600, 0600});
  umask(before);
}

TEST_CASE("folders are made with those above them, and what is there already is no error") {
  const test::TemporaryFolder folder;
  FileSystem& files = posix_file_system();
  make_folders(files, folder.path() / "a" / "b" / "c");
  CHECK(fs::is_directory(folder.path() / "a" / "b" / "c"));
  make_folders(files, folder.path() / "a" / "b" / "c");
  make_folders(files, folder.path() / "a" / "b" / "d" / "");
  CHECK(fs::is_directory(folder.path() / "a" / "b" / "d"));
  std::ofstream(folder.path() / "file") << "x";
  const std::string message =
      "cannot make the folder " + (folder.path() / "file" / "x").string() + ": Not a directory";
  CHECK_THROWS_WITH_AS(make_folders(files, folder.path() / "file" / "x"), message.c_str(),
                       FileError);
}

TEST_CASE("whether a path exists is not guessed") {
  const test::TemporaryFolder folder;
  CHECK(path_exists(folder.path()));
  CHECK_FALSE(path_exists(folder.path() / "missing"));
  std::ofstream(folder.path() / "file") << "x";
  CHECK_FALSE(path_exists(folder.path() / "file" / "x"));
  CHECK(is_folder(folder.path()));
  CHECK_FALSE(is_folder(folder.path() / "file"));
  CHECK_FALSE(is_folder(folder.path() / "missing"));
  CHECK_THROWS_WITH_AS(path_exists(folder.path() / std::string(300, 'x')),
                       doctest::Contains("File name too long"), FileError);
}

TEST_CASE("what a user names is written where links lead, and a pipe stays a pipe") {
  const test::TemporaryFolder folder, elsewhere;
  const fs::path path = folder.path() / "page";
  CHECK(write_output(path, "one"));  // new
  CHECK(write_output(path, "two"));
  CHECK(read_whole(path, kMax) == "two");

  const fs::path link = elsewhere.path() / "link", other = elsewhere.path() / "other";
  fs::create_symlink(path, link);
  fs::create_symlink("link", other);
  CHECK(write_output(other, "three"));
  CHECK(read_whole(path, kMax) == "three");
  CHECK(fs::is_symlink(other));
  CHECK(fs::is_symlink(link));
  fs::remove(path);
  CHECK(write_output(link, "four"));  // it leads to nothing yet
  CHECK(read_whole(path, kMax) == "four");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"page"});

  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const File reader(ends[0], "reader"), writer(ends[1], "writer");
  const fs::path output = elsewhere.path() / "stdout";
  fs::create_symlink("/proc/self/fd/" + std::to_string(ends[1]), output);
  CHECK_FALSE(write_output(output, "five"));
  std::array<char, 8> bytes{};
  CHECK(::read(ends[0], bytes.data(), bytes.size()) == 4);
  CHECK(std::string(bytes.data(), 4) == "five");
  CHECK(fs::is_symlink(output));

  const fs::path fifo = elsewhere.path() / "fifo";
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  const File listener(::open(fifo.c_str(), O_RDONLY | O_NONBLOCK), fifo);
  CHECK_FALSE(write_output(fifo, "six"));
  CHECK(::read(listener.descriptor(), bytes.data(), bytes.size()) == 3);
  CHECK(fs::is_fifo(fifo));
  CHECK_THROWS_WITH_AS(write_output(folder.path(), "x"),
                       ("cannot write " + folder.path().string() + ": it is a folder").c_str(),
                       Error);

  // A file that is open under a link in /proc, as standard output often is.
  const File open = open_for_appending(folder.path() / "page");
  const fs::path as_output = elsewhere.path() / "as stdout";
  fs::create_symlink("/proc/self/fd/" + std::to_string(open.descriptor()), as_output);
  CHECK_FALSE(write_output(as_output, "7"));
  CHECK(read_whole(folder.path() / "page", kMax) == "7");
}

TEST_CASE("exchange swaps two folders") {
  const test::TemporaryFolder folder;
  FileSystem& files = posix_file_system();
  fs::create_directories(folder.path() / "a" / "inner");
  fs::create_directories(folder.path() / "b");
  if (!files.exchange(folder.path() / "a", folder.path() / "b")) return;  // NFS
  CHECK(fs::exists(folder.path() / "b" / "inner"));
  CHECK_FALSE(fs::exists(folder.path() / "a" / "inner"));
}

TEST_CASE("errors name what was done, the file and the reason") {
  const test::TemporaryFolder folder;
  FileSystem& files = posix_file_system();
  const std::string path = (folder.path() / "missing").string();
  const std::string none = path + ": No such file or directory";
  CHECK_THROWS_WITH_AS(File::open(path), ("cannot open " + none).c_str(), Error);
  CHECK_THROWS_WITH_AS(files.open_for_writing(path), ("cannot open for writing " + none).c_str(),
                       Error);
  CHECK_THROWS_WITH_AS(read_whole(path, kMax), ("cannot open " + none).c_str(), Error);
  CHECK_THROWS_WITH_AS(files.sync_folder(path), ("cannot open the folder " + none).c_str(), Error);
  CHECK_THROWS_WITH_AS(
      File::open(folder.path()),
      ("cannot open " + folder.path().string() + ": it is a folder, not a regular file").c_str(),
      Error);
  files.close(files.create(path));
  CHECK_THROWS_WITH_AS(files.create(path), ("cannot create " + path + ": File exists").c_str(),
                       Error);
  CHECK_THROWS_WITH_AS(files.make_folder(path),
                       ("cannot make the folder " + path + ": File exists").c_str(), Error);
  CHECK_THROWS_WITH_AS(
      files.rename(path + "x", path),
      ("cannot rename " + path + "x to " + path + ": No such file or directory").c_str(), Error);
  CHECK_THROWS_WITH_AS(
      files.exchange(path + "x", path),
      ("cannot exchange " + path + "x and " + path + ": No such file or directory").c_str(), Error);
}

TEST_CASE("a disk that is full is an Error") {
  const File full = posix_file_system().open_for_writing("/dev/full");
  CHECK_THROWS_WITH_AS(posix_file_system().write(full, 0, bytes_of("x")),
                       "cannot write /dev/full: No space left on device", Error);
}

TEST_CASE("reading beyond the end, or more than allowed, is an Error") {
  const test::TemporaryFolder folder;
  const std::string path = (folder.path() / "short").string();
  std::ofstream(path) << "12345";
  const File file = File::open(path);
  std::array<std::byte, 4> out{};
  CHECK_THROWS_WITH_AS(
      file.read(3, out),
      ("cannot read " + path + ": it ends at byte 5, 2 bytes before what is needed").c_str(),
      Error);
  CHECK_THROWS_WITH_AS(read_whole(path, 4),
                       ("cannot read " + path + ": it has 5 bytes, more than 4").c_str(), Error);
  CHECK(read_whole(path, 5) == "12345");
}
