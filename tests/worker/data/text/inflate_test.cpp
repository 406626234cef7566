#include "worker/data/text/inflate.hpp"

#include <doctest/doctest.h>

#include "common/base/error.hpp"
#include "tests/worker/data/scratch.hpp"

using namespace weir;
using namespace weir::worker;

static std::string inflated(const std::string& packed, index_t bytes_max) {
  const auto bytes = inflate({reinterpret_cast<const std::uint8_t*>(packed.data()), packed.size()},
                             bytes_max, "f");
  return {bytes.begin(), bytes.end()};
}

TEST_CASE(
    "gzip and zlib streams come out as they went in, up to the bytes allowed and no further") {
  for (const std::size_t size : {0, 1, 65'535, 65'536, 65'537, 300'000}) {
    CAPTURE(size);
    const std::string plain = random_text(size, 3);
    const auto exact = static_cast<index_t>(size);
    CHECK(inflated(deflated(plain, 31), exact) == plain);
    CHECK(inflated(deflated(plain, 15), exact) == plain);
    if (size > 0) CHECK_THROWS_AS(inflated(deflated(plain, 31), exact - 1), Error);
  }
}

TEST_CASE("zeros after the last member are padding, as gzip takes them; other bytes are not") {
  const std::string plain = random_text(3'000, 4);
  for (const std::size_t zeros : {1, 17, 70'000}) {
    CHECK(inflated(gzipped(plain) + std::string(zeros, '\0'), 3'000) == plain);
  }
  const std::string followed = gzipped(plain) + std::string(5, '\0') + "x";
  CHECK(contains(message_of<Error>([&] { inflated(followed, 3'000); }), "6 bytes follow"));
}

TEST_CASE("a small file that unpacks to gigabytes is stopped at the limit") {
  const std::string bomb = gzipped(std::string(50'000'000, 'a'));
  REQUIRE(bomb.size() < 60'000);
  CHECK(contains(message_of<Error>([&] { inflated(bomb, 1'000'000); }), "more than 1000000 bytes"));
}
