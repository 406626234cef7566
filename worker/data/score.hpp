#pragma once

#include <string>
#include <vector>

namespace weir::worker {

struct Loss;

/// What a score makes of a loss.
enum class ScoreKind {
  bits,   ///< the mean loss in bits instead of nats
  share,  ///< the share of loss terms that the model answers right
};

/// What can be reached without a model.
struct Baseline {
  std::string name;  ///< for programs: "majority"
  double value = 0;
  std::string how;  ///< for people: "by the most frequent value"
};

/// A figure for comparing models of a data set.
struct Score {
  std::string name;   ///< for programs: "bits_per_byte"
  std::string title;  ///< for people: "bits per byte"
  ScoreKind kind = ScoreKind::bits;
  std::vector<Baseline> baselines;

  double of(const Loss& loss) const;
};

/// The score of this name; not a number if the data set has none.
double score_of(const std::vector<Score>& scores, const std::string& name, const Loss& loss);

}  // namespace weir::worker
