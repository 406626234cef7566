#include "worker/data/text/corpus.hpp"

#include <doctest/doctest.h>

#include "common/base/error.hpp"
#include "tests/worker/data/scratch.hpp"

using namespace weir;
using namespace weir::worker;

static std::string read(const Corpus& corpus, index_t offset, std::size_t count) {
  std::vector<std::int32_t> tokens(count, -7);
  corpus.copy(offset, tokens);
  std::string bytes;
  for (const auto token : tokens) {
    REQUIRE(token >= 0);
    REQUIRE(token < 256);
    bytes += static_cast<char>(token);
  }
  return bytes;
}

TEST_CASE("several files, plain and gzip'ed, read as one text wherever it is cut") {
  const Scratch scratch;
  const std::string all = random_text(70'001, 5);
  // The second is packed in two members, as `cat a.gz b.gz` makes them; the last has one byte.
  const Corpus corpus(
      {scratch.write("a", all.substr(0, 3)),
       scratch.write("b", gzipped(all.substr(3, 40'000)) + gzipped(all.substr(40'003, 29'997))),
       scratch.write("c", all.substr(70'000))});
  REQUIRE(corpus.size() == 70'001);
  CHECK(read(corpus, 0, all.size()) == all);
  for (const index_t offset : {0, 1, 2, 3, 4, 39'999, 69'999, 70'000}) {
    for (const std::size_t count : {0, 1, 2, 5, 30'000}) {
      if (offset + static_cast<index_t>(count) > corpus.size()) continue;
      CAPTURE(offset);
      CAPTURE(count);
      CHECK(read(corpus, offset, count) == all.substr(offset, count));
    }
  }
  CHECK(corpus.names() == "a + b + c");
}

TEST_CASE("a file that holds more than texts do is warned of") {
  const Scratch scratch;
  const Corpus corpus(
      {scratch.write("text", "all is well\n"), scratch.write("holes", std::string(5'000, '\0'))},
      {"from the list"});
  REQUIRE(corpus.warnings().size() == 2);
  CHECK(corpus.warnings()[0] == "from the list");
  CHECK(contains(corpus.warnings()[1], scratch.path("holes")));
}

TEST_CASE("a file that cannot be a text is named with what is wrong with it") {
  const Scratch scratch;
  const auto error = [&](const std::string& path) {
    return message_of<Error>([&] { Corpus({scratch.write("good", "text"), path}); });
  };
  const auto checked = [&](const std::string& name, const std::string& bytes,
                           const std::string& what) {
    const std::string message = error(scratch.write(name, bytes));
    INFO(message);
    CHECK(contains(message, scratch.path(name)));
    CHECK(contains(message, what));
  };
  const std::string packed = gzipped(random_text(5'000, 1));
  std::string damaged = packed;
  damaged[2'000] = static_cast<char>(damaged[2'000] ^ 0x10);  // the check sum finds it
  checked("empty", "", "empty");
  checked("empty.gz", gzipped(""), "empty");
  checked("short.gz", packed.substr(0, 3'000), "ends too early");
  checked("shorter.gz", packed.substr(0, 2), "ends too early");
  checked("damaged.gz", damaged, "");
  checked("followed.gz", packed + "and more", "8 bytes follow");
  CHECK(contains(error(scratch.path("none")), "No such file"));
  CHECK(contains(error(scratch.path("")), "it is a folder, not a regular file"));
  checked("packed.txt", "BZh91AY&SY\x94\xd9", "packed by bzip2");
  checked("twice.gz", gzipped(gzipped("text")), "packed by gzip twice");
}
