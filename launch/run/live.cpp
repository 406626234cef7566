#include "launch/run/live.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "common/base/machine.hpp"

namespace weir {
namespace {

using Json = nlohmann::ordered_json;

constexpr index_t kLiveBytesMax = 64 << 10;
constexpr index_t kRanksMax = 1 << 20;
constexpr std::string_view kLivePrefix = "rank-";
constexpr std::string_view kEndPrefix = "ended-";

Json need_json(const LiveNeed& need) {
  if (need.what.empty()) return nullptr;
  return {{"what", need.what},
          {"peer", need.peer},
          {"bucket", need.bucket},
          {"of_server", need.of_server}};
}

LiveNeed need_of(const Json& json) {
  if (json.is_null()) return {};
  return {.what = json.at("what"),
          .peer = json.at("peer"),
          .bucket = json.at("bucket"),
          .of_server = json.at("of_server")};
}

}  // namespace

std::string json_of(const LiveRecord& record) {
  const Json json = {{"rank", record.rank},
                     {"ranks", record.ranks},
                     {"role", record.role},
                     {"host", record.host},
                     {"process", record.process},
                     {"phase", record.phase},
                     {"step", record.step},
                     {"waits_for", need_json(record.need)},
                     {"server_lacks", need_json(record.server_need)},
                     {"file_work", record.file_work},
                     {"still_s", record.still_s},
                     {"deadline_s", record.deadline_s},
                     {"in_time", record.in_time},
                     {"steps_per_s", record.steps_a_second},
                     {"waiting", record.waiting_share}};
  // A host may have any name.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::optional<LiveRecord> live_record_of(const std::string& text) {
  try {
    const Json json = Json::parse(text);
    LiveRecord record;
    json.at("rank").get_to(record.rank);
    json.at("ranks").get_to(record.ranks);
    json.at("role").get_to(record.role);
    json.at("host").get_to(record.host);
    json.at("process").get_to(record.process);
    json.at("phase").get_to(record.phase);
    json.at("step").get_to(record.step);
    record.need = need_of(json.at("waits_for"));
    record.server_need = need_of(json.at("server_lacks"));
    json.at("file_work").get_to(record.file_work);
    json.at("still_s").get_to(record.still_s);
    json.at("deadline_s").get_to(record.deadline_s);
    json.at("in_time").get_to(record.in_time);
    json.at("steps_per_s").get_to(record.steps_a_second);
    json.at("waiting").get_to(record.waiting_share);
    if (record.rank < 0 || record.ranks <= record.rank || record.ranks > kRanksMax) {
      return std::nullopt;
    }
    return record;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

std::string live_name(index_t rank) { return text(kLivePrefix, rank, ".json"); }

std::optional<LiveRecord> read_live_record(const fs::path& path) {
  const File file = File::open(path);
  struct stat status {};  // of the open file: a network's file system tells an older time by name
  if (fstat(file.descriptor(), &status) != 0 || status.st_size > kLiveBytesMax) return std::nullopt;
  std::string words(status.st_size, '\0');
  file.read(0, std::as_writable_bytes(std::span(words)));
  auto record = live_record_of(words);
  if (record) {
    record->written_s = static_cast<double>(status.st_mtim.tv_sec) +
                        1e-9 * static_cast<double>(status.st_mtim.tv_nsec);
  }
  return record;
}

std::vector<LiveRecord> read_live_records(const fs::path& folder) {
  std::vector<LiveRecord> records;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; entry != end; entry.increment(error)) {
    if (!entry->path().filename().string().starts_with(kLivePrefix)) continue;
    try {
      if (auto record = read_live_record(entry->path())) records.push_back(std::move(*record));
    } catch (const Error&) {  // it has just been removed
    }
  }
  double newest_s = 0;
  for (const LiveRecord& record : records) newest_s = std::max(newest_s, record.written_s);
  for (LiveRecord& record : records) record.age_s = newest_s - record.written_s;
  std::ranges::sort(records, {}, &LiveRecord::rank);
  return records;
}

void note_end(const fs::path& folder, index_t rank) {
  std::ofstream(folder / text(kEndPrefix, rank));
}

std::vector<std::string> hosts_without_end(const fs::path& folder) {
  std::map<std::string, bool> lacks_end;
  for (const LiveRecord& record : read_live_records(folder)) {
    std::error_code error;
    lacks_end[record.host] |= !fs::exists(folder / text(kEndPrefix, record.rank), error);
  }
  std::vector<std::string> hosts;
  for (const auto& [host, lacks] : lacks_end) {
    if (lacks) hosts.push_back(host);
  }
  return hosts.size() < lacks_end.size() ? hosts : std::vector<std::string>();
}

void remove_live_records(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> own;
  for (fs::directory_iterator entry(folder, error), end; entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(kLivePrefix) || name.starts_with(kEndPrefix) ||
        name.starts_with(text(".tmp-", kLivePrefix))) {
      own.push_back(entry->path());
    }
  }
  for (const fs::path& path : own) fs::remove(path, error);
  fs::remove(folder, error);
}

bool may_be_alive(const LiveRecord& record, double unix_s) {
  constexpr double kOldSeconds = 10;
  if (unix_s - record.written_s > kOldSeconds) return false;
  if (record.host != host_name()) return true;
  std::ifstream status(text("/proc/", record.process, "/stat"));
  std::string line;
  std::getline(status, line);
  const auto name_end = line.rfind(')');  // then a blank and the state: Z has ended
  return name_end != std::string::npos && line.compare(name_end, 3, ") Z") != 0;
}

}  // namespace weir
