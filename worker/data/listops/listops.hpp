#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "worker/data/dataset.hpp"

namespace weir::worker {

/// The symbols in the order of their token ids. An operator opens its list of arguments, `]` closes
/// it.
constexpr std::array<std::string_view, 16> kListopsSymbols = {
    "<pad>", "[MIN", "[MAX", "[MED", "[SM", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "]"};

struct ListopsExpression {
  std::vector<std::uint8_t> tokens;  ///< ids, in the order of the text
  std::int32_t value = 0;            ///< 0 - 9
  index_t attempts = 0;              ///< expressions drawn until one had the right length
};

/// Expression `index` of a split, from (seed, split, index) alone. `[MAX 2 9 [MIN 4 7 ] 0 ]` is 9.
///
/// The root has depth 1. A node above depth 10 is an operator with probability 1/4, else a digit;
/// at depth 10 it is a digit. An operator is MIN, MAX, MED (the median; of two middle values the
/// mean, cut to an integer) or SM (the sum modulo 10), of 2 to 10 arguments, all choices uniform.
/// Kept if 500 < tokens < 2000, where digits count one and operators two (the name and `]`); else
/// the next attempt at the same index is drawn. About one attempt in twelve is kept. Source: Long
/// Range Arena, lra_benchmarks/data/listops.py; Nangia & Bowman, arXiv 1804.06028.
ListopsExpression make_listops(std::uint64_t seed, ListopsSplit split, index_t index);

/// tokens and labels: symbols, and the value of the expression.
DataShape listops_shape(index_t length);

/// ListOps with the sizes of Long Range Arena: 96,000 to train, 2,000 each to validate and to test.
/// Padded with 0. Nothing is stored: an expression takes some 20 us to make, its step much longer.
class ListopsDataset : public Dataset {
 public:
  static constexpr index_t kTokensMax = 1999;

  /// `scored` is the split behind validation_sample. Throws UsageError if length < kTokensMax.
  ListopsDataset(index_t length, std::uint64_t seed, ListopsSplit scored);

  DataShape shape() const override { return listops_shape(length_); }
  std::vector<Score> scores() const override;
  double mean_length() const override { return 1035; }  // measured; listops_test.cpp holds it
  index_t epoch_size() const override { return 96'000; }
  void training_sample(index_t cursor, Sample& sample) const override;
  index_t validation_size() const override { return 2'000; }
  void validation_sample(index_t index, Sample& sample) const override;
  std::string describe() const override;

 private:
  void fill(ListopsSplit split, index_t index, Sample& sample) const;

  index_t length_;
  std::uint64_t seed_;
  ListopsSplit scored_;
};

}  // namespace weir::worker
