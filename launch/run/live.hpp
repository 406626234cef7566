#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/index.hpp"
#include "common/io/file.hpp"

namespace weir {

/// What somebody waits for, as Need says it; `what` is empty if there is no wait.
struct LiveNeed {
  std::string what = {};
  index_t peer = -1;  ///< a rank, kNobody or kSeveralRanks
  index_t bucket = -1;
  bool of_server = false;  ///< the server on that rank is meant
  bool operator==(const LiveNeed&) const = default;
};

/// What a rank does, for other processes to read: RUN/live/rank-N.json, written once a second while
/// a job runs, and RUN/hang/rank-N.json, written when its watchdog ends it.
struct LiveRecord {
  index_t rank = 0;
  index_t ranks = 1;  ///< all of the job
  std::string role = {};
  std::string host = {};
  index_t process = 0;
  std::string phase = {};
  index_t step = 0;
  LiveNeed need = {};         ///< empty: it computes
  LiveNeed server_need = {};  ///< what the server on this rank lacks
  std::string file_work = {};
  double still_s = 0;         ///< since anything went on
  double deadline_s = 0;      ///< for that
  bool in_time = true;        ///< the first is below the second
  double steps_a_second = 0;  ///< mean of the last ten seconds, as the next
  double waiting_share = 0;

  // Not in the file.
  double written_s = 0;  ///< when the file was, since 1970
  double age_s = 0;      ///< how much older it is than the newest one beside it
  bool is_server() const { return role.starts_with("server"); }
};

std::string json_of(const LiveRecord& record);
/// None if the text is no such record.
std::optional<LiveRecord> live_record_of(const std::string& json);

/// The folders of the records.
inline fs::path live_folder(const fs::path& run) { return run / "live"; }
inline fs::path hang_folder(const fs::path& run) { return run / "hang"; }
std::string live_name(index_t rank);

/// The record in a file, without its age; none if it holds no record. Throws Error if it cannot be
/// read.
std::optional<LiveRecord> read_live_record(const fs::path& path);

/// The records in a folder, by rank; none if there is no folder. What is no record is left out.
std::vector<LiveRecord> read_live_records(const fs::path& folder);

/// Notes beside the records in RUN/live that a rank has ended, if there is such a folder: whoever
/// started the rank does so when it has failed or was ended with the job. It cannot on a host that
/// has died.
void note_end(const fs::path& folder, index_t rank);
/// The hosts of ranks with a record and without such a note, if other hosts have only noted ones.
std::vector<std::string> hosts_without_end(const fs::path& folder);

/// Removes the records and notes that a folder holds, and then the folder if nothing else is in it.
/// Says nothing of what it cannot remove.
void remove_live_records(const fs::path& folder);

/// Whether the process that wrote the record may still run: it is not gone from this host, and the
/// file is not older than ten seconds at `unix_s`.
bool may_be_alive(const LiveRecord& record, double unix_s);

}  // namespace weir
