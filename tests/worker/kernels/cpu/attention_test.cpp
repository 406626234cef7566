#include "worker/kernels/cpu/attention.hpp"

#include "tests/worker/kernels/attention_case.hpp"

namespace weir::worker::test {
namespace {

constexpr GlobalForm kShared = GlobalForm::shared;
constexpr GlobalForm kSeparate = GlobalForm::separate;
constexpr GlobalForm kSplit = GlobalForm::split;

/// left, right, globals, causal, form.
const std::vector<Sparsity> kForms{
    {16, 0, 4, true},
    {0, 0, 0, true},
    {1, 0, 1, true},
    {64, 0, 0, true},
    {3, 2, 4, false},
    {0, 0, 0, false},
    {0, 0, 2, false},
    {16, 16, 4, false},
    {5, 0, 20, false},
    {0, 7, 17, true},
    {500, 500, 0, false},
    {500, 0, 0, true},
    {2, 2, 1000, true},
    {2, 2, 1000, false},
    {4, 9, Globals({0, 7, 20, 33}), false},
    {9, 0, Globals({2, 5, 30}), true},
    {3, 3, Globals({1, 2, 16, 40}), false, kSeparate},
    {3, 0, Globals({0, 12}), true, kSeparate},
    {4, 2, Globals({0, 1, 2, 18}), false, kSplit},
    {6, 0, Globals({0, 5}), true, kSplit},
};

TEST_CASE("attention agrees with the twin for lengths around the tile") {
  const std::string form = has_pair_products() ? "in pairs (AVX512-BF16)" : "as floats";
  MESSAGE("tiles of bf16 are multiplied ", form);
  std::mt19937_64 random(41);
  for_each_path([&]<class T>() {
    for (const index_t tokens : {1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 47, 65}) {
      for (const Sparsity& form : kForms) {
        check_attention_case<T>({2, 8, tokens, {tokens}, form}, random);
      }
    }
  });
}

TEST_CASE("attention agrees with the twin for lengths around the block") {
  std::mt19937_64 random(50);
  for (const index_t tokens : {127, 128, 129, 143, 145, 256, 257, 300}) {
    for (const Sparsity& form : kForms) {
      check_attention_case({1, 6, tokens, {tokens, tokens - 9}, form}, random);
    }
  }
  check_attention_case({1, 4, 400, {400}, {2, 3, 140, false}}, random);  // global queries alone
  check_attention_case({1, 4, 400, {400, 130, 128, 5}, {2, 3, 128, false}}, random);
}

TEST_CASE("attention agrees with the twin where a band is too wide for one chunk") {
  std::mt19937_64 random(51);
  for (const Sparsity& form :
       {Sparsity{700, 300, Globals({3, 900, 600}), false}, Sparsity{1500, 0, 4, true},
        Sparsity{600, 600, Globals({0, 700}), false, kSplit}, Sparsity{1200, 1200, 0, false}}) {
    check_attention_case({1, 16, 1101, {1101}, form}, random);
    check_attention_case<Bf16>({1, 16, 1101, {1101}, form}, random);
  }
}

TEST_CASE("attention agrees with the twin for every size of a head") {
  std::mt19937_64 random(42);
  for_each_path([&]<class T>() {
    for (const index_t channels :
         {1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 24, 32, 33, 64, 65, 80, 96, 128}) {
      for (const Sparsity& form : {kForms[0], kForms[7], kForms[14]}) {
        check_attention_case<T>({1, channels, 35, {35}, form}, random);
      }
    }
  });
}

TEST_CASE("attention over padded samples sees no padding, and a query without keys gives 0") {
  std::mt19937_64 random(43);
  for_each_path([&]<class T>() {
    for (const Sparsity& form : kForms) {
      check_attention_case<T>({2, 8, 37, {37, 20, 1, 0, 16}, form}, random);
      check_attention_case<T>({1, 4, 90, {3, 90, 60}, form}, random);
    }
  });
}

TEST_CASE("attention agrees with the twin for forms drawn at random") {
  const std::uint64_t seed = std::random_device()();
  INFO("seed ", seed);
  std::mt19937_64 random(seed);
  for (int trial = 0; trial < 200; ++trial) {
    check_attention_case(random_case(random, trial % 10 == 0 ? 300 : 80), random);
  }
}

TEST_CASE("a sequence cut over contexts, and work cut into strips, give the same attention") {
  const std::uint64_t seed = std::random_device()();
  INFO("seed ", seed);
  std::mt19937_64 random(seed);
  const auto draw = [&](index_t most) {
    return std::uniform_int_distribution<index_t>(0, most)(random);
  };
  for (int trial = 0; trial < 200; ++trial) {
    AttentionCase c = random_case(random, trial % 10 == 0 ? 400 : 120);
    for (index_t cut = draw(3); cut > 0 && c.tokens > 1; --cut) {
      c.cuts.push_back(1 + draw(c.tokens - 2));
    }
    std::ranges::sort(c.cuts);
    c.cuts.erase(std::unique(c.cuts.begin(), c.cuts.end()), c.cuts.end());
    if (draw(1) == 0) c.strip = 1 + draw(c.tokens);
    check_attention_case(c, random);
    check_attention_case<Bf16>(c, random);
    check_attention_case<Fp16>(c, random);
  }
}

TEST_CASE("errors are at most 2 times, of gradients 3 times, those of a plain f32 computation") {
  std::mt19937_64 random(52);
  const auto check_all = [&] {
    for (const index_t channels : {16, 64, 128}) {
      for (const Sparsity& form :
           {Sparsity{16, 16, 4, false}, Sparsity{64, 0, 4, true}, Sparsity{300, 300, 0, false},
            Sparsity{20, 7, Globals({0, 50, 51, 160}), false}, Sparsity{16, 16, 161, false},
            Sparsity{30, 30, Globals({0, 130}), false, kSplit}}) {
        check_attention_case({1, channels, 161, {161, 120}, form}, random, 1, Judge::strict);
      }
    }
  };
#ifdef WEIR_SANITIZE  // every target is a matter of numbers, not of memory, and takes minutes there
  check_all();
#else
  for_each_target(check_all);
#endif
}

TEST_CASE("attention stands scores of hundreds") {
  std::mt19937_64 random(45);
  for_each_path([&]<class T>() {
    for (const Sparsity& form : kForms) check_attention_case<T>({1, 8, 40, {40}, form}, random, 20);
  });
}

TEST_CASE("attention gives the same bits in every run, for any number of threads") {
  std::mt19937_64 random(46);
  for_each_dtype([&]<class T>() {
    for (const Sparsity& form : {Sparsity{10, 5, Globals({0, 3, 70}), false}, kForms[0]}) {
      const AttentionCase c{3, 16, 300, {300, 270}, form};
      const Block qkv = Block(2 * c.tokens, 3 * 48).randomize(random);
      const Block upstream = Block(2 * c.tokens, 48).randomize(random);
      const auto run = [&](index_t threads) {
        CpuKernels kernels(threads);
        return run_kernels<T>(kernels, c, qkv, upstream);
      };
      const AttentionResult once = run(1);
      for (const index_t threads : {1, 2, 3, 4, 7}) {
        const AttentionResult again = run(threads);
        CHECK(once.out == again.out);
        CHECK(once.log_sum == again.log_sum);
        CHECK(once.gradient == again.gradient);
      }
    }
  });
}

TEST_CASE("a NaN in a query, key or value reaches the output and the gradients") {
  std::mt19937_64 random(47);
  for_each_path([&]<class T>() {
    for (const Sparsity& form : {kForms[0], kForms[7]}) {
      for (const index_t part : {0, 1, 2}) {
        CAPTURE(part);
        const AttentionCase c{1, 8, 40, {40}, form};
        Block qkv = Block(c.tokens, 3 * 8).randomize(random);
        qkv.view()(20, part * 8 + 3) = kNan;
        CpuKernels kernels;
        const AttentionResult found =
            run_kernels<T>(kernels, c, qkv, Block(c.tokens, 8).randomize(random));
        CHECK(std::isnan(found.out[20 * 8 + 3]));
        if (part < 2) CHECK(std::isnan(found.log_sum[20]));
        CHECK(std::isnan(found.gradient[20 * 24]));
        CHECK(std::isnan(found.gradient[20 * 24 + 8]));
      }
    }
  });
}

TEST_CASE("the runs of visible_keys hold exactly the keys that visible says") {
  for (const Globals& globals :
       {Globals(0), Globals(3), Globals({1, 4, 5}), Globals({0, 9}), Globals({11})}) {
    for (const bool causal : {true, false}) {
      for (const GlobalForm form : {kShared, kSeparate, kSplit}) {
        for (index_t left = 0; left < 5; ++left) {
          for (index_t right = 0; right < 4; ++right) {
            const Sparsity sparsity{left, right, globals, causal, form};
            for (index_t length = 0; length < 12; ++length) {
              for (index_t query = 0; query < 14; ++query) {
                const VisibleKeys keys = visible_keys(query, length, sparsity);
                index_t count = 0;
                for (index_t key = 0; key < 14; ++key) {
                  const bool in_band = keys.band_begin <= key && key < keys.band_end;
                  const bool global = globals.holds(key) && !globals.holds(query);
                  const bool seen =
                      form == kSplit && global ? false : in_band || (global && key < keys.last);
                  REQUIRE(seen == visible(query, key, length, sparsity));
                  count += seen ? 1 : 0;
                }
                REQUIRE(count == visible_count(query, length, sparsity));
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
  for_each_path([&]<class T>() {
    CpuKernels kernels;
    for (const index_t channels : {2, 6, 8, 16, 32, 34, 64}) {
      for (const index_t tokens : {5, 1, 9}) {
        CAPTURE(channels);
        CAPTURE(tokens);
        const index_t heads = 3;
        const BlockOf<T> before = BlockOf<T>(2 * tokens, 3 * heads * channels, 1).randomize(random);
        BlockOf<T> qkv = before;
        Exact exact(before);
        kernels.rotate(qkv.view(), heads, 0, tokens, 1);
        reference::rotate(exact.view(), heads, tokens, 1);
        CHECK(distance(qkv, exact) < 2);
        kernels.rotate(qkv.view(), heads, 0, tokens, -1);
        CHECK(distance(qkv, Exact(before)) < 4);
      }
    }
  });
}

TEST_CASE("parts of a sequence, in any order, are rotated as the whole is") {
  std::mt19937_64 random(53);
  CpuKernels kernels;
  Block qkv = Block(1100, 12).randomize(random);
  Exact exact(qkv);
  reference::rotate(exact.view(), 1, 1100, 1);
  for (const auto& [begin, end] :
       {std::pair{1000, 1005}, {1005, 1014}, {990, 1000}, {3, 4}, {1014, 1100}, {4, 990}, {0, 3}}) {
    kernels.rotate(qkv.view().rows(begin, end - begin), 1, begin, end - begin, 1);
  }
  CHECK(distance(qkv, exact) < 2);
}

TEST_CASE("single rows are rotated by positions of their own, and rows without one stay") {
  std::mt19937_64 random(54);
  CpuKernels kernels;
  const Block before = Block(5, 12).randomize(random);
  const std::vector<index_t> positions{7, -1, 0, 3, 3};
  Block rows = before;
  kernels.rotate_rows(rows.view(), 2, positions, 1);
  Exact exact(before);
  for (index_t row = 0; row < 5; ++row) {
    const index_t position = positions[row];
    if (position < 0) continue;
    Block sequence(position + 1, 12);  // this row at the end of a sequence
    std::copy_n(before.view()[row].data(), 12, sequence.view()[position].data());
    Exact turned(sequence);
    reference::rotate(turned.view(), 2, position + 1, 1);
    std::copy_n(turned.view()[position].data(), 12, exact.view()[row].data());
  }
  CHECK(distance(rows, exact) < 2);
}

TEST_CASE("a few tokens at a position of 10^9 take no table of all before them") {
  CpuKernels kernels;
  constexpr index_t kFirst = 1'000'000'000;
  Block qkv = Block(2, 3 * 4).fill(1);
  kernels.rotate(qkv.view(), 1, kFirst, 2, 1);
  for (index_t row = 0; row < 2; ++row) {
    for (index_t c = 0; c < 2; ++c) {
      const double angle = double(kFirst + row) * std::pow(10000.0, -double(c) / 2);
      CHECK(std::abs(qkv.view()(row, c) - (std::cos(angle) - std::sin(angle))) < 1e-6);
      CHECK(std::abs(qkv.view()(row, c + 2) - (std::cos(angle) + std::sin(angle))) < 1e-6);
    }
  }
}

TEST_CASE("rotation is as exact at position 100,000 as at the start") {
  std::mt19937_64 random(49);
  CpuKernels kernels;
  const index_t tokens = 100'001;
  Block qkv = Block(tokens, 12).randomize(random);
  Exact exact(qkv);
  kernels.rotate(qkv.view(), 1, 0, tokens, 1);
  reference::rotate(exact.view(), 1, tokens, 1);
  CHECK(distance(qkv, exact) < 2);
}

}  // namespace
}  // namespace weir::worker::test
