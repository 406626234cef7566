#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/index.hpp"

namespace weir {

/// The line with which a rank begins is this and the number of ranks. The filter takes it out.
inline constexpr std::string_view kRankBegins = "weir: a rank begins, of ";
/// The line with which a rank ends that has failed: these words, its exit code and its host, as in
/// `137 on anna`. The filter takes it out, too.
inline constexpr std::string_view kRankFailed = "weir: a rank failed with ";

struct RankFailure {
  int code = 0;  ///< 128 + n: killed by signal n
  std::string host = {};
};

/// Takes mpirun's banners on how ranks ended out of what mpirun and the ranks say on stderr, since
/// the ranks say it better themselves. Everything else stays: what mpirun says may be why a job
/// does not start. The filter also notes what these lines say about ranks and hosts.
class BannerFilter {
 public:
  /// The next bytes of stderr, cut anywhere. Returns the lines that are to be shown now.
  std::string add(std::string_view bytes);
  /// The lines that still wait: the last one without its end, and a banner that never ended.
  std::string end();

  bool any_rank_began() const { return began_count_ > 0; }
  bool all_ranks_began() const { return all_began_; }
  /// A rank has said who stands still.
  bool hang_is_named() const { return hang_is_named_; }
  /// The first rank that failed, and thereby ended the job.
  const std::optional<RankFailure>& failure() const { return failure_; }
  /// The hosts that mpirun has lost, or that ssh could not reach for it.
  const std::vector<std::string>& lost_hosts() const { return lost_hosts_; }

 private:
  std::string take(const std::string& line);

  std::string line_;   ///< without its end yet
  std::string block_;  ///< a banner since its first rule
  index_t began_count_ = 0;
  bool all_began_ = false;
  bool hang_is_named_ = false;
  std::optional<RankFailure> failure_;
  std::vector<std::string> lost_hosts_;
};

}  // namespace weir
