#include <algorithm>
#include <array>

#include "tests/worker/kernels/kernel_test.hpp"

namespace weir::worker::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST_CASE("folding, unfolding and their weights' gradient agree with the formulas") {
  std::mt19937_64 random(81);
  for_each_path([&]<class T>() {
    CpuKernels kernels;
    for (const index_t width : {1, 3, 7, 16, 33, 100}) {
      for (const index_t heads : {1, 2, 5}) {
        for (const index_t channels : {1, 4, 9}) {
          for (const index_t rows : {1, 3}) {
            CAPTURE(width);
            CAPTURE(heads);
            CAPTURE(channels);
            CAPTURE(rows);
            const BlockOf<T> a = BlockOf<T>(rows, heads * channels, 1).randomize(random);
            const BlockOf<T> weights = BlockOf<T>(heads * channels, width, 2).randomize(random);
            const float scale = 0.5F;
            BlockOf<T> folded(rows * heads, width, 3);
            Exact exact_folded(rows * heads, width);
            kernels.fold(a.view(), weights.view(), heads, scale, folded.view());
            reference::fold(Exact(a).view(), Exact(weights).view(), heads, scale,
                            exact_folded.view());
            CHECK(distance(folded, exact_folded) < 4);

            BlockOf<T> out(rows, heads * channels, 1);
            Exact exact_out(rows, heads * channels);
            kernels.unfold(folded.view(), weights.view(), heads, scale, out.view());
            reference::unfold(Exact(folded).view(), Exact(weights).view(), heads, scale,
                              exact_out.view());
            CHECK(distance(out, exact_out, 10) < 4);

            Block gradient = Block(heads * channels, width, 1).randomize(random);
            Exact exact_gradient(gradient);
            kernels.add_fold_gradient(a.view(), folded.view(), heads, scale, gradient.view());
            reference::add_fold_gradient(Exact(a).view(), Exact(folded).view(), heads, scale,
                                         exact_gradient.view());
            CHECK(distance(gradient, exact_gradient, 2) < 4);

            // A sum over runs of tokens stays in f32.
            const Block sums = Block(rows * heads, width, 1).randomize(random);
            kernels.unfold(sums.view(), weights.view(), heads, scale, out.view());
            reference::unfold(Exact(sums).view(), Exact(weights).view(), heads, scale,
                              exact_out.view());
            CHECK(distance(out, exact_out, 10) < 4);
            kernels.add_fold_gradient(a.view(), sums.view(), heads, scale, gradient.view());
            reference::add_fold_gradient(Exact(a).view(), Exact(sums).view(), heads, scale,
                                         exact_gradient.view());
            CHECK(distance(gradient, exact_gradient, 2) < 8);
          }
        }
      }
    }
  });
}

/// A softmax run by run, and the weighted sums: two groups of two rows, the second of which sees
/// less.
TEST_CASE("a softmax in runs of any length is the softmax in one, and agrees with the formulas") {
  std::mt19937_64 random(82);
  for_each_path([&]<class T>() {
    CpuKernels kernels;
    const index_t rows = 4;
    const index_t width = 5;
    for (const index_t columns : kAwkwardSizes) {
      for (const index_t first : {0, 3}) {
        for (const index_t limit : {index_t{0}, first + 1, first + columns / 2, index_t{1000}}) {
          CAPTURE(columns);
          CAPTURE(first);
          CAPTURE(limit);
          const std::vector<index_t> limits{first + columns, limit};
          BlockOf<T> scores = BlockOf<T>(rows, columns, columns % 3).randomize(random, 8);
          Block maximum = Block(1, rows).fill(-kInfinity);
          Block sum = Block(1, rows, 1).fill(0);
          Block weighted = Block(rows, width, 2).fill(0);
          // Two of the rows have seen something: one less than what comes, one more.
          for (const auto& [row, before] : {std::pair{1, -20.0F}, std::pair{2, 20.0F}}) {
            maximum.view()(0, row) = before;
            sum.view()(0, row) = 2;
            for (float& value : weighted.view()[row].span()) value = 3;
          }
          Exact exact_scores(scores);
          Exact exact_maximum(maximum);
          Exact exact_sum(sum);
          Exact exact_weighted(weighted);
          kernels.continue_softmax(limits, first, scores.view(), maximum.span(), sum.span(),
                                   weighted.view());
          reference::continue_softmax(limits, first, exact_scores.view(), exact_maximum.span(),
                                      exact_sum.span(), exact_weighted.view());
          CHECK(distance(maximum, exact_maximum) == 0);
          CHECK(distance(scores, exact_scores) < 4);
          CHECK(distance(sum, exact_sum, kCoarseness<T> * (4 + double(columns))) < 4);
          CHECK(distance(weighted, exact_weighted, 3) < 4);
        }
      }
    }
  });
}

