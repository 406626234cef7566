#include "launch/supervise/banner_filter.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <span>

#include "launch/run/hang.hpp"

namespace weir {
namespace {

constexpr std::array<std::string_view, 4> kBannerLines = {
    "mpirun: Forwarding signal ", "mpirun: killing job", "help-mpi-api.txt / mpi-abort",
    "Set MCA parameter \"orte_base_help_aggregate\" to 0"};
constexpr std::array<std::string_view, 3> kBannerBlocks = {
    "Primary job  terminated normally, but ", "MPI_ABORT was invoked on rank ",
    "detected that one or more processes exited with non-zero status"};

bool holds_any(std::string_view text, std::span<const std::string_view> parts) {
  return std::ranges::any_of(parts, [&](std::string_view part) {
    // mpirun begins a line of its own with its name; a rank may quote one.
    return part.starts_with("mpirun: ") ? text.starts_with(part)
                                        : text.find(part) != std::string_view::npos;
  });
}

/// The line of dashes above and below a banner.
bool is_rule(std::string_view line) {
  constexpr std::size_t kDashesMin = 70;
  return line.size() >= kDashesMin && line.find_first_not_of('-') == std::string_view::npos;
}

/// The word of a line after the last of these words.
std::string word_after(std::string_view line, std::string_view words) {
  const std::size_t found = line.rfind(words);
  if (found == std::string_view::npos) return {};
  line.remove_prefix(found + words.size());
  return std::string(line.substr(0, line.find_first_of(" \t\r:")));
}

/// The host that mpirun or ssh could not reach, if that is what the line says.
std::string lost_host_in(const std::string& line) {
  if (line.find("Remote daemon: ") != std::string::npos) return word_after(line, " on node ");
  for (const std::string_view words :
       {"ssh: connect to host ", "ssh: Could not resolve hostname "}) {
    if (line.find(words) != std::string::npos) return word_after(line, words);
  }
  return {};
}

}  // namespace

std::string BannerFilter::add(std::string_view bytes) {
  std::string shown;
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    line_ += bytes.substr(0, end);
    if (end == std::string_view::npos) break;
    bytes.remove_prefix(end + 1);
    shown += take(line_);
    line_.clear();
  }
  return shown;
}

std::string BannerFilter::end() {
  std::string shown = line_.empty() ? "" : take(line_);
  shown += block_;
  line_.clear();
  block_.clear();
  return shown;
}

std::string BannerFilter::take(const std::string& line) {
  if (line.find(kRankBegins) != std::string::npos) {
    const std::string ranks = line.substr(line.rfind(' ') + 1);
    all_began_ = all_began_ || ++began_count_ == std::atoll(ranks.c_str());
    return {};
  }
  if (line.find(kRankFailed) != std::string::npos) {
    if (!failure_) {
      failure_ = {std::atoi(word_after(line, kRankFailed).c_str()), word_after(line, " on ")};
    }
    return {};
  }
  if (const std::string host = lost_host_in(line);
      !host.empty() && std::ranges::find(lost_hosts_, host) == lost_hosts_.end()) {
    lost_hosts_.push_back(host);
  }
  hang_is_named_ = hang_is_named_ || line.find(kJobStandsStill) != std::string::npos;
  if (holds_any(line, kBannerLines)) return {};
  if (is_rule(line)) {
    if (block_.empty()) {  // a banner begins
      block_ = line + '\n';
      return {};
    }
    const std::string block = block_ + line + '\n';
    block_.clear();
    return holds_any(block, kBannerBlocks) ? "" : block;
  }
  if (block_.empty()) return line + '\n';
  block_ += line + '\n';
  return {};
}

}  // namespace weir
