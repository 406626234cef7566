// The twins' gradients against central differences of the twins' values.
#include <functional>

#include "tests/worker/kernels/kernel_test.hpp"

namespace weir::worker::test {
namespace {

/// The largest difference between `gradient` and the central differences of `value` by each element
/// of `input`, relative to the largest gradient.
double error_of(reference::ConstVector gradient, reference::Vector input,
                const std::function<double()>& value) {
  REQUIRE(gradient.size() == input.size());
  constexpr double kStep = 1e-5;
  double largest_error = 0;
  double largest = 1e-3;
  for (std::size_t i = 0; i < input.size(); ++i) {
    const double at = input[i];
    input[i] = at + kStep;
    const double above = value();
    input[i] = at - kStep;
    const double below = value();
    input[i] = at;
    largest_error = std::max(largest_error, std::abs((above - below) / (2 * kStep) - gradient[i]));
    largest = std::max(largest, std::abs(gradient[i]));
  }
  return largest_error / largest;
}

double inner_product(const Exact& a, const Exact& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.span().size(); ++i) sum += a.span()[i] * b.span()[i];
  return sum;
}

Exact random_exact(index_t rows, index_t columns, std::mt19937_64& random) {
  return Block(rows, columns).randomize(random);
}

TEST_CASE("twin: the gradients of a linear layer are its difference quotients") {
  std::mt19937_64 random(71);
  Exact x = random_exact(4, 3, random);
  Exact weight = random_exact(5, 3, random);
  Exact bias = random_exact(1, 5, random);
  const Exact upstream = random_exact(4, 5, random);
  const auto value = [&] {
    Exact out(4, 5);
    reference::multiply_transposed(x.view(), weight.view(), bias.span(), out.view());
    return inner_product(out, upstream);
  };
  Exact x_gradient(4, 3);
  reference::multiply(upstream.view(), weight.view(), false, x_gradient.view());
  CHECK(error_of(x_gradient.span(), x.span(), value) < 1e-8);
  Exact weight_gradient(5, 3);
  reference::add_transposed_product(upstream.view(), x.view(), weight_gradient.view());
  CHECK(error_of(weight_gradient.span(), weight.span(), value) < 1e-8);
  Exact bias_gradient(1, 5);
  reference::add_column_sums(upstream.view(), bias_gradient.span());
  CHECK(error_of(bias_gradient.span(), bias.span(), value) < 1e-8);
}

TEST_CASE("twin: the gradient of gelu is its difference quotient") {
  std::mt19937_64 random(72);
  Exact x = random_exact(1, 50, random);
  for (double& v : x.span()) v *= 4;
  const Exact upstream = random_exact(1, 50, random);
  const auto value = [&] {
    Exact out(1, 50);
    reference::gelu(x.span(), out.span());
    return inner_product(out, upstream);
  };
  Exact gradient = upstream;
  reference::gelu_backward(x.span(), gradient.span());
  CHECK(error_of(gradient.span(), x.span(), value) < 1e-8);
}

TEST_CASE("twin: the gradients of layer norm are its difference quotients") {
  std::mt19937_64 random(73);
  Exact x = random_exact(3, 7, random);
  Exact weight = random_exact(1, 7, random);
  Exact bias = random_exact(1, 7, random);
  const Exact upstream = random_exact(3, 7, random);
  Exact out(3, 7);
  Exact mean(1, 3);
  Exact inverse(1, 3);
  const auto value = [&] {
    reference::layer_norm(x.view(), weight.span(), bias.span(), out.view(), mean.span(),
                          inverse.span());
    return inner_product(out, upstream);
  };
  value();
  Exact x_gradient(3, 7);
  Exact weight_gradient(1, 7);
  Exact bias_gradient(1, 7);
  reference::layer_norm_backward(x.view(), weight.span(), mean.span(), inverse.span(),
                                 upstream.view(), x_gradient.view(), weight_gradient.span(),
                                 bias_gradient.span());
  CHECK(error_of(x_gradient.span(), x.span(), value) < 1e-7);
  CHECK(error_of(weight_gradient.span(), weight.span(), value) < 1e-7);
  CHECK(error_of(bias_gradient.span(), bias.span(), value) < 1e-7);
}

TEST_CASE("twin: the gradient of attention is its difference quotient, in both forms") {
  std::mt19937_64 random(74);
  const index_t tokens = 9;
  const std::vector<index_t> lengths{9, 5, 0};
  for (const Sparsity& form : {Sparsity{2, 0, 1, true}, Sparsity{1, 2, 2, false},
                               Sparsity{0, 0, 0, true}, Sparsity{20, 20, 0, false}}) {
    Exact qkv = random_exact(3 * tokens, 3 * 2 * 3, random);
    const Exact upstream = random_exact(3 * tokens, 2 * 3, random);
    const auto value = [&] {
      Exact out(3 * tokens, 2 * 3);
      Exact log_sum(1, 3 * 2 * tokens);
      reference::attention(qkv.view(), 2, lengths, form, out.view(), log_sum.span());
      return inner_product(out, upstream);
    };
    Exact gradient(3 * tokens, 3 * 2 * 3);
    reference::attention_backward(qkv.view(), 2, lengths, form, upstream.view(), gradient.view());
    CHECK(error_of(gradient.span(), qkv.span(), value) < 1e-8);
  }
}

TEST_CASE("twin: rotating a gradient back is the derivative of rotating") {
  std::mt19937_64 random(75);
  Exact qkv = random_exact(6, 3 * 2 * 4, random);
  const Exact upstream = random_exact(6, 3 * 2 * 4, random);
  const auto value = [&] {
    Exact turned = qkv;
    reference::rotate(turned.view(), 2, 3, 1);
    return inner_product(turned, upstream);
  };
  Exact gradient = upstream;
  reference::rotate(gradient.view(), 2, 3, -1);
  CHECK(error_of(gradient.span(), qkv.span(), value) < 1e-8);
}

TEST_CASE("twin: the gradient of the cross-entropy is its difference quotient") {
  std::mt19937_64 random(76);
  Exact logits = random_exact(4, 6, random);
  const std::vector<std::int32_t> targets{2, -1, 12, 7};
  const index_t first_column = 2;  // targets 2 and 7 are here, 12 is on another shard
  Exact maximum(1, 4);
  Exact sum(1, 4);
  Exact target_logit(1, 4);
  const auto value = [&] {
    reference::row_maximum(logits.view(), maximum.span());
    reference::softmax_sums(logits.view(), maximum.span(), targets, first_column, sum.span(),
                            target_logit.span());
    double loss = 0;
    for (std::size_t r = 0; r < targets.size(); ++r) {
      if (targets[r] < 0) continue;
      loss += maximum.span()[r] + std::log(sum.span()[r]) - target_logit.span()[r];
    }
    return 0.5 * loss;
  };
  value();
  Exact gradient = logits;
  reference::softmax_gradient(gradient.view(), maximum.span(), sum.span(), targets, first_column,
                              0.5);
  CHECK(error_of(gradient.span(), logits.span(), value) < 1e-8);
}

TEST_CASE("twin: the gradients of gathering and pooling are their difference quotients") {
  std::mt19937_64 random(77);
  Exact table = random_exact(5, 3, random);
  const std::vector<std::int32_t> tokens{4, 2, 4, 0, 9, 3};
  const std::vector<index_t> lengths{3, 2};
  const Exact upstream = random_exact(2, 3, random);
  const auto value = [&] {
    Exact x(6, 3);
    Exact out(2, 3);
    reference::gather(tokens, table.view(), 1, x.view());
    reference::mean_pool(x.view(), lengths, 1, out.view());
    return inner_product(out, upstream);
  };
  Exact x_gradient(6, 3);
  Exact gradient(5, 3);
  reference::mean_pool_backward(upstream.view(), lengths, 1, x_gradient.view());
  reference::scatter_add(tokens, x_gradient.view(), 1, gradient.view());
  CHECK(error_of(gradient.span(), table.span(), value) < 1e-8);
}

}  // namespace
}  // namespace weir::worker::test
