#include <bit>

#include "common/base/text.hpp"
#include "tests/worker/kernels/kernel_test.hpp"

namespace weir::worker::test {
namespace {

TEST_CASE(
    "gelu, its derivative and the two at once agree with tanh's form, in any size and place") {
  std::mt19937_64 random(21);
  for_each_path([&]<class T>() {
    CpuKernels kernels;
    for (const index_t size : kAwkwardSizes) {
      for (const index_t misalignment : {0, 1, 3}) {
        CAPTURE(size);
        CAPTURE(misalignment);
        const BlockOf<T> x = BlockOf<T>(1, size, misalignment).randomize(random, 6);
        const BlockOf<T> upstream = BlockOf<T>(1, size, misalignment + 2).randomize(random);
        BlockOf<T> out(1, size, misalignment);
        Exact exact(1, size);
        kernels.gelu(x.span(), out.span());
        reference::gelu(Exact(x).span(), exact.span());
        CHECK(distance(out, exact, 6) < 2);
        BlockOf<T> gradient = upstream;
        Exact exact_gradient(upstream);
        BlockOf<T> in_backward = x;
        kernels.gelu_backward(in_backward.span(), gradient.span());
        reference::gelu_backward(Exact(x).span(), exact_gradient.span());
        CHECK(distance(gradient, exact_gradient) < 4);
        CHECK(in_backward == out);
        CHECK(in_backward.intact());
        CHECK(gradient.intact());
        BlockOf<T> in_place = x;
        kernels.gelu(in_place.span(), in_place.span());
        CHECK(in_place == out);
      }
    }
  });
}

TEST_CASE("gelu is exact to its own size over the whole range, and keeps NaN and infinity") {
  for_each_path([]<class T>() {
    CpuKernels kernels;
    const index_t steps = 40001;
    BlockOf<T> x(1, steps);
    for (index_t i = 0; i < steps; ++i) {
      x.set(0, i, -20 + 40 * static_cast<float>(i) / (steps - 1));
    }
    BlockOf<T> out(1, steps);
    Exact exact(1, steps);
    kernels.gelu(x.span(), out.span());
    reference::gelu(Exact(x).span(), exact.span());
    double largest = 0;
    for (index_t i = 0; i < steps; ++i) {
      const double allowed = std::abs(x(0, i));
      const double error = std::abs(out(0, i) - exact.view()(0, i));
      if (error > 0) largest = std::max(largest, error / allowed);
    }
    CHECK(largest < 1.5 * kEpsilon<T>);

    const float infinity = std::numeric_limits<float>::infinity();
    BlockOf<T> special(1, 5);
    const float great = kDtypeOf<T> == Dtype::fp16 ? 0x1p15F : 0x1p100F;
    for (const auto& [place, value] :
         {std::pair{0, kNan}, {1, infinity}, {2, great}, {3, -great}, {4, 0.0F}}) {
      special.set(0, place, value);
    }
    BlockOf<T> result(1, 5);
    kernels.gelu(special.span(), result.span());
    CHECK(std::isnan(result(0, 0)));
    CHECK(result(0, 1) == infinity);
    CHECK(result(0, 2) == great);
    CHECK(std::abs(result(0, 3)) < 1e-6F);
    CHECK(result(0, 4) == 0);
    BlockOf<T> gradient = BlockOf<T>(1, 5).fill(1);
    kernels.gelu_backward(special.span(), gradient.span());
    CHECK(std::isnan(gradient(0, 0)));
    CHECK(gradient(0, 1) == 1);
    CHECK(gradient(0, 2) == 1);
    CHECK(gradient(0, 3) == doctest::Approx(0).epsilon(1e-6));
    CHECK(gradient(0, 4) == 0.5F);
    CHECK(special == result);
  });
}

TEST_CASE("column sums of rows that are wider than what is summed at once") {
  std::mt19937_64 random(25);
  for_each_path([&]<class T>() {
    CpuKernels kernels;
    for (const index_t columns : {4096, 4097, 8200}) {
      CAPTURE(columns);
      const BlockOf<T> a = BlockOf<T>(66, columns).randomize(random);
      Block sums = Block(1, columns, 1).randomize(random);
      Exact exact_sums(sums);
      kernels.add_column_sums(a.view(), sums.span());
      reference::add_column_sums(Exact(a).view(), exact_sums.span());
      CHECK(distance(sums, exact_sums, 67) < 1);
      CHECK(sums.intact());
    }
  });
}

TEST_CASE("additions of vectors, biases and column sums agree with the naive sums") {
  std::mt19937_64 random(22);
  for_each_path([&]<class T>() {
    CpuKernels kernels;
    for (const index_t columns : kAwkwardSizes) {
      for (const index_t rows : {0, 1, 3, 64, 65, 200}) {
        CAPTURE(rows);
        CAPTURE(columns);
        const BlockOf<T> a = BlockOf<T>(rows, columns, columns % 3).randomize(random);
        const BlockOf<T> bias = BlockOf<T>(1, columns, 1).randomize(random);
        Block sums = Block(1, columns, 1).randomize(random);
        Exact exact_sums(sums);
        kernels.add_column_sums(a.view(), sums.span());
        reference::add_column_sums(Exact(a).view(), exact_sums.span());
        CHECK(distance(sums, exact_sums, static_cast<double>(rows + 1)) < 1);
        BlockOf<T> biased = a;
        Exact exact_biased(a);
        kernels.add_bias(bias.span(), biased.view());
        reference::add_bias(Exact(bias).span(), exact_biased.view());
        CHECK(distance(biased, exact_biased) <= 1);
        kernels.add(a.span(), biased.span());
        reference::add(Exact(a).span(), exact_biased.span());
        CHECK(distance(biased, exact_biased) <= 3);
        Block gradient = Block(rows, columns, 1).randomize(random);
        Exact exact_gradient(gradient);
        kernels.add(a.span(), gradient.span());
        reference::add(Exact(a).span(), exact_gradient.span());
        CHECK(distance(gradient, exact_gradient) <= 1);
        kernels.copy(a.span(), biased.span());
        CHECK(biased == a);
        kernels.fill(biased.span(), 3);
        CHECK(biased.count(3) == rows * columns);
        CHECK(biased.intact());
      }
    }
  });
}

/// Every number of type T, and the floats at which rounding to T changes, with their neighbours.
template <class T>
std::vector<float> rounding_cases() {
  std::vector<float> values;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = float_of(T{static_cast<std::uint16_t>(bits)});
    const float next = float_of(T{static_cast<std::uint16_t>(bits + 1)});
    const float middle = value + (next - value) / 2;
    values.insert(values.end(), {value, middle, std::nextafter(middle, value),
                                 std::nextafter(middle, next), std::nextafter(value, next)});
  }
  values.insert(values.end(), {65519.99F, -65520.0F, 3.4e38F, 1e-40F, -1e-45F, 0x1p-25F, 0x1p-24F});
  return values;
}

TEST_CASE_TEMPLATE("kernels convert to a low type and back with the same bits on every machine", T,
                   Bf16, Fp16) {
  const std::vector<float> values = rounding_cases<T>();
  std::string instructions;
  for_each_target([&] {
    instructions += text(" ", hwy::TargetName(hwy::SupportedTargets() & -hwy::SupportedTargets()));
    CpuKernels kernels;
    std::vector<T> low(values.size());
    std::vector<float> back(values.size());
    kernels.copy(values, low);
    kernels.copy(low, back);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float exact = float_of(rounded_to<T>(values[i]));
      const bool is_nan = std::isnan(values[i]) && std::isnan(float_of(low[i]));
      const bool rounded = low[i].bits == rounded_to<T>(values[i]).bits || is_nan;
      const bool read =
          std::bit_cast<std::uint32_t>(back[i]) == std::bit_cast<std::uint32_t>(exact);
      wrong += rounded && (read || (is_nan && std::isnan(back[i]))) ? 0 : 1;
    }
    CHECK(wrong == 0);
  });
  MESSAGE("kernels ran with", instructions);
}

