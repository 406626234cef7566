#include "worker/data/dataset.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "common/base/error.hpp"
#include "common/io/digest.hpp"
#include "tests/worker/data/scratch.hpp"
#include "worker/layers/pass.hpp"

using namespace weir;
using namespace weir::worker;

TEST_CASE("the configuration chooses text of several files, or ListOps") {
  const Scratch scratch;
  DataConfig config;
  config.files = scratch.write("a.txt", random_text(600, 1)) + "," +
                 scratch.write("b.txt.gz", gzipped(random_text(400, 2)));
  config.held_out = 50;
  const auto text = make_dataset(config, 32, 1);
  CHECK(text->shape().length == 32);
  CHECK(text->shape().find("tokens")->values == 256);
  CHECK(text->shape().find("targets")->ragged);
  CHECK(text->shape().find("labels") == nullptr);
  for (const char* part :
       {"a.txt (", "b.txt.gz (", "600 bytes", "400 bytes", "50 held out", "stride 16"}) {
    CAPTURE(part);
    CHECK(contains(text->describe(), part));
  }
  CHECK(contains(text->describe(), digest_of(random_text(400, 2))));  // unpacked
  config.kind = DataKind::listops;
  const auto listops = make_dataset(config, 2'048, 1);
  CHECK(listops->shape().find("labels")->values == 10);
  CHECK_FALSE(listops->shape().find("labels")->ragged);
  CHECK(listops->shape().find("targets") == nullptr);
}

TEST_CASE("each data set says by which score its models are compared") {
  const Loss loss = {.sum = 40, .count = 20, .correct = 5};
  const Scratch scratch;
  DataConfig config;
  config.files = scratch.write("a.txt", random_text(600, 1));
  const auto bits = make_dataset(config, 32, 1)->scores();
  CHECK(score_of(bits, "bits_per_byte", loss) == doctest::Approx(2.885390));
  CHECK(std::isnan(score_of(bits, "accuracy", loss)));
  config.kind = DataKind::listops;
  const auto share = make_dataset(config, 2'048, 1)->scores();
  CHECK(score_of(share, "accuracy", loss) == 0.25);
  CHECK(share.front().baselines.front().value == 0.171);
}

TEST_CASE("a text to validate on leaves all of the other to training") {
  const Scratch scratch;
  DataConfig config;
  config.files = scratch.write("a.txt", random_text(600, 1));
  config.validation = scratch.write("b.txt", std::string(400, '\0'));
  const auto text = make_dataset(config, 32, 1);
  CHECK(text->epoch_size() == 599 / 32 - 1);
  CHECK(text->validation_size() == 1 + (399 - 32 + 15) / 16);
  for (const char* part : {"a.txt (600 bytes", "validation: b.txt (400 bytes", "stride 16"}) {
    CAPTURE(part);
    CHECK(contains(text->describe(), part));
  }
  REQUIRE(text->warnings().size() == 2);  // 600 random bytes are no text either
  CHECK(contains(text->warnings()[1], "b.txt: 100 % of its bytes are NUL"));
}

TEST_CASE("no files to train on is an error that says what to do") {
  for (const char* files : {"", ",", ",,"}) {
    DataConfig config;
    config.files = files;
    const auto message = message_of<UsageError>([&] { make_dataset(config, 32, 1); });
    CHECK(contains(message, "data.files"));
  }
}
