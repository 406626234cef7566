#include "common/base/text.hpp"
#include "tests/worker/kernels/kernel_test.hpp"

namespace weir::worker::test {
namespace {

struct Case {
  index_t heads;
  index_t channels;
  index_t tokens;
  std::vector<index_t> lengths;
  Sparsity sparsity;
};

std::string describe(const Case& c) {
  std::string words = text("heads ", c.heads, " channels ", c.channels, " tokens ", c.tokens,
                           " left ", c.sparsity.left, " right ", c.sparsity.right, " globals ",
                           c.sparsity.globals, c.sparsity.causal ? " causal" : "", " lengths");
  for (const index_t length : c.lengths) words += text(" ", length);
  return words;
}

/// Forward and backward against the twin.
void check_case(const Case& c, std::mt19937_64& random, float spread = 2) {
  INFO(describe(c));
  const index_t batch = std::ssize(c.lengths);
  const index_t width = c.heads * c.channels;
  Block qkv = Block(batch * c.tokens, 3 * width, 1).randomize(random);
  for (float& value : qkv.span()) value *= spread;
  // What lies in the padding's keys and values is read by nobody.
  for (index_t b = 0; b < batch; ++b) {
    for (index_t i = c.lengths[static_cast<std::size_t>(b)]; i < c.tokens; ++i) {
      std::ranges::fill(
          qkv.view()[b * c.tokens + i].span().subspan(static_cast<std::size_t>(width)), kNan);
    }
  }
  const Block upstream = Block(batch * c.tokens, width, 2).randomize(random);
  Block out(batch * c.tokens, width, 3);
  Block log_sum(1, batch * c.heads * c.tokens);
  Block gradient(batch * c.tokens, 3 * width, 2);
  CpuKernels kernels;
  const auto run = [&](const Block& input, const Block& output_gradient) {
    kernels.attention(input.view(), c.heads, c.lengths, c.sparsity, out.view(), log_sum.span());
    kernels.attention_backward(input.view(), c.heads, c.lengths, c.sparsity, out.view(),
                               log_sum.span(), output_gradient.view(), gradient.view());
  };
  // First NaNs everywhere: what a call leaves in the scratch memory must not matter to the next.
  run(Block(batch * c.tokens, 3 * width), Block(batch * c.tokens, width));
  run(qkv, upstream);

  Exact exact_out(batch * c.tokens, width);
  Exact exact_log_sum(1, batch * c.heads * c.tokens);
  Exact exact_gradient(batch * c.tokens, 3 * width);
  reference::attention(Exact(qkv).view(), c.heads, c.lengths, c.sparsity, exact_out.view(),
                       exact_log_sum.span());
  reference::attention_backward(Exact(qkv).view(), c.heads, c.lengths, c.sparsity,
                                Exact(upstream).view(), exact_gradient.view());
  // A score is a sum of C products of up to spread^2, so it and the logarithm are off by about
  // spread^2 epsilons, and the weights by as much of themselves.
  const double magnitude =
      double{spread} * spread * std::sqrt(static_cast<double>(c.channels)) * spread;
  CHECK(distance(out, exact_out, magnitude) < 2);
  CHECK(distance(log_sum, exact_log_sum, magnitude + std::log(c.tokens)) < 2);
  const double keys = static_cast<double>(c.tokens);  // a key's gradient is a sum over queries
  CHECK(distance(gradient, exact_gradient, magnitude * spread * std::sqrt(keys)) < 2);
}

const std::vector<Sparsity> kForms{{16, 0, 4, true},   {0, 0, 0, true},      {1, 0, 1, true},
                                   {64, 0, 0, true},   {3, 2, 4, false},     {0, 0, 0, false},
                                   {0, 0, 2, false},   {16, 16, 4, false},   {5, 0, 20, false},
                                   {0, 7, 17, true},   {500, 500, 0, false}, {500, 0, 0, true},
                                   {2, 2, 1000, true}, {2, 2, 1000, false}};

TEST_CASE("attention agrees with the twin for lengths around the tile") {
  std::mt19937_64 random(41);
  for_each_target([&] {
    for (const index_t tokens : {1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 47, 65}) {
      for (const Sparsity& form : kForms) check_case({2, 8, tokens, {tokens}, form}, random);
    }
  });
}

TEST_CASE("attention agrees with the twin for lengths around the strip") {
  std::mt19937_64 random(50);
  for (const index_t tokens : {127, 128, 129, 143, 144, 145, 256, 257, 300}) {
    for (const Sparsity& form : kForms)
      check_case({1, 6, tokens, {tokens, tokens - 9}, form}, random);
  }
  check_case({1, 4, 400, {400}, {2, 3, 140, false}}, random);  // a strip of global queries alone
  check_case({1, 4, 400, {400, 130, 128, 5}, {2, 3, 128, false}}, random);
}

TEST_CASE("attention agrees with the twin for every size of a head") {
  std::mt19937_64 random(42);
  for_each_target([&] {
    for (const index_t channels : {1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 24, 32, 33, 64, 65, 80}) {
      for (const Sparsity& form : {kForms[0], kForms[7]}) {
        check_case({1, channels, 35, {35}, form}, random);
      }
    }
  });
}

TEST_CASE("attention over padded samples sees no padding, and a query without keys gives 0") {
  std::mt19937_64 random(43);
  for_each_target([&] {
    for (const Sparsity& form : kForms) {
      check_case({2, 8, 37, {37, 20, 1, 0, 16}, form}, random);
      check_case({1, 4, 90, {3, 90, 60}, form}, random);
    }
  });
}

TEST_CASE("attention agrees with the twin for forms drawn at random") {
  std::mt19937_64 random(44);
  const auto draw = [&](index_t most) {
    return std::uniform_int_distribution<index_t>(0, most)(random);
  };
  for (int trial = 0; trial < 150; ++trial) {
    Case c;
    c.heads = 1 + draw(3);
    c.channels = 1 + draw(20);
    c.tokens = 1 + draw(trial % 10 == 0 ? 300 : 80);
    for (index_t b = 0; b <= draw(2); ++b) c.lengths.push_back(draw(c.tokens));
    c.sparsity = {draw(40), draw(40), draw(2) == 0 ? 0 : draw(12), draw(1) == 0};
    check_case(c, random);
  }
}

TEST_CASE("attention stands scores of hundreds") {
  std::mt19937_64 random(45);
  for_each_target([&] {
    for (const Sparsity& form : kForms) check_case({1, 8, 40, {40}, form}, random, 20);
  });
}

TEST_CASE("attention gives the same bits twice") {
  std::mt19937_64 random(46);
  const index_t tokens = 100;
  const std::vector<index_t> lengths{tokens, 70};
  const Block qkv = Block(2 * tokens, 3 * 48).randomize(random);
  const Block upstream = Block(2 * tokens, 48).randomize(random);
  const auto run = [&](index_t misalignment) {
    CpuKernels kernels;
    Block out(2 * tokens, 48, misalignment);
    Block log_sum(1, 2 * 3 * tokens, misalignment);
    Block gradient(2 * tokens, 3 * 48, misalignment);
    const Sparsity form{10, 5, 3, false};
    kernels.attention(qkv.view(), 3, lengths, form, out.view(), log_sum.span());
    kernels.attention_backward(qkv.view(), 3, lengths, form, out.view(), log_sum.span(),
                               upstream.view(), gradient.view());
    return std::vector<float>(gradient.span().begin(), gradient.span().end());
  };
  CHECK(run(0) == run(3));
}

TEST_CASE("a NaN in a query, key or value reaches the output and the gradients") {
  std::mt19937_64 random(47);
  for_each_target([&] {
    for (const Sparsity& form : {kForms[0], kForms[7]}) {
      for (const index_t part : {0, 1, 2}) {
        CAPTURE(part);
        const index_t tokens = 40;
        const std::vector<index_t> lengths{tokens};
        Block qkv = Block(tokens, 3 * 8).randomize(random);
        qkv.view()(20, part * 8 + 3) = kNan;
        const Block upstream = Block(tokens, 8).randomize(random);
        CpuKernels kernels;
        Block out(tokens, 8);
        Block log_sum(1, tokens);
        Block gradient(tokens, 3 * 8);
        kernels.attention(qkv.view(), 1, lengths, form, out.view(), log_sum.span());
        CHECK(std::isnan(out.view()(20, 3)));
        if (part < 2) CHECK(std::isnan(log_sum.span()[20]));
        kernels.attention_backward(qkv.view(), 1, lengths, form, out.view(), log_sum.span(),
                                   upstream.view(), gradient.view());
        CHECK(std::isnan(gradient.view()(20, 0)));
        CHECK(std::isnan(gradient.view()(20, 8)));
      }
    }
  });
}

TEST_CASE("the runs of visible_keys hold exactly the keys that visible says") {
  for (const bool causal : {true, false}) {
    for (index_t left = 0; left < 5; ++left) {
      for (index_t right = 0; right < 4; ++right) {
        for (index_t globals = 0; globals < 5; ++globals) {
          const Sparsity form{left, right, globals, causal};
          for (index_t length = 0; length < 12; ++length) {
            for (index_t query = 0; query < 14; ++query) {
              const VisibleKeys keys = visible_keys(query, length, form);
              CHECK(keys.global_end <= keys.band_begin);
              for (index_t key = 0; key < 14; ++key) {
                const bool in_a_run =
                    key < keys.global_end || (keys.band_begin <= key && key < keys.band_end);
                REQUIRE(in_a_run == visible(query, key, length, form));
              }
            }
          }
        }
      }
    }
  }
}

TEST_CASE("rotation agrees with the formula, and direction -1 undoes it") {
  std::mt19937_64 random(48);
  for_each_target([&] {
    CpuKernels kernels;
    for (const index_t channels : {2, 6, 8, 16, 32, 34, 64}) {
      for (const index_t tokens : {5, 1, 9}) {
        CAPTURE(channels);
        CAPTURE(tokens);
        const index_t heads = 3;
        const Block before = Block(2 * tokens, 3 * heads * channels, 1).randomize(random);
        Block qkv = before;
        Exact exact(before);
        kernels.rotate(qkv.view(), heads, tokens, 1);
        reference::rotate(exact.view(), heads, tokens, 1);
        CHECK(distance(qkv, exact) < 2);
        kernels.rotate(qkv.view(), heads, tokens, -1);
        CHECK(distance(qkv, Exact(before)) < 4);
      }
    }
  });
}

TEST_CASE("rotation is as exact at position 100,000 as at the start") {
  std::mt19937_64 random(49);
  CpuKernels kernels;
  const index_t tokens = 100'001;
  Block qkv = Block(tokens, 12).randomize(random);
  Exact exact(qkv);
  kernels.rotate(qkv.view(), 1, tokens, 1);
  reference::rotate(exact.view(), 1, tokens, 1);
  CHECK(distance(qkv, exact) < 2);
}

}  // namespace
}  // namespace weir::worker::test
