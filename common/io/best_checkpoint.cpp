#include "common/io/best_checkpoint.hpp"

#include <cmath>
#include <iomanip>
#include <limits>
#include <sstream>
#include <string>

#include "common/base/error.hpp"

namespace weir {
namespace {

constexpr const char* kName = "BEST";
constexpr index_t kBestBytesMax = 200;

}  // namespace

std::optional<BestCheckpoint> read_best(const fs::path& checkpoints) {
  std::string contents;
  try {
    contents = read_whole(checkpoints / kName, kBestBytesMax);
  } catch (const FileError& error) {
    if (error.is_missing()) return std::nullopt;
    throw;
  }
  std::istringstream words(contents);
  std::string step, loss;
  BestCheckpoint best;
  words >> step >> best.step >> loss >> best.loss;
  if (!words || step != "step" || loss != "loss" || best.step < 0 || !std::isfinite(best.loss)) {
    return std::nullopt;
  }
  return best;
}

void write_best(const fs::path& checkpoints, const BestCheckpoint& best, FileSystem& files) {
  std::ostringstream contents;
  contents << "step " << best.step << "\nloss "
           << std::setprecision(std::numeric_limits<double>::max_digits10) << best.loss << '\n';
  replace_file(checkpoints / kName, contents.str(), files);
}

}  // namespace weir
