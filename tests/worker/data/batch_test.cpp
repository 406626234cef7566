#include "worker/data/batch.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/worker/models/harness.hpp"
#include "tests/worker/numbers.hpp"
#include "worker/models/transformer/transformer.hpp"

using namespace weir;
using namespace weir::worker;
using weir::test::BatchData;

namespace {

const char* target_of(Task task) { return task == Task::language ? "targets" : "labels"; }

/// Samples of these lengths, over and over, of random tokens; behind a sample other tokens follow
/// than those of the padding of data sets, so that who reads them is found out.
class Ragged final : public Dataset {
 public:
  Ragged(const ModelConfig& model, std::vector<index_t> lengths)
      : model_(model), data_(test::random_batch(model, std::move(lengths), 17)) {}

  DataShape shape() const override { return TransformerModel(model_).data(); }
  index_t epoch_size() const override { return std::ssize(data_.lengths); }
  void training_sample(index_t cursor, Sample& sample) const override {
    const BatchData one = this->one(cursor % epoch_size());
    std::ranges::copy(one.tokens, sample.integers("tokens").begin());
    std::ranges::copy(one.targets, sample.integers(target_of(model_.task)).begin());
    sample.length = one.lengths[0];
  }
  index_t validation_size() const override { return epoch_size(); }
  void validation_sample(index_t index, Sample& sample) const override {
    training_sample(index, sample);
  }
  std::string describe() const override { return "ragged"; }

  BatchData one(index_t sample) const { return test::part_of(data_, model_, sample, sample + 1); }
  /// Samples [begin, end) one below the other, each padded to the longest, keyed as Batch does.
  BatchData padded(index_t begin, index_t end) const {
    BatchData batch = test::part_of(data_, model_, begin, end);
    for (index_t at = begin; at < end; ++at) {
      batch.samples[at - begin] = at;
    }
    return batch;
  }

 private:
  ModelConfig model_;
  BatchData data_;
};

/// Columns of other dtypes and shapes than tokens: three numbers a position, two a sample, and one
/// in bf16 a position. Each element says which it is.
class Mixed final : public Dataset {
 public:
  DataShape shape() const override {
    return {8,
            {{.name = "features", .dtype = Dtype::f32, .ragged = true, .elements = 3},
             {.name = "row", .dtype = Dtype::f32, .elements = 2},
             {.name = "half", .dtype = Dtype::bf16, .ragged = true}}};
  }
  static float feature(index_t sample, index_t position, index_t element) {
    return static_cast<float>(sample * 100 + position * 3 + element);
  }
  index_t epoch_size() const override { return 10; }
  void training_sample(index_t cursor, Sample& sample) const override {
    sample.length = 4 + cursor;
    const auto features = as<float>(column_of(sample.columns, "features"));
    const auto row = as<float>(column_of(sample.columns, "row"));
    const auto half = as<Bf16>(column_of(sample.columns, "half"));
    REQUIRE(std::ssize(features) == 24);
    REQUIRE(std::ssize(row) == 2);
    REQUIRE(std::ssize(half) == 8);
    for (index_t position = 0; position < 8; ++position) {
      const auto at = static_cast<std::size_t>(position);
      for (index_t element = 0; element < 3; ++element) {
        features[3 * at + element] = feature(cursor, position, element);
      }
      half[at].bits = static_cast<std::uint16_t>(cursor * 100 + position);
    }
    row[0] = static_cast<float>(cursor);
    row[1] = -row[0];
  }
  index_t validation_size() const override { return 0; }
  void validation_sample(index_t, Sample&) const override {}
  std::string describe() const override { return "mixed"; }
};

/// Dropout and learned positions: what is keyed by a token's place.
ModelConfig small_model(Task task) {
  ModelConfig config = {.task = task, .layers = 2, .width = 8, .heads = 2, .feed_forward = 12};
  config.positions = Positions::learned;
  config.dropout = 0.3;
  config.left = 2;
  config.right = task == Task::language ? 0 : 2;
  config.global_tokens = "0";
  config.vocabulary = 7;
  config.classes = task == Task::language ? 0 : 3;
  config.length = 12;
  return config;
}

BatchData owned(const MicroBatch& batch, Task task) {
  const auto copy = [](auto span) { return std::vector(span.begin(), span.end()); };
  return {batch.length, copy(batch.integers("tokens")), copy(batch.integers(target_of(task))),
          copy(batch.lengths), copy(batch.samples)};
}

}  // namespace

TEST_CASE("a micro-batch is as long as its longest sample, and its rows are those of the samples") {
  for (const Task task : {Task::language, Task::classifier}) {
    const Ragged dataset(small_model(task), {3, 7, 5, 12, 1, 2});
    Batch batch(dataset, 3);
    const auto check = [&](index_t begin, index_t end, index_t length) {
      CAPTURE(begin);
      const MicroBatch view = batch.view();
      const auto targets = view.integers(target_of(task));
      REQUIRE(view.sequences == end - begin);
      REQUIRE(view.length == length);
      REQUIRE(std::ssize(view.integers("tokens")) == view.rows());
      REQUIRE(std::ssize(targets) == (task == Task::language ? view.rows() : view.sequences));
      for (index_t row = 0; row < view.sequences; ++row) {
        const BatchData one = dataset.one(begin + row);
        const auto at = static_cast<std::size_t>(row * length);
        const auto size = static_cast<std::size_t>(length);
        CHECK(std::ranges::equal(view.integers("tokens").subspan(at, size),
                                 std::span(one.tokens).first(size)));
        CHECK(view.lengths[row] == one.lengths[0]);
        CHECK(view.samples[row] == begin + row);
        if (task == Task::language) {
          CHECK(std::ranges::equal(targets.subspan(at, size), std::span(one.targets).first(size)));
        } else {
          CHECK(targets[row] == one.targets[0]);
        }
      }
    };
    batch.load_training(0);
    check(0, 3, 7);
    batch.load_training(3);
    check(3, 6, 12);  // longer than the one before
    batch.load_validation(std::vector<index_t>{4, 5});
    check(4, 6, 2);
    batch.load_validation(std::vector<index_t>{4});
    check(4, 5, 1);
  }
}

