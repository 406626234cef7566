#include "worker/data/score.hpp"

#include <algorithm>
#include <limits>
#include <numbers>

#include "common/base/error.hpp"
#include "worker/layers/pass.hpp"

namespace weir::worker {

double Score::of(const Loss& loss) const {
  const auto count = static_cast<double>(loss.count);
  switch (kind) {
    case ScoreKind::bits:
      return loss.sum / count / std::numbers::ln2;
    case ScoreKind::share:
      return static_cast<double>(loss.correct) / count;
  }
  WEIR_UNREACHABLE();
}

double score_of(const std::vector<Score>& scores, const std::string& name, const Loss& loss) {
  const auto found = std::ranges::find(scores, name, &Score::name);
  if (found == scores.end()) return std::numeric_limits<double>::quiet_NaN();
  return found->of(loss);
}

}  // namespace weir::worker
