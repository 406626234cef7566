#include "worker/data/listops/listops.hpp"

#include <algorithm>
#include <numeric>
#include <span>

#include "common/base/error.hpp"
#include "common/number/random.hpp"

namespace weir::worker {
namespace {

constexpr int kDepthMax = 10;
constexpr double kOperatorProbability = 0.25;
constexpr int kArgumentsMin = 2;
constexpr int kArgumentsMax = 10;
constexpr std::size_t kLongerThan = 500;
constexpr std::size_t kShorterThan = 2000;
static_assert(kShorterThan - 1 == ListopsDataset::kTokensMax);

enum class Operator : std::uint8_t { min, max, median, sum };
constexpr int kOperators = 4;
// Token ids, places in kListopsSymbols.
constexpr int kFirstOperator = 1;
constexpr int kFirstDigit = kFirstOperator + kOperators;
constexpr int kClose = kFirstDigit + 10;

int value_of(Operator name, std::span<int> arguments) {
  switch (name) {
    case Operator::min:
      return *std::min_element(arguments.begin(), arguments.end());
    case Operator::max:
      return *std::max_element(arguments.begin(), arguments.end());
    case Operator::median: {
      std::sort(arguments.begin(), arguments.end());
      const std::size_t count = arguments.size();
      return (arguments[(count - 1) / 2] + arguments[count / 2]) / 2;
    }
    case Operator::sum:
      return std::accumulate(arguments.begin(), arguments.end(), 0) % 10;
  }
  WEIR_UNREACHABLE();
}

/// One attempt at an expression. Node k of the text takes its draws from the block at
/// `first_draw` + k.
class Attempt {
 public:
  Attempt(std::uint64_t seed, std::uint64_t stream, std::uint64_t first_draw,
          std::vector<std::uint8_t>& tokens)
      : seed_(seed), stream_(stream), next_draw_(first_draw), tokens_(tokens) {}

  /// Appends a node at `depth` to the tokens and returns its value; gives up (any value) once the
  /// expression is too long to be kept.
  int node(int depth) {
    const auto [first, second] = random_words(seed_, stream_, next_draw_++);
    if (depth == kDepthMax || to_unit(first) > kOperatorProbability) {
      const int digit = pick(second, 10);
      append(kFirstDigit + digit);
      return digit;
    }
    const int name = pick(second, kOperators);
    const int arguments = kArgumentsMin + pick(second << 32, kArgumentsMax - kArgumentsMin + 1);
    append(kFirstOperator + name);
    std::array<int, kArgumentsMax> values;
    for (int i = 0; i < arguments; ++i) {
      if (tokens_.size() >= kShorterThan) return 0;
      values[i] = node(depth + 1);
    }
    append(kClose);
    return value_of(Operator(name), std::span(values).first(arguments));
  }

 private:
  static double to_unit(std::uint64_t word) { return static_cast<double>(word >> 11) * 0x1p-53; }
  /// A number 0 .. choices - 1 from the upper half of a word; uneven by less than 2^-28.
  static int pick(std::uint64_t word, int choices) {
    return static_cast<int>((word >> 32) * static_cast<std::uint64_t>(choices) >> 32);
  }
  void append(int token) { tokens_.push_back(static_cast<std::uint8_t>(token)); }

  std::uint64_t seed_;
  std::uint64_t stream_;
  std::uint64_t next_draw_;
  std::vector<std::uint8_t>& tokens_;
};

std::uint64_t stream_of_split(ListopsSplit split) {
  static const std::array<std::uint64_t, 3> streams = {
      stream_of("listops.train"), stream_of("listops.validation"), stream_of("listops.test")};
  return streams[static_cast<std::size_t>(split)];
}

}  // namespace

ListopsExpression make_listops(std::uint64_t seed, ListopsSplit split, index_t index) {
  WEIR_ASSERT(0 <= index && index < (index_t{1} << 32));
  ListopsExpression expression;
  // 16 bits for the nodes of an attempt, 16 for the attempts: each fails with probability 0.92.
  const std::uint64_t first_draw = static_cast<std::uint64_t>(index) << 32;
  for (std::uint64_t attempt = 0;; ++attempt) {
    ++expression.attempts;
    expression.tokens.clear();
    expression.value =
        Attempt(seed, stream_of_split(split), first_draw | attempt << 16, expression.tokens)
            .node(1);
    const std::size_t size = expression.tokens.size();
    if (kLongerThan < size && size < kShorterThan) return expression;
  }
}

DataShape listops_shape(index_t length) {
  return {length,
          {{.name = "tokens", .ragged = true, .values = std::ssize(kListopsSymbols)},
           {.name = "labels", .values = 10, .is_target = true}}};
}

ListopsDataset::ListopsDataset(index_t length, std::uint64_t seed, ListopsSplit scored)
    : length_(length), seed_(seed), scored_(scored) {
  if (length < kTokensMax) {
    throw UsageError(text("listops: samples have up to ", kTokensMax, " tokens, the length is ",
                          length, "; use a length of 2000 or 2048"));
  }
}

void ListopsDataset::fill(ListopsSplit split, index_t index, Sample& sample) const {
  const auto tokens = sample.integers("tokens");
  WEIR_ASSERT(std::ssize(tokens) == length_);
  const auto expression = make_listops(seed_, split, index);
  const auto rest = std::copy(expression.tokens.begin(), expression.tokens.end(), tokens.begin());
  std::fill(rest, tokens.end(), 0);
  sample.length = std::ssize(expression.tokens);
  sample.integers("labels")[0] = expression.value;
}

void ListopsDataset::training_sample(index_t cursor, Sample& sample) const {
  WEIR_ASSERT(cursor >= 0);
  const auto epoch = static_cast<std::uint64_t>(cursor / epoch_size());
  fill(ListopsSplit::train, permute(cursor % epoch_size(), epoch_size(), seed_, epoch), sample);
}

void ListopsDataset::validation_sample(index_t index, Sample& sample) const {
  WEIR_ASSERT(0 <= index && index < validation_size());
  fill(scored_, index, sample);
}

std::vector<Score> ListopsDataset::scores() const {
  // Both were counted on the validation samples; the second takes the best guess for each operator.
  return {{"accuracy",
           "accuracy",
           ScoreKind::share,
           {{"majority", 0.171, "by the most frequent value"},
            {"root_operator", 0.364, "by the root's operator"}}}};
}

std::string ListopsDataset::describe() const {
  return text("ListOps, seed ", seed_, ": ", epoch_size(), " training samples, ", validation_size(),
              scored_ == ListopsSplit::test ? " test" : " validation", " samples are scored");
}

}  // namespace weir::worker
