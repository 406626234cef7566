#include "launch/scripts/r_lazyload.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <random>

#include "common/base/error.hpp"
#include "tests/worker/data/scratch.hpp"

using namespace weir;
using namespace weir::worker;

namespace {

// The XDR serialisation by hand, from "R Internals" 1.8: what R itself writes.
std::string integer(std::uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 0xff);
  return bytes;
}
std::string characters(const std::string& value) {
  return integer(0x40009) + integer(static_cast<std::uint32_t>(value.size())) + value;
}
std::string strings(const std::vector<std::string>& values) {
  std::string bytes = integer(16) + integer(static_cast<std::uint32_t>(values.size()));
  for (const auto& value : values) bytes += characters(value);
  return bytes;
}
const std::string kVersion3 =
    std::string("X\n") + integer(3) + integer(0x40201) + integer(0x30500) + integer(5) + "UTF-8";
const std::string kVersion2 = std::string("X\n") + integer(2) + integer(0x40201) + integer(0x20300);
const std::string kEnd = integer(254);
const std::string kTagged = integer(0x402);
const std::string kNamesSymbol = integer(1) + characters("names");
const std::string kNamesAgain = integer(0x1ff);  // a reference to the first symbol

std::string stored(const std::string& object) {
  return integer(static_cast<std::uint32_t>(object.size())) + deflated(object, 15);
}

/// Two objects, `emma` (lines) and `years` (integers), as R writes them into a package.
struct Package {
  Package() {
    const std::string emma = stored(kVersion3 + strings({"EMMA", "", "by Jane Austen"}));
    const std::string years = stored(kVersion2 + integer(13) + integer(1) + integer(1815));
    const auto place = [](std::size_t offset, std::size_t size) {
      return integer(13) + integer(2) + integer(static_cast<std::uint32_t>(offset)) +
             integer(static_cast<std::uint32_t>(size));
    };
    values = emma + years;
    index = kVersion3 + integer(0x213) + integer(3)                       //
            + integer(0x213) + integer(2)                                 //
            + place(0, emma.size()) + place(emma.size(), years.size())    //
            + kTagged + kNamesSymbol + strings({"emma", "years"}) + kEnd  // variables
            + integer(0x213) + integer(0) + kTagged + kNamesAgain + strings({}) +
            kEnd                                     // references
            + integer(10) + integer(1) + integer(1)  // compressed
            + kTagged + kNamesAgain + strings({"variables", "references", "compressed"}) + kEnd;
  }

  std::vector<std::string> read(const std::string& object) const {
    scratch.write("Rdata.rdx", gzipped(index));
    scratch.write("Rdata.rdb", values);
    return r_strings(scratch.path("Rdata"), object);
  }
  std::string error(const std::string& object) const {
    return message_of<Error>([&] { read(object); });
  }

  Scratch scratch;
  std::string index;
  std::string values;
};

}  // namespace

TEST_CASE("the lines of an R package's object are read without R") {
  CHECK(Package().read("emma") == std::vector<std::string>{"EMMA", "", "by Jane Austen"});
}

TEST_CASE("what cannot be read from an R package is said, with the file") {
  Package package;
  CHECK(contains(package.error("persuasion"), "no object persuasion; there are: emma years"));
  CHECK(contains(package.error("years"), "not a character vector"));
  package.values.resize(40);
  CHECK(contains(package.error("emma"), "Rdata.rdb"));
  package.index = "RDX3";
  CHECK(contains(package.error("emma"), "Rdata.rdx: is no R serialisation"));
  CHECK(contains(message_of<Error>([&] { r_strings(package.scratch.path("x"), "emma"); }),
                 "x.rdx: No such file"));
}

TEST_CASE("no damage to the list of objects does worse than an Error") {
  const Package package;
  package.read("emma");
  std::mt19937 random(1);
  int failed = 0;
  for (int i = 0; i < 400; ++i) {
    std::string damaged = package.index;
    const std::size_t at = random() % damaged.size();
    damaged[at] = static_cast<char>(random());
    if (i % 4 == 0) damaged.resize(at);
    package.scratch.write("Rdata.rdx", damaged);  // plain is read as well as packed
    try {
      r_strings(package.scratch.path("Rdata"), "emma");
    } catch (const Error&) {
      ++failed;
    }
  }
  CHECK(failed > 100);
}
