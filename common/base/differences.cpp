#include "common/base/differences.hpp"

#include <algorithm>

#include "common/base/text.hpp"

namespace weir {

std::string Differences::to_text() const {
  constexpr std::size_t kShown = 20;
  std::string all;
  for (std::size_t i = 0; i < std::min(kShown, lines_.size()); ++i) all += "\n  " + lines_[i];
  if (lines_.size() > kShown) all += text("\n  and ", lines_.size() - kShown, " more");
  return all;
}

std::string shape_text(const List<index_t>& shape) {
  std::string all;
  for (index_t extent : shape) all += text(all.empty() ? "" : " x ", extent);
  return all.empty() ? "one number" : all;
}

}  // namespace weir