TEST_CASE("an empty sample leaves a micro-batch of one place") {
  const Ragged dataset(small_model(Task::classifier), {0});
  Batch batch(dataset, 1);
  batch.load_training(0);
  CHECK(batch.view().length == 1);
  CHECK(batch.view().lengths[0] == 0);
}

TEST_CASE(
    "contexts take the parts of one micro-batch, each token once, and long enough for a window") {
  for (const Task task : {Task::language, Task::classifier}) {
    const Ragged dataset(small_model(task), {3, 7, 5, 12, 1, 2});
    for (const index_t contexts : {1, 2, 3, 4}) {
      for (const index_t begin : {0, 3}) {
        CAPTURE(contexts);
        CAPTURE(begin);
        const index_t fewest = 3;
        const index_t longest = std::max<index_t>(begin == 0 ? 7 : 12, contexts * fewest);
        index_t next = 0;
        for (index_t context = 0; context < contexts; ++context) {
          Batch batch(dataset, 3, {context, contexts, fewest});
          batch.load_training(begin);
          const MicroBatch view = batch.view();
          const auto targets = view.integers(target_of(task));
          REQUIRE(view.sequences == 3);
          CHECK(view.first == next);
          CHECK(view.length >= fewest);
          next += view.length;
          REQUIRE(next <= longest);
          const auto here = [&](const std::vector<std::int32_t>& row) {
            return std::span(row).subspan(view.first, view.length);
          };
          for (index_t row = 0; row < 3; ++row) {
            const BatchData one = dataset.one(begin + row);
            const auto at = static_cast<std::size_t>(row * view.length);
            const auto size = static_cast<std::size_t>(view.length);
            CHECK(std::ranges::equal(view.integers("tokens").subspan(at, size), here(one.tokens)));
            CHECK(view.lengths[row] == one.lengths[0]);  // of the whole
            if (task == Task::language) {
              CHECK(std::ranges::equal(targets.subspan(at, size), here(one.targets)));
            } else {
              CHECK(targets[row] == one.targets[0]);
            }
          }
        }
        CHECK(next == longest);
      }
    }
  }
}

TEST_CASE("columns of any dtype and width are cut over contexts, those without positions are not") {
  const Mixed dataset;
  index_t next = 0;
  for (const index_t context : {0, 1}) {
    Batch batch(dataset, 2, {.context = context, .contexts = 2, .fewest_tokens = 1});
    batch.load_training(2);  // samples of 6 and of 7 positions
    const MicroBatch view = batch.view();
    CHECK(view.first == next);
    next += view.length;
    const auto features = as<float>(column_of(view.columns, "features"));
    const auto row = as<float>(column_of(view.columns, "row"));
    const auto half = as<Bf16>(column_of(view.columns, "half"));
    REQUIRE(std::ssize(features) == 2 * view.length * 3);
    REQUIRE(std::ssize(half) == 2 * view.length);
    CHECK(std::ranges::equal(row, std::vector<float>{2, -2, 3, -3}));
    for (index_t sequence = 0; sequence < 2; ++sequence) {
      for (index_t token = 0; token < view.length; ++token) {
        const index_t position = view.first + token;
        const auto at = static_cast<std::size_t>(sequence * view.length + token);
        CHECK(half[at].bits == (2 + sequence) * 100 + position);
        for (index_t element = 0; element < 3; ++element) {
          CHECK(features[3 * at + element] == Mixed::feature(2 + sequence, position, element));
        }
      }
    }
  }
  CHECK(next == 7);
}

TEST_CASE("padding that is cut away changes no loss and no gradient, dropout and places included") {
  for (const Task task : {Task::language, Task::classifier}) {
    for (const Positions positions : {Positions::learned, Positions::rotary}) {
      CAPTURE(static_cast<int>(task));
      ModelConfig model = small_model(task);
      model.positions = positions;
      const Ragged dataset(model, {3, 7, 5});
      Batch batch(dataset, 3);
      batch.load_training(0);
      REQUIRE(batch.view().length < model.length);
      const test::Arrays parameters = test::random_parameters(model, 5);
      const test::Outcome truth = test::run(model, parameters, {dataset.padded(0, 3)}, {}, 3);
      const test::Outcome found = test::run(model, parameters, {owned(batch.view(), task)}, {}, 3);
      CHECK(found.losses[0].count == truth.losses[0].count);
      CHECK(found.losses[0].correct == truth.losses[0].correct);
      CHECK(found.losses[0].sum == doctest::Approx(truth.losses[0].sum).epsilon(1e-6));
      for (const auto& [name, gradient] : truth.gradients) {
        CAPTURE(name);
        test::check_close(found.gradients.at(name), gradient, 1e-5);
      }
    }
  }
}
