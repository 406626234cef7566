#include "tests/worker/kernels/kernel_test.hpp"

namespace weir::worker::test {
namespace {

TEST_CASE("maximum, sums and gradient of the softmax agree with the formulas on every shard") {
  std::mt19937_64 random(51);
  for_each_path([&]<class T>() {
    CpuKernels kernels;
    const index_t rows = 5;
    const std::vector<std::int32_t> targets{0, -1, 3, 7, 150};
    for (const index_t columns : kAwkwardSizes) {
      for (const index_t first_column : {0, 3, 140}) {
        CAPTURE(columns);
        CAPTURE(first_column);
        BlockOf<T> logits = BlockOf<T>(rows, columns, columns % 3).randomize(random, 10);
        Block maximum(1, rows);
        Exact exact_maximum(1, rows);
        kernels.row_maximum(logits.view(), maximum.span());
        reference::row_maximum(Exact(logits).view(), exact_maximum.span());
        CHECK(distance(maximum, exact_maximum) == 0);

        Block sum(1, rows);
        Block target_logit(1, rows);
        Exact exact_sum(1, rows);
        Exact exact_target(1, rows);
        kernels.softmax_sums(logits.view(), maximum.span(), targets, first_column, sum.span(),
                             target_logit.span());
        reference::softmax_sums(Exact(logits).view(), exact_maximum.span(), targets, first_column,
                                exact_sum.span(), exact_target.span());
        CHECK(distance(sum, exact_sum, *std::ranges::max_element(exact_sum.span())) < 4);
        CHECK(distance(target_logit, exact_target) == 0);

        Exact exact(logits);
        kernels.softmax_gradient(logits.view(), maximum.span(), sum.span(), targets, first_column,
                                 0.5F);
        reference::softmax_gradient(exact.view(), exact_maximum.span(), exact_sum.span(), targets,
                                    first_column, 0.5);
        CHECK(distance(logits, exact) < 2);
      }
    }
  });
}

TEST_CASE("the gradient of a target that is nearly certain is not rounded away in a low type") {
  for_each_path([]<class T>() {
    CpuKernels kernels;
    BlockOf<T> logits = BlockOf<T>(1, 20).fill(0);
    logits.set(0, 7, 12);
    const Block maximum = Block(1, 1).fill(12);
    const double sum = 1 + 19 * std::exp(-12.0);
    const Block sums = Block(1, 1).fill(static_cast<float>(sum));
    kernels.softmax_gradient(logits.view(), maximum.span(), sums.span(), std::vector{7}, 0, 1);
    const double exact = 1 / sum - 1;
    CHECK(std::abs(logits(0, 7) - exact) < kEpsilon<T> * std::abs(exact) + kEpsilon<float>);
  });
}

TEST_CASE("a padded column, its logit minus infinity, has no share and no gradient") {
  for_each_path([]<class T>() {
    CpuKernels kernels;
    BlockOf<T> logits = BlockOf<T>(1, 20).fill(1);
    logits.set(0, 19, -std::numeric_limits<float>::infinity());
    Block maximum(1, 1);
    Block sum(1, 1);
    Block target_logit(1, 1);
    const std::vector<std::int32_t> targets{2};
    kernels.row_maximum(logits.view(), maximum.span());
    kernels.softmax_sums(logits.view(), maximum.span(), targets, 0, sum.span(),
                         target_logit.span());
    kernels.softmax_gradient(logits.view(), maximum.span(), sum.span(), targets, 0, 1);
    CHECK(sum.span()[0] == 19);
    CHECK(logits(0, 19) == 0);
    CHECK(std::abs(logits(0, 2) - (1.0 / 19 - 1)) < kEpsilon<T>);
  });
}

TEST_CASE("a shard without columns has maximum minus infinity and sum 0") {
  CpuKernels kernels;
  Block logits(2, 0);
  Block maximum(1, 2);
  kernels.row_maximum(logits.view(), maximum.span());
  CHECK(maximum.span()[0] == -std::numeric_limits<float>::infinity());
  maximum.fill(3);
  Block sum(1, 2);
  Block target_logit(1, 2);
  const std::vector<std::int32_t> targets{0, 1};
  kernels.softmax_sums(logits.view(), maximum.span(), targets, 0, sum.span(), target_logit.span());
  CHECK(sum.span()[1] == 0);
}

TEST_CASE("a NaN logit at any place shows in the maximum, the sum and the gradient of its row") {
  for_each_path([]<class T>() {
    CpuKernels kernels;
    for (const index_t columns : {1, 5, 16, 33, 100}) {
      for (index_t place = 0; place < columns; ++place) {
        CAPTURE(columns);
        CAPTURE(place);
        BlockOf<T> logits(2, columns);
        for (index_t c = 0; c < 2 * columns; ++c) {
          logits.set(c / columns, c % columns, static_cast<float>(c % 7));
        }
        logits.set(1, place, kNan);
        Block maximum(1, 2);
        kernels.row_maximum(logits.view(), maximum.span());
        CHECK(!std::isnan(maximum.span()[0]));
        CHECK(std::isnan(maximum.span()[1]));
        maximum.fill(6);  // even if the maximum had missed it
        Block sum(1, 2);
        Block target_logit(1, 2);
        const std::vector<std::int32_t> targets{0, 0};
        kernels.softmax_sums(logits.view(), maximum.span(), targets, 0, sum.span(),
                             target_logit.span());
        CHECK(!std::isnan(sum.span()[0]));
        CHECK(std::isnan(sum.span()[1]));
        sum.fill(1);
        kernels.softmax_gradient(logits.view(), maximum.span(), sum.span(), targets, 0, 1);
        CHECK(std::isnan(logits(1, place)));
      }
    }
  });
}

}  // namespace
}  // namespace weir::worker::test
