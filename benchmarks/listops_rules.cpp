#include "benchmarks/listops_rules.hpp"

#include <algorithm>
#include <numeric>
#include <optional>
#include <vector>

namespace weir::benchmark {
namespace {

using worker::kListopsSymbols;
using worker::ListopsExpression;
using worker::ListopsSplit;

// Operators, digits and the closing bracket as they stand in kListopsSymbols.
constexpr std::size_t kFirstOperator = 1;
constexpr std::size_t kFirstDigit = 5;
constexpr std::size_t kClose = 15;

/// 0 … 3: [MIN, [MAX, [MED, [SM.
std::size_t root_of(const ListopsExpression& expression) {
  return expression.tokens.front() - kFirstOperator;
}

std::vector<int> own_digits(const ListopsExpression& expression) {
  std::vector<int> digits;
  int depth = 0;
  for (const std::size_t token : expression.tokens) {
    if (token == kClose) {
      --depth;
    } else if (token < kFirstDigit) {
      ++depth;
    } else if (depth == 1) {
      digits.push_back(static_cast<int>(token - kFirstDigit));
    }
  }
  return digits;
}

/// Nothing if the root has no digits of its own.
std::optional<int> value_of_own_digits(const ListopsExpression& expression) {
  std::vector<int> digits = own_digits(expression);
  if (digits.empty()) return std::nullopt;
  std::ranges::sort(digits);
  const std::string_view name = kListopsSymbols[expression.tokens.front()];
  if (name == "[MIN") return digits.front();
  if (name == "[MAX") return digits.back();
  if (name == "[SM") return std::accumulate(digits.begin(), digits.end(), 0) % 10;
  return (digits[(digits.size() - 1) / 2] + digits[digits.size() / 2]) / 2;
}

int most_frequent(const std::array<index_t, 10>& counts) {
  return static_cast<int>(std::ranges::max_element(counts) - counts.begin());
}

}  // namespace

bool own_digits_suffice(const ListopsExpression& expression) {
  return value_of_own_digits(expression) == expression.value;
}

ListopsRules::ListopsRules(index_t seed, index_t samples)
    : seed_(static_cast<std::uint64_t>(seed)) {
  for (index_t index = 0; index < samples; ++index) {
    const ListopsExpression expression = make_listops(seed_, ListopsSplit::train, index);
    const auto value = static_cast<std::size_t>(expression.value);
    ++answers_[value];
    ++answers_of_root_[root_of(expression)][value];
  }
}

RuleAccuracies ListopsRules::accuracies(index_t samples) const {
  RuleAccuracies right;
  const double share = 100 / static_cast<double>(samples);
  for (index_t index = 0; index < samples; ++index) {
    const ListopsExpression expression = make_listops(seed_, ListopsSplit::test, index);
    const int by_root = most_frequent(answers_of_root_[root_of(expression)]);
    const int by_digits = value_of_own_digits(expression).value_or(by_root);
    right.majority += most_frequent(answers_) == expression.value ? share : 0;
    right.root_operator += by_root == expression.value ? share : 0;
    right.own_digits += by_digits == expression.value ? share : 0;
  }
  return right;
}

}  // namespace weir::benchmark