TEST_CASE("dropout keeps what the draws of (layer, sample, token, feature) say") {
  std::mt19937_64 random(23);
  for_each_path([&]<class T>() {
    CpuKernels kernels;
    for (const index_t columns : {1, 3, 4, 5, 16, 33, 64, 130, 1100}) {
      for (const index_t first_feature : {0, 1, 6}) {
        CAPTURE(columns);
        CAPTURE(first_feature);
        const std::vector<index_t> samples{7, 1'000'000'007};
        const DropoutKey key{0.3F,
                             5,
                             99,
                             samples,
                             3,
                             10 * first_feature,
                             first_feature,
                             first_feature + columns + 2};
        BlockOf<T> values = BlockOf<T>(6, columns, 1).randomize(random);
        Exact exact(values);
        kernels.dropout(key, values.view());
        reference::dropout(key, exact.view());
        CHECK(distance(values, exact, 1.5) <= 1);
      }
    }
  });
}

TEST_CASE("dropout draws by all 64 bits of its index") {
  std::mt19937_64 random(24);
  for_each_path([&]<class T>() {
    CpuKernels kernels;
    const std::vector<index_t> samples{1};
    const DropoutKey key{0.5F, 0x123456789ABCDEF0,      0xFEDCBA9876543210, samples, 3,
                         0,    (index_t{1} << 34) - 20, index_t{1} << 35};
    BlockOf<T> values = BlockOf<T>(3, 70).randomize(random);  // token 0's counters pass 2^32
    Exact exact(values);
    kernels.dropout(key, values.view());
    reference::dropout(key, exact.view());
    CHECK(distance(values, exact, 2) <= 1);
  });
}

TEST_CASE("dropout of shards and contexts is the uncut one cut, drops its rate, differs by layer") {
  CpuKernels kernels;
  const std::vector<index_t> samples{3, 4};
  const index_t tokens = 50;
  const index_t width = 96;
  DropoutKey key{0.25F, 1, 2, samples, tokens, 0, 0, width};
  Block whole = Block(2 * tokens, width).fill(3);
  kernels.dropout(key, whole.view());
  const auto dropped = std::ranges::count(whole.span(), 0.0F);
  CHECK(dropped + std::ranges::count(whole.span(), 4.0F) == 2 * tokens * width);
  CHECK(double(dropped) / double(2 * tokens * width) == doctest::Approx(0.25).epsilon(0.05));

  key.first_feature = 32;
  Block part = Block(2 * tokens, 32).fill(3);
  kernels.dropout(key, part.view());
  for (index_t r = 0; r < 2 * tokens; ++r) {
    for (index_t c = 0; c < 32; ++c) CHECK(part.view()(r, c) == whole.view()(r, 32 + c));
  }

  key.tokens_a_sample = 20;
  key.first_token = 30;
  Block end = Block(2 * 20, 32).fill(3);
  kernels.dropout(key, end.view());
  for (index_t sample = 0; sample < 2; ++sample) {
    CHECK(std::ranges::equal(end.view().rows(sample * 20, 20).span(),
                             part.view().rows(sample * tokens + 30, 20).span()));
  }
  key.tokens_a_sample = tokens;
  key.first_token = 0;

  key.layer = 3;
  Block other = Block(2 * tokens, 32).fill(3);
  kernels.dropout(key, other.view());
  CHECK(!std::ranges::equal(other.span(), part.span()));

  key.rate = 0;
  Block kept = Block(2 * tokens, 32).fill(3);
  kernels.dropout(key, kept.view());
  CHECK(std::ranges::count(kept.span(), 3.0F) == 2 * tokens * 32);
}

}  // namespace
}  // namespace weir::worker::test
