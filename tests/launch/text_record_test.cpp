#include "launch/text_record.hpp"

#include <doctest/doctest.h>

#include <fstream>

#include "tests/temporary_folder.hpp"

namespace weir::test::text_record_test {
namespace {

const std::string kText(1000, 'a');
const std::string kEnd(100, 'z');

/// Texts as files of a folder, in windows of 8 bytes.
struct Texts {
  worker::TextDataset read(const std::vector<std::string>& parts, index_t held_out = 100,
                           const std::string& name = "book") {
    std::vector<std::string> paths;
    for (const std::string& part : parts) {
      paths.push_back((folder / (name + std::to_string(paths.size()))).string());
      std::ofstream(paths.back()) << part;
    }
    return {worker::Corpus(paths), 8, held_out, 0, 1};
  }
  test::TemporaryFolder folder;
};

TEST_CASE("the record of a text reads back from a checkpoint's settings; a part of one is none") {
  Texts texts;
  const TextRecord record = record_of(texts.read({kText + kEnd}));
  CHECK(record.files == "book0");
  CHECK(record.training_bytes == 1000);
  CHECK(record.held_out_bytes == 100);
  const auto settings = as_settings(record);
  const auto again = record_in(settings);
  REQUIRE(again);
  CHECK(*again == record);
  for (const char* const name :
       {"text.training-bytes", "text.training-crc", "text.held-out-bytes", "text.held-out-crc"}) {
    CAPTURE(name);
    for (const char* const value : {"", "-1", "12xy", "99999999999999999999"}) {
      auto damaged = settings;
      damaged[name] = value;
      CHECK_FALSE(record_in(damaged));
    }
    auto part = settings;
    part.erase(name);
    CHECK_FALSE(record_in(part));
  }
}

TEST_CASE("the same bytes are the same text, under other names and cut into other files") {
  Texts texts;
  const TextRecord before = record_of(texts.read({kText + kEnd}));
  CHECK_FALSE(change_of(before, texts.read({kText, kEnd}, 100, "part")));
}

TEST_CASE("a text that grew trains on what it held out") {
  Texts texts;
  const TextRecord before = record_of(texts.read({kText + kEnd}));
  const auto change = change_of(before, texts.read({kText + kEnd, kText}));
  REQUIRE(change);
  CHECK(change->leaked_from == 1000);
  CHECK(change->leaked_to == 1100);
  CHECK(change->seen_bytes == 0);
  // It grew by so little that only some of what was held out is trained on.
  const auto little = change_of(before, texts.read({kText + kEnd + "y"}));
  REQUIRE(little);
  CHECK(little->leaked_from == 1000);
  CHECK(little->leaked_to == 1001);
}

TEST_CASE("a cut at another place is a change: fewer held out leak, more were seen") {
  Texts texts;
  const TextRecord before = record_of(texts.read({kText + kEnd}));
  const auto fewer = change_of(before, texts.read({kText + kEnd}, 40));
  REQUIRE(fewer);
  CHECK(fewer->leaked_from == 1000);
  CHECK(fewer->leaked_to == 1060);
  CHECK(fewer->seen_bytes == 0);
  const TextRecord small = record_of(texts.read({kText + kEnd}, 40));
  const auto more = change_of(small, texts.read({kText + kEnd}, 100));
  REQUIRE(more);
  CHECK_FALSE(more->leaks());
  CHECK(more->seen_bytes == 60);
}

TEST_CASE("another text, and a shorter one, are named; nothing is claimed of their bytes") {
  Texts texts;
  const TextRecord before = record_of(texts.read({kText + kEnd}));
  for (const std::string& text :
       {std::string(1100, 'b'), std::string(500, 'a'), kEnd + kText, std::string(2000, 'a')}) {
    const auto change = change_of(before, texts.read({text}, 100, "other"));
    REQUIRE(change);
    CHECK_FALSE(change->leaks());
    CHECK(change->seen_bytes == 0);
    CHECK(change->words.find("it was book0 (1,000 bytes to train on, CRC ") != std::string::npos);
    CHECK(change->words.find("it is other0 (") != std::string::npos);
  }
}

TEST_CASE(
    "a text of its own for validation is known too, and where its bytes come in for training") {
  Texts texts;
  const auto with_validation = [&](const std::string& training, const std::string& validation) {
    const std::string path = (texts.folder / "validation").string();
    std::ofstream(path) << validation;
    texts.read({training});
    return worker::TextDataset(worker::Corpus({(texts.folder / "book0").string()}), 8, 100, 0, 1,
                               worker::Corpus({path}));
  };
  const TextRecord before = record_of(with_validation(kText, kEnd));
  CHECK(before.training_bytes == 1000);
  CHECK(before.held_out_bytes == 100);
  CHECK(before.validation_files == "validation");
  CHECK_FALSE(change_of(before, with_validation(kText, kEnd)));
  CHECK_FALSE(change_of(before, texts.read({kText, kEnd})));  // the same bytes on either side

  const auto scored = change_of(before, with_validation(kText, std::string(100, 'y')));
  REQUIRE(scored);
  CHECK_FALSE(scored->leaks());
  CHECK(scored->words.find("100 held out in validation, CRC") != std::string::npos);
  const auto joined = change_of(before, with_validation(kText + kEnd, "another text"));
  REQUIRE(joined);
  CHECK(joined->leaked_from == 1000);
  CHECK(joined->leaked_to == 1100);
  const auto cut = change_of(before, texts.read({kText}));
  REQUIRE(cut);
  CHECK(cut->seen_bytes == 100);
}

}  // namespace

}  // namespace weir::test::text_record_test
