#include "common/io/manifest.hpp"

#include <doctest/doctest.h>

#include <random>
#include <span>
#include <string>

#include "common/base/error.hpp"
#include "common/io/digest.hpp"

using namespace weir;

namespace {

Manifest small_manifest() {
  Manifest manifest;
  manifest.step = 12;
  manifest.cursor = 384;
  manifest.file_bytes = 9000;
  manifest.settings = {{"model.layers", "2"}};
  manifest.integers = {{"skipped", -1}};
  manifest.numbers = {{"clip.threshold", 0.75}};
  manifest.records = {{"/model/a", {3, 4}, 4096}, {"/model/b", {}, 8192}};
  manifest.digests = {{0, 0, 5, 0xabc}, {0, 5, 12, 1}, {1, 0, 1, 2}};
  return manifest;
}

/// `lines` with the right CRC at the end.
std::string signed_text(const std::string& lines) {
  return lines + "crc32c " + hexadecimal(crc32c(std::as_bytes(std::span(lines)))) + "\n";
}

/// The text of small_manifest with `from` replaced by `to`, and the right CRC again.
std::string changed(const std::string& from, const std::string& to) {
  std::string lines = manifest_text(small_manifest());
  lines.resize(lines.rfind("crc32c "));
  const auto at = lines.find(from);
  REQUIRE(at != std::string::npos);
  return signed_text(lines.replace(at, from.size(), to));
}

std::string message_of(const std::string& bytes) {
  try {
    parse_manifest(bytes, "M");
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("a manifest is text for people, ends with its CRC and reads back") {
  const std::string bytes = manifest_text(small_manifest());
  CHECK(bytes ==
        signed_text("weir checkpoint 1\nstep 12\ncursor 384\nfile_bytes 9000\n"
                    "setting model.layers 2\ninteger skipped -1\n"
                    "number clip.threshold 3fe8000000000000 0.75\n"
                    "record /model/a 4096 3 4\nrecord /model/b 8192\n"
                    "digest 0 0 5 00000abc\ndigest 0 5 12 00000001\ndigest 1 0 1 00000002\n"));
  CHECK(manifest_text(parse_manifest(bytes, "M")) == bytes);
}

TEST_CASE("damaged, cut and foreign manifests are refused") {
  const std::string bytes = manifest_text(small_manifest());
  CHECK(message_of("") == "M: not a manifest of weir");
  CHECK(message_of("\x89HDF") == "M: not a manifest of weir");
  CHECK(message_of("weir checkpoint 2\n") ==
        "M: the format `weir checkpoint 2` is not known; this version of weir reads `weir "
        "checkpoint 1`");
  CHECK(message_of("weir checkpoint 1\n") == "M: truncated");
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    CHECK(message_of(bytes.substr(0, size)) != "accepted");
  }
  CHECK(message_of(bytes + "\n") == "M: truncated: the last line is not its CRC");
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (const int bit : {0, 3, 5, 7}) {
      std::string flipped = bytes;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      CHECK_MESSAGE(message_of(flipped) != "accepted", "byte ", i, " bit ", bit);
    }
  }
  std::string damaged = bytes;
  damaged[30] = '9';
  CHECK(message_of(damaged) == "M: damaged: its CRC is wrong");
}

TEST_CASE("lines that weir does not write are refused although the CRC is right") {
  const std::string refused = "M: it has lines that weir does not write";
  CHECK(message_of(changed("step 12", "step 12 ")) == refused);
  CHECK(message_of(changed("step 12", "step 012")) == refused);
  CHECK(message_of(changed("step 12", "step twelve")) == refused);
  CHECK(message_of(changed("step 12", "step 99999999999999999999")) == refused);
  CHECK(message_of(changed("step 12\n", "")) == refused);
  CHECK(message_of(changed("step 12\n", "step 12\nstep 12\n")) == refused);
  CHECK(message_of(changed("step 12\n", "step 12\nsurprise\n")) == refused);
  CHECK(message_of(changed("skipped -1", "skipped 1.5")) == refused);
  CHECK(message_of(changed("3fe8000000000000", "3fe800000000000g")) == refused);
  CHECK(message_of(changed("00000abc", "abc")) == refused);
  CHECK(message_of(changed("step 12", "step -12")) == "M: step or cursor are below zero");
}

TEST_CASE("steps and samples that no training counts to are refused by name") {
  CHECK(message_of(changed("step 12", "step 9223372036854775807")) ==
        "M: step 9223372036854775807 is more than the 9007199254740992 that weir counts to");
  CHECK(message_of(changed("cursor ", "cursor 922337203685477")).starts_with("M: cursor 922337"));
  CHECK(message_of(changed("step 12", "step 9007199254740992")) == "accepted");
}

TEST_CASE("records and digests that contradict each other are refused although the CRC is right") {
  CHECK(message_of(changed("/model/b", "/model/a")) ==
        "M: the record name /model/a is not possible or repeats");
  CHECK(message_of(changed("/model/b", "model/b")) ==
        "M: the record name model/b is not possible or repeats");
  CHECK(message_of(changed("/model/b 8192", "/model/b 4100")) == "M: records overlap");
  CHECK(message_of(changed("/model/b 8192", "/model/b 8997")) == "M: /model/b leaves the file");
  CHECK(message_of(changed("/model/b 8192", "/model/b -4")) == "M: /model/b leaves the file");
  CHECK(message_of(changed("3 4\n", "3 4611686018427387904\n")) ==
        "M: a shape with the extent 4611686018427387904 is not possible");
  CHECK(message_of(changed("3 4\n", "3 0\n")) == "M: a shape with the extent 0 is not possible");
  CHECK(message_of(changed("3 4\n", "3 5\n")) ==
        "M: there is no digest of /model/a from element 12 on");
  CHECK(message_of(changed("digest 0 5", "digest 0 4")) ==
        "M: there is no digest of /model/a from element 5 on");
  CHECK(message_of(changed("5 12", "5 5")) ==
        "M: there is no digest of /model/a from element 5 on");
  CHECK(message_of(changed("digest 1 0 1 00000002\n", "")) ==
        "M: there is no digest of /model/b from element 0 on");
  CHECK(message_of(changed("00000002\n", "00000002\ndigest 2 0 1 00000000\n")) ==
        "M: there are digests of nothing");
  CHECK(message_of(changed("setting model.layers", "setting ")) ==
        "M: the name `` is empty or has blanks");
}

TEST_CASE("a digest over more elements than may be read at once is refused") {
  Manifest manifest;
  manifest.file_bytes = 8 << 20;
  manifest.records = {{"/model/a", {kDigestElements + 1}, 0}};
  manifest.digests = {{0, 0, kDigestElements + 1, 0}};
  CHECK(message_of(manifest_text(manifest)) ==
        "M: there is no digest of /model/a from element 0 on");
}

TEST_CASE("whatever a manifest says, it is accepted as written or ends in an Error") {
  constexpr unsigned kSeed = 77;
  CAPTURE(kSeed);
  std::mt19937 random(kSeed);
  std::string lines = manifest_text(small_manifest());
  lines.resize(lines.rfind("crc32c "));
  const std::string letters = "0123456789 -\n/abdegirst";
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string mutated = lines;
    for (int change = 0; change < 2; ++change) {
      mutated.replace(18 + random() % (mutated.size() - 18), random() % 3, 1,
                      letters[random() % letters.size()]);
    }
    if (message_of(signed_text(mutated)) == "accepted") ++accepted;
  }
  CHECK(accepted > 100);  // a digit of a setting or a digest for another
  CHECK(accepted < 10000);
}
