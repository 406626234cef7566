#include "launch/run/hang.hpp"

#include <algorithm>
#include <map>
#include <optional>

#include "common/base/activity.hpp"

namespace weir {
namespace {

using Ranks = std::vector<index_t>;

/// What the rank lacks. A server of its own counts where the rank waits for that.
const LiveNeed& need_of(const LiveRecord& record) {
  const bool is_about_server =
      !record.server_need.what.empty() &&
      (record.is_server() || record.need.peer == kNobody || record.need.peer == record.rank);
  return is_about_server && !record.need.what.empty() ? record.server_need : record.need;
}

const LiveRecord* find(const std::vector<LiveRecord>& records, index_t rank) {
  const auto found = std::ranges::find(records, rank, &LiveRecord::rank);
  return found == records.end() ? nullptr : &*found;
}

/// A worker and the server on its rank wait for different things.
struct Half {
  index_t rank = 0;
  bool is_server = false;
  auto operator<=>(const Half&) const = default;
};
using Halves = std::vector<Half>;

/// The server on the rank of a worker that computes does not move.
const LiveNeed& need_of(const LiveRecord& record, const Half& half) {
  return half.is_server && !record.need.what.empty() ? record.server_need : record.need;
}

/// The half that this one waits for, if it is one and another.
std::optional<Half> next_of(const LiveRecord& record, const Half& half) {
  const LiveNeed& need = need_of(record, half);
  if (need.what.empty()) return std::nullopt;
  if (need.peer >= 0) return Half{need.peer, need.of_server};
  const bool has_server = !record.server_need.what.empty();
  if (!half.is_server && has_server && need.peer == kNobody) return Half{record.rank, true};
  return std::nullopt;
}

/// Where the chain from a rank leads to: its last half, or the halves of a circle.
Halves end_of_chain(const std::vector<LiveRecord>& reports, index_t rank) {
  Halves path;
  Half half = {rank};
  while (true) {
    const LiveRecord* const report = find(reports, half.rank);
    if (report->is_server()) half.is_server = true;
    const auto again = std::ranges::find(path, half);
    if (again != path.end()) {
      Halves circle(again, path.end());
      std::ranges::sort(circle);
      return circle;
    }
    path.push_back(half);
    const std::optional<Half> next = next_of(*report, half);
    if (!next || find(reports, next->rank) == nullptr) return {half};
    half = *next;
  }
}

/// `rank 3, server 1, on anna`, or only the rank if nothing is known of it.
std::string name_of(const LiveRecord* record, index_t rank) {
  if (record == nullptr) return text("rank ", rank);
  if (record->ranks == 1) return text("the process on ", record->host);
  return text("rank ", rank, ", ", record->role, ", on ", record->host);
}

template <class Thing>
std::string list_of(const std::vector<Thing>& things) {
  std::string list;
  for (std::size_t at = 0; at < things.size(); ++at) {
    list += text(at == 0 ? "" : at + 1 == things.size() ? " and " : ", ", things[at]);
  }
  return list;
}

std::string seconds_text(double seconds) { return text(static_cast<index_t>(seconds + 0.5), " s"); }

std::string state_text(const LiveRecord& record, const std::string& doing) {
  return text(record.phase, ", step ", record.step, ", ", doing);
}

std::string doing_text(const LiveRecord& record, const LiveNeed& need) {
  if (need.what.empty()) return record.file_work.empty() ? "computes" : record.file_work;
  const std::string peer = need.peer >= 0 ? text("rank ", need.peer) : "";
  const std::string bucket = need.bucket >= 0 ? text("bucket ", need.bucket) : "";
  const std::string both = text(peer, !peer.empty() && !bucket.empty() ? ", " : "", bucket);
  return text("waits for ", need.what, both.empty() ? "" : text(" (", both, ")"),
              record.file_work.empty() ? "" : text(", in ", record.file_work));
}

/// The hosts of some ranks, as far as they are known; each once, in the order of the ranks.
std::vector<std::string> hosts_of(const Ranks& ranks, const std::vector<LiveRecord>& records) {
  std::vector<std::string> hosts;
  for (const index_t rank : ranks) {
    const LiveRecord* const record = find(records, rank);
    if (record != nullptr && std::ranges::find(hosts, record->host) == hosts.end()) {
      hosts.push_back(record->host);
    }
  }
  return hosts;
}

/// The sentence for ranks that did not report.
std::string about_silent(const Ranks& silent, const std::vector<LiveRecord>& last_seen) {
  if (silent.size() > 1) {
    const std::vector<std::string> hosts = hosts_of(silent, last_seen);
    return text("ranks ", list_of(silent), hosts.empty() ? "" : text(", on ", list_of(hosts), ","),
                " have written no record: they were stopped, or their hosts are cut off");
  }
  const LiveRecord* const seen = find(last_seen, silent.front());
  std::string words = text("all wait for ", name_of(seen, silent.front()), ", which ");
  if (seen == nullptr) return words + "has never written a record";
  return words + text("has written no record for ", seconds_text(seen->age_s),
                      ": it was stopped, or its host is cut off; its last one says: ",
                      state_text(*seen, doing_text(*seen)));
}

/// There is at least one report.
Ranks silent_ranks(const std::vector<LiveRecord>& reports) {
  Ranks silent;
  for (index_t rank = 0; rank < reports.front().ranks; ++rank) {
    if (find(reports, rank) == nullptr) silent.push_back(rank);
  }
  return silent;
}

std::string about_circle(const Halves& circle, const std::vector<LiveRecord>& reports) {
  Ranks ranks;
  for (const Half& half : circle) {
    if (ranks.empty() || ranks.back() != half.rank) ranks.push_back(half.rank);
  }
  std::string words = text(ranks.size() > 1 ? "ranks " : "rank ", list_of(ranks),
                           ranks.size() > 1 ? " wait for each other: " : " waits for itself: ");
  for (std::size_t at = 0; at < circle.size(); ++at) {
    const LiveRecord& report = *find(reports, circle[at].rank);
    words += text(at == 0 ? "" : "; ", "rank ", circle[at].rank, " ",
                  doing_text(report, need_of(report, circle[at])));
  }
  const std::vector<std::string> hosts = hosts_of(ranks, reports);
  if (hosts.size() > 1) {
    words += text("; they are on ", list_of(hosts), ": is a link between these hosts cut?");
  }
  return words;
}

}  // namespace

std::string doing_text(const LiveRecord& record) { return doing_text(record, need_of(record)); }

std::string describe_hang(const std::vector<LiveRecord>& reports,
                          const std::vector<LiveRecord>& last_seen) {
  if (reports.empty()) return {};
  const Ranks silent = silent_ranks(reports);
  if (!silent.empty()) return about_silent(silent, last_seen);

  std::map<Halves, index_t> votes;
  for (const LiveRecord& report : reports) ++votes[end_of_chain(reports, report.rank)];
  const auto stillness = [&](const Halves& halves) {
    double most = 0;
    for (const Half& half : halves) most = std::max(most, find(reports, half.rank)->still_s);
    return most;
  };
  // A rank that waits for several has only its own vote; of equal ones the longest still is odd.
  const auto odd = std::ranges::max_element(votes, [&](const auto& left, const auto& right) {
    if (left.second != right.second) return left.second < right.second;
    return stillness(left.first) < stillness(right.first);
  });
  if (odd->first.size() > 1) return about_circle(odd->first, reports);
  const Half& half = odd->first.front();
  const LiveRecord& record = *find(reports, half.rank);
  return text(record.ranks == 1 ? "" : "all wait for ", name_of(&record, record.rank),
              record.ranks == 1 ? "" : ", which", " last moved ", seconds_text(record.still_s),
              " ago: ", state_text(record, doing_text(record, need_of(record, half))));
}

std::string describe_hang(const fs::path& run) {
  return describe_hang(read_live_records(hang_folder(run)), read_live_records(live_folder(run)));
}

}  // namespace weir
