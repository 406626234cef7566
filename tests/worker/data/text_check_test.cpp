#include "worker/data/text_check.hpp"

#include <doctest/doctest.h>

#include "tests/worker/data/scratch.hpp"

using namespace weir::worker;
using namespace std::string_literals;

namespace {

std::span<const std::uint8_t> bytes_of(const std::string& bytes) {
  return {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
}

std::string refused(const std::string& bytes, const std::string& path = "own.txt") {
  return refusal_of(bytes_of(bytes), path);
}

std::string doubted(const std::string& bytes) { return doubt_about(bytes_of(bytes), "f"); }

}  // namespace

TEST_CASE("packed files, archives, documents and UTF-16 are refused with the command that helps") {
  // Beginnings as xz 5.4, bzip2 1.0.8, zstd 1.5, zip 3.0 and iconv wrote them.
  CHECK(refused("\xfd"
                "7zXZ\0\0\x04\xe6\xd6"s,
                "books/emma.txt.xz") ==
        "read books/emma.txt.xz: it is packed by xz, not text; make text of it with "
        "`xz -dc books/emma.txt.xz > books/emma.txt` and name that");
  CHECK(contains(refused("BZh91AY&SY\x94\xd9", "a.bz2"), "`bzip2 -dc a.bz2 > a`"));
  CHECK(contains(refused("\x28\xb5\x2f\xfd\x24\x05", "a b.zst"), "`zstd -dc 'a b.zst' > 'a b'`"));
  CHECK(contains(refused("PK\x03\x04\x0a", "a.zip"), "`unzip a.zip`"));
  CHECK(contains(refused("7z\xbc\xaf\x27\x1c\0\x04"s), "7z archive"));
  CHECK(contains(refused("%PDF-1.5\n", "a.pdf"), "`pdftotext a.pdf a.txt`"));
  CHECK(contains(refused("\xff\xfeT\0h\0e\0"s), "iconv -f UTF-16 -t UTF-8 own.txt > own.utf8"));
  CHECK(contains(refused("\xfe\xff\0T\0h"s), "it is UTF-16,"));
  CHECK(contains(refused("\xff\xfe\0\0T\0\0\0"s), "it is UTF-32,"));
  CHECK(contains(refused("\0\0\xfe\xff\0\0\0T"s), "it is UTF-32,"));
  CHECK(contains(refused("name" + std::string(253, '\0') + "ustar\0"s), "tar -xf own.txt"));
  CHECK(contains(refused("\x89HDF\r\n\x1a\n"), "an HDF5 file, not text; name a text"));
  CHECK(contains(refused("\x28\xb5\x2f\xfd", "it's"), R"('it'\''s')"));
}

TEST_CASE("text in any encoding of bytes is neither refused nor doubted") {
  for (const std::string& text : {"It is a truth universally acknowledged\tthat\r\n"s,
                                  "\xef\xbb\xbf"s + "Stra\xc3\x9f"
                                                    "e\n"s,
                                  "Stra\xdf"
                                  "e \xe0\xe8\n"s,
                                  "BZh9 is how bzip2 begins"s, "PK"s, ""s,
                                  "\x1b[1mbold\x1b[0m\f\n"s, "PAR1, the first part"s}) {
    CAPTURE(text);
    CHECK(refused(text) == "");
    std::string much;
    for (int i = 0; i < 1000; ++i) much += text;
    CHECK(doubted(much) == "");
  }
}

TEST_CASE("NUL and other control characters are doubted, wherever in the file they are many") {
  const std::string text(1 << 20, 'a');
  CHECK(contains(doubted(text + std::string(1 << 20, '\0')), "50 % of its bytes are NUL"));
  CHECK(contains(doubted(std::string(5000, '\0')), "100 % of its bytes are NUL"));
  CHECK(contains(doubted("a\0b\0c\0"s), "50 % of its bytes are NUL"));
  CHECK(contains(doubted(random_text(100'000, 3)), "10 % of its bytes are control characters"));
  CHECK(doubted(text + std::string(3, '\0')) == "");
}