TEST_CASE("joined parts of a softmax agree with the formula, in any number and with empty ones") {
  std::mt19937_64 random(83);
  for_each_path([&]<class T>() {
    CpuKernels kernels;
    const index_t rows = 3;
    for (const index_t width : kAwkwardSizes) {
      for (const index_t count : {1, 2, 5}) {
        CAPTURE(width);
        CAPTURE(count);
        const index_t part = rows * (width + 2);
        Block parts = Block(1, count * part, width % 3).randomize(random);
        for (index_t p = 0; p < count; ++p) {
          for (index_t r = 0; r < rows; ++r) {
            float& maximum = parts.view()(0, p * part + r);
            float& sum = parts.view()(0, p * part + rows + r);
            maximum *= 10;
            sum = std::abs(sum) + 1;
            // Row 0 is seen by no part, row 1 by the odd ones alone, if there are any.
            if (r == 0 || (r == 1 && p % 2 == 0)) {
              maximum = -kInfinity;
              sum = 0;
              std::ranges::fill(parts.span().subspan(p * part + 2 * rows + r * width, width), 0.0F);
            }
          }
        }
        Block log_sum(1, rows);
        BlockOf<T> mean(rows, width, 1);
        Exact exact_log_sum(1, rows);
        Exact exact_mean(rows, width);
        kernels.join_softmax(parts.span(), count, log_sum.span(), mean.view());
        reference::join_softmax(Exact(parts).span(), count, exact_log_sum.span(),
                                exact_mean.view());
        CHECK(distance(log_sum, exact_log_sum, 10) < 4);
        CHECK(distance(mean, exact_mean) < 8);
        CHECK(log_sum.span()[0] == -kInfinity);
        for (index_t c = 0; c < width; ++c) CHECK(mean(0, c) == 0);
      }
    }
  });
}

TEST_CASE("slopes of a softmax agree with the formula; what a row does not see has none") {
  std::mt19937_64 random(84);
  for_each_path([&]<class T>() {
    CpuKernels kernels;
    const index_t rows = 4;
    for (const index_t columns : kAwkwardSizes) {
      for (const index_t limit : {index_t{0}, 2 + columns / 2, index_t{1000}}) {
        CAPTURE(columns);
        CAPTURE(limit);
        const std::vector<index_t> limits{limit, columns + 1};
        BlockOf<T> scores = BlockOf<T>(rows, columns, columns % 3).randomize(random);
        BlockOf<T> gradients = BlockOf<T>(rows, columns, 1).randomize(random);
        Block log_sum = Block(1, rows).randomize(random);
        if (limit == 0) log_sum.span()[0] = -kInfinity;
        const Block mean = Block(1, rows, 2).randomize(random);
        Exact exact_scores(scores);
        Exact exact_gradients(gradients);
        kernels.softmax_slopes(limits, 2, log_sum.span(), mean.span(), scores.view(),
                               gradients.view());
        reference::softmax_slopes(limits, 2, Exact(log_sum).span(), Exact(mean).span(),
                                  exact_scores.view(), exact_gradients.view());
        CHECK(distance(scores, exact_scores, 16) < 4);
        CHECK(distance(gradients, exact_gradients, 8) < 4);
      }
    }
  });
}

TEST_CASE("products of rows and scaled rows agree with the formulas") {
  std::mt19937_64 random(85);
  for_each_path([&]<class T>() {
    CpuKernels kernels;
    const index_t rows = 3;
    for (const index_t columns : kAwkwardSizes) {
      CAPTURE(columns);
      BlockOf<T> a = BlockOf<T>(rows, columns, columns % 3).randomize(random);
      const BlockOf<T> b = BlockOf<T>(rows, columns, 1).randomize(random);
      Block products(1, rows);
      Exact exact_products(1, rows);
      kernels.row_products(a.view(), b.view(), products.span());
      reference::row_products(Exact(a).view(), Exact(b).view(), exact_products.span());
      CHECK(distance(products, exact_products, std::sqrt(double(columns))) < 8);

      BlockOf<T> factors(1, rows);
      for (index_t r = 0; r < rows; ++r)
        factors.set(0, r, std::array{0.0F, 1.0F, -0.3F}[std::size_t(r)]);
      Exact exact(a);
      kernels.scale_rows(factors.span(), a.view());
      reference::scale_rows(Exact(factors).span(), exact.view());
      CHECK(distance(a, exact) < 1);
    }
  });
}

TEST_CASE(
    "a NaN score that a row sees makes the row NaN, and one that it does not see is nothing") {
  for_each_path([]<class T>() {
    CpuKernels kernels;
    for (const index_t columns : {2, 5, 17, 40}) {
      for (index_t place = 0; place < columns; ++place) {
        CAPTURE(columns);
        CAPTURE(place);
        const std::vector<index_t> limits{columns, place};
        BlockOf<T> scores = BlockOf<T>(2, columns).fill(1);
        scores.set(0, place, kNan);
        scores.set(1, place, kNan);
        Block maximum = Block(1, 2).fill(-kInfinity);
        Block sum = Block(1, 2).fill(0);
        Block weighted = Block(2, 3).fill(0);
        kernels.continue_softmax(limits, 0, scores.view(), maximum.span(), sum.span(),
                                 weighted.view());
        CHECK(std::isnan(maximum.span()[0]));
        CHECK(std::isnan(sum.span()[0]));
        CHECK(sum.span()[1] == static_cast<float>(place));
        CHECK(scores(1, place) == 0);

        BlockOf<T> slopes = BlockOf<T>(2, columns).fill(1);
        BlockOf<T> gradients = BlockOf<T>(2, columns).fill(1);
        gradients.set(0, place, kNan);
        gradients.set(1, place, kNan);
        const Block log_sum = Block(1, 2).fill(1);
        const Block mean = Block(1, 2).fill(1);
        kernels.softmax_slopes(limits, 0, log_sum.span(), mean.span(), slopes.view(),
                               gradients.view());
        CHECK(std::isnan(slopes(0, place)));
        CHECK(slopes(1, place) == 0);
      }
    }
  });
}

}  // namespace
}  // namespace weir::worker::test
