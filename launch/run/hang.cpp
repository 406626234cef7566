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

/// The rank that this one waits for, if it is one and another.
std::optional<index_t> next_of(const LiveRecord& record) {
  const LiveNeed& need = need_of(record);
  if (need.what.empty() || need.peer < 0 || need.peer == record.rank) return std::nullopt;
  return need.peer;
}

/// Where the chain from a rank leads to: its last rank, or the ranks of a circle.
Ranks end_of_chain(const std::vector<LiveRecord>& reports, index_t rank) {
  Ranks path;
  while (true) {
    const auto again = std::ranges::find(path, rank);
    if (again != path.end()) {
      Ranks circle(again, path.end());
      std::ranges::sort(circle);
      return circle;
    }
    path.push_back(rank);
    const LiveRecord* const report = find(reports, rank);
    const std::optional<index_t> next = report != nullptr ? next_of(*report) : std::nullopt;
    if (!next) return {rank};
    rank = *next;
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

std::string state_text(const LiveRecord& record) {
  return text(record.phase, ", step ", record.step, ", ", doing_text(record));
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
  return words +
         text("has written no record for ", seconds_text(seen->age_s),
              ": it was stopped, or its host is cut off; its last one says: ", state_text(*seen));
}

Ranks silent_ranks(const std::vector<LiveRecord>& reports) {
  Ranks silent;
  for (index_t rank = 0; !reports.empty() && rank < reports.front().ranks; ++rank) {
    if (find(reports, rank) == nullptr) silent.push_back(rank);
  }
  return silent;
}

std::string about_circle(const Ranks& circle, const std::vector<LiveRecord>& reports) {
  std::string words = text("ranks ", list_of(circle), " wait for each other: ");
  for (std::size_t at = 0; at < circle.size(); ++at) {
    words +=
        text(at == 0 ? "" : "; ", "rank ", circle[at], " ", doing_text(*find(reports, circle[at])));
  }
  const std::vector<std::string> hosts = hosts_of(circle, reports);
  if (hosts.size() > 1) {
    words += text("; they are on ", list_of(hosts), ": is a link between these hosts cut?");
  }
  return words;
}

}  // namespace

std::string doing_text(const LiveRecord& record) {
  const LiveNeed& need = need_of(record);
  if (need.what.empty()) return record.file_work.empty() ? "computes" : record.file_work;
  const std::string peer = need.peer >= 0 ? text("rank ", need.peer) : "";
  const std::string bucket = need.bucket >= 0 ? text("bucket ", need.bucket) : "";
  const std::string both = text(peer, !peer.empty() && !bucket.empty() ? ", " : "", bucket);
  return text("waits for ", need.what, both.empty() ? "" : text(" (", both, ")"),
              record.file_work.empty() ? "" : text(", in ", record.file_work));
}

std::string describe_hang(const std::vector<LiveRecord>& reports,
                          const std::vector<LiveRecord>& last_seen) {
  if (reports.empty()) return {};
  const Ranks silent = silent_ranks(reports);
  if (!silent.empty()) return about_silent(silent, last_seen);

  std::map<Ranks, index_t> votes;
  for (const LiveRecord& report : reports) ++votes[end_of_chain(reports, report.rank)];
  const auto stillness = [&](const Ranks& ranks) {
    double most = 0;
    for (const index_t rank : ranks) most = std::max(most, find(reports, rank)->still_s);
    return most;
  };
  // A rank that waits for several has only its own vote; of equal ones the longest still is odd.
  const auto odd = std::ranges::max_element(votes, [&](const auto& left, const auto& right) {
    if (left.second != right.second) return left.second < right.second;
    return stillness(left.first) < stillness(right.first);
  });
  if (odd->first.size() > 1) return about_circle(odd->first, reports);
  const LiveRecord& record = *find(reports, odd->first.front());
  return text(record.ranks == 1 ? "" : "all wait for ", name_of(&record, record.rank),
              record.ranks == 1 ? "" : ", which", " last moved ", seconds_text(record.still_s),
              " ago: ", state_text(record));
}

std::string describe_hang(const fs::path& run) {
  return describe_hang(read_live_records(hang_folder(run)), read_live_records(live_folder(run)));
}

}  // namespace weir
