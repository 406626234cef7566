#include "worker/data/file_list.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>

#include "common/base/error.hpp"
#include "tests/worker/data/scratch.hpp"

using namespace weir;
using namespace weir::worker;

namespace {

using Names = std::vector<std::string>;

/// The names of the files found, without the scratch folder.
Names found(const Scratch& scratch, const std::string& list) {
  Names names;
  for (const std::string& path : find_files(list).paths) {
    names.push_back(std::filesystem::relative(path, scratch.path("")).string());
  }
  return names;
}

std::string refusal(const std::string& list) {
  return message_of<Error>([&] { find_files(list); });
}

}  // namespace

TEST_CASE("a list is split at its commas, and any names can be written in one") {
  CHECK(items_of("a,b c,,d") == Names{"a", "b c", "d"});
  CHECK(items_of("").empty());
  CHECK(items_of(",,").empty());
  CHECK(items_of(R"(a\,b,c\\,d\e\)") == Names{"a,b", R"(c\)", R"(d\e\)"});
  const Names awkward = {"a,b", R"(\)", R"(x\,y\\)", " ", "@", "n\nm", "\xff"};
  CHECK(items_of(list_of(awkward)) == awkward);
}

TEST_CASE(
    "folders and patterns name their files in the order of their bytes, whatever else is there") {
  const Scratch scratch;
  for (const char* name : {"b.txt", "a.txt", "B.txt", "c.md", ".hidden", "z[1].txt"}) {
    scratch.write(name, "text");
  }
  scratch.write("empty.txt", "");
  std::filesystem::create_directory(scratch.path("more"));
  scratch.write("more/d.txt", "text");
  CHECK(found(scratch, scratch.path("")) == Names{"B.txt", "a.txt", "b.txt", "c.md", "z[1].txt"});
  CHECK(found(scratch, scratch.path("?.txt")) == Names{"B.txt", "a.txt", "b.txt"});
  CHECK(found(scratch, scratch.path("c.md") + "," + scratch.path("[ab].txt")) ==
        Names{"c.md", "a.txt", "b.txt"});
  CHECK(found(scratch, scratch.path("*/*.txt")) == Names{"more/d.txt"});
  CHECK(found(scratch, scratch.path("z[1].txt")) == Names{"z[1].txt"});  // that file, no pattern
  const auto warnings = find_files(scratch.path("")).warnings;
  REQUIRE(warnings.size() == 2);
  CHECK(contains(warnings[0], "1 folders in it are not read"));
  CHECK(contains(warnings[1], "1 empty files are passed over"));
  CHECK(find_files(scratch.path("?.txt")).warnings.empty());
}

TEST_CASE("a file of names is read line by line, from its own folder on") {
  const Scratch scratch;
  scratch.write("one,two.txt", "text");
  scratch.write("three.txt", "text");
  scratch.write("list", "# names\n\none,two.txt\r\nth*.txt\n" + scratch.path("three.txt"));
  CHECK(found(scratch, "@" + scratch.path("list")) ==
        Names{"one,two.txt", "three.txt", "three.txt"});
  scratch.write("wrong", "three.txt\nfour.txt\n");
  const std::string message = refusal("@" + scratch.path("wrong"));
  CHECK(contains(message, "four.txt"));
  CHECK(contains(message, "line 2 of " + scratch.path("wrong")));
  CHECK(contains(refusal("@" + scratch.path("none")), "No such file"));
}

TEST_CASE("what names nothing, or nothing that can be read again, is refused by name") {
  const Scratch scratch;
  const std::string pipe = scratch.path("pipe");
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(contains(refusal(pipe), "read " + pipe + ": it is a pipe; data are read again"));
  CHECK(contains(refusal(scratch.path("")), "it is a pipe"));  // in a folder, too
  CHECK(contains(refusal("/dev/zero"), "read /dev/zero: it is a device"));
  CHECK(contains(refusal("/dev/null"), "it is a device"));
  CHECK(contains(refusal(scratch.path("none")), scratch.path("none") + ": there is no such file"));
  CHECK(contains(refusal(scratch.path("*.none")), "no file to read in"));
  CHECK(contains(refusal(scratch.path(std::string(300, 'x'))), "File name too long"));
  scratch.write("a,b.txt", "text");
  const std::string message = refusal(scratch.path("a,b.txt"));
  INFO(message);
  CHECK(contains(message, "for the file " + scratch.path("a,b.txt") + " write '" +
                              scratch.path(R"(a\,b.txt)") + "', in quotes"));
}
