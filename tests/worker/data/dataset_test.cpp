#include "worker/data/dataset.hpp"

#include <doctest/doctest.h>

#include "common/base/error.hpp"
#include "common/io/digest.hpp"
#include "tests/worker/data/scratch.hpp"

using namespace weir;
using namespace weir::worker;

TEST_CASE("the configuration chooses text of several files, or ListOps") {
  const Scratch scratch;
  DataConfig config;
  config.files = scratch.write("a.txt", random_text(600, 1)) + "," +
                 scratch.write("b.txt.gz", gzipped(random_text(400, 2)));
  config.held_out = 50;
  const auto text = make_dataset(config, 32, 1);
  CHECK(text->vocabulary() == 256);
  CHECK(text->classes() == 0);
  CHECK(text->sample_length() == 32);
  for (const char* part :
       {"a.txt (", "b.txt.gz (", "600 bytes", "400 bytes", "50 held out", "stride 16"}) {
    CAPTURE(part);
    CHECK(contains(text->describe(), part));
  }
  CHECK(contains(text->describe(), digest_of(random_text(400, 2))));  // unpacked
  config.kind = DataKind::listops;
  CHECK(make_dataset(config, 2'048, 1)->classes() == 10);
}

TEST_CASE("no files to train on is an error that says what to do") {
  for (const char* files : {"", ",", ",,"}) {
    DataConfig config;
    config.files = files;
    const auto message = message_of<UsageError>([&] { make_dataset(config, 32, 1); });
    CHECK(contains(message, "data.files"));
  }
}
