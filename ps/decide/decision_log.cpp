#include "ps/decide/decision_log.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "common/io/line_file.hpp"
#include "common/io/manifest.hpp"

namespace weir::ps {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::pair<Decision::Kind, const char*> kKinds[] = {
    {Decision::Kind::close, "close"},
    {Decision::Kind::drop, "drop"},
    {Decision::Kind::share, "share"},
};

std::string head_of(const DecidingJob& job) {
  return Json({{"kind", "decisions"},
               {"consistency", name_of(job.consistency.mode)},
               {"replicas", job.replicas}})
      .dump();
}

std::string line_of(const Decision& decision, index_t update, std::optional<index_t> staleness) {
  Json line = {{"update", update}};
  for (const auto& [kind, name] : kKinds) {
    if (kind == decision.kind) line[name] = decision.replicas;
  }
  if (staleness) line["staleness"] = *staleness;
  return line.dump();
}

index_t whole_number(const Json& value, const char* what) {
  if (!value.is_number_integer()) throw Error(text(what, " is no whole number"));
  return value.get<index_t>();
}

LoggedDecision decision_of(const Json& line) {
  if (!line.is_object()) throw Error("it is no object");
  LoggedDecision logged;
  if (!line.contains("update")) throw Error("it has no update");
  logged.update = whole_number(line.at("update"), "update");
  index_t found = 0;
  for (const auto& [kind, name] : kKinds) {
    if (!line.contains(name)) continue;
    ++found;
    logged.decision.kind = kind;
    if (!line.at(name).is_array()) throw Error(text(name, " is no list"));
    for (const Json& each : line.at(name)) {
      logged.decision.replicas.push_back(whole_number(each, name));
    }
  }
  if (found != 1) throw Error(text("it has ", found, " of close, drop and share, not one"));
  return logged;
}

void check_shares(const List<index_t>& shares, const DecidingJob& job) {
  if (shares.size() != job.replicas) {
    throw Error(text("it shares among ", shares.size(), " replicas, there are ", job.replicas));
  }
  if (std::ranges::any_of(shares, [&](index_t each) { return each < 1 || each > kCountMax; })) {
    throw Error("a replica's share is at least 1 micro-batch");
  }
  const index_t sum = std::accumulate(shares.begin(), shares.end(), index_t{0});
  if (sum != job.micro_batches) {
    throw Error(text("its shares are ", sum, " micro-batches, a step has ", job.micro_batches));
  }
}

void check_replicas(const Decision& decision, const DecidingJob& job) {
  const List<index_t>& replicas = decision.replicas;
  if (waits_for_all(job.consistency)) {
    throw Error(
        "here every update waits for all replicas; replay it with --backup, as it was made");
  }
  if (replicas.empty()) throw Error("it names no replica");
  for (index_t each : replicas) {
    if (each >= 0 && each < job.replicas) continue;
    throw Error(text("it names replica ", each, ", there are ", job.replicas));
  }
  if (std::ranges::adjacent_find(replicas, std::ranges::greater_equal()) != replicas.end()) {
    throw Error("it names a replica twice, or not in ascending order");
  }
  if (updates_together(job.consistency.mode)) return;
  if (decision.kind != Decision::Kind::close || replicas.size() > 1) {
    throw Error(text("with --consistency ", name_of(job.consistency.mode),
                     " an update is one replica's step, and nothing is dropped"));
  }
}

/// `newest`: the update of the line before; none if the log begins here.
void check_order(const LoggedDecision& logged, const DecidingJob& job,
                 std::optional<index_t> newest) {
  if (logged.update < 1 || logged.update > kCountMax) {
    throw Error(text("there is no update ", logged.update));
  }
  if (!newest) return;
  const bool closes = logged.decision.kind == Decision::Kind::close;
  // If every update waits for all replicas, the log has only shares.
  const bool fits = waits_for_all(job.consistency) ? logged.update > *newest
                                                   : logged.update == *newest + (closes ? 1 : 0);
  if (fits) return;
  throw Error(text("update ", logged.update, " comes after update ", *newest,
                   ": lines are missing, or not in their order"));
}

/// The lines of a log.
class LogLines {
 public:
  explicit LogLines(const std::filesystem::path& path) : path_(path), file_(path, kLineBytesMax) {}
  index_t number() const { return number_; }  ///< the newest line's, from 1 on
  /// The next one; nothing at the end, nor for a last line that is not ended.
  std::optional<std::string> next() {
    const LineState state = file_.next();
    if (state == LineState::none || state == LineState::cut_off) return std::nullopt;
    ++number_;
    if (state == LineState::too_long) {
      throw Error(
          text(path_.string(), " line ", number_, " has more than ", kLineBytesMax, " bytes"));
    }
    return file_.line();
  }

 private:
  static constexpr std::size_t kLineBytesMax = 256 << 10;  // 30,000 replicas
  std::filesystem::path path_;
  LineFile file_;
  index_t number_ = 0;
};

/// Calls take(line, decision) for each.
template <class Take>
void read_log(const std::filesystem::path& path, const DecidingJob& job, const Take& take) {
  LogLines lines(path);
  const std::string first = lines.next().value_or("");
  if (first != head_of(job)) {
    throw Error(text(path.string(), " begins with ", first.substr(0, 100),
                     ", but this job's log with ", head_of(job),
                     "; replay it with the settings it was made with"));
  }
  std::optional<index_t> newest;
  while (const std::optional<std::string> line = lines.next()) {
    try {
      LoggedDecision logged = decision_of(Json::parse(*line));
      check_order(logged, job, newest);
      newest = logged.update;
      if (logged.decision.kind == Decision::Kind::share) {
        check_shares(logged.decision.replicas, job);
      } else {
        check_replicas(logged.decision, job);
      }
      take(*line, std::move(logged));
    } catch (const std::exception& error) {
      throw Error(text(path.string(), " line ", lines.number(),
                       " is no decision of this job: ", error.what()));
    }
  }
}

}  // namespace

DecisionLog::DecisionLog(const std::filesystem::path& file, const DecidingJob& job, index_t update,
                         FileSystem& files)
    : path_(file), job_(job), files_(&files), update_(update), newest_(update) {}

/// The lines of the log about updates up to the checkpoint.
std::string DecisionLog::lines_before() const {
  std::string kept;
  index_t newest = 0;
  const bool counts_all = !waits_for_all(job_.consistency);  // a line for each update
  try {
    read_log(path_, job_, [&](const std::string& line, const LoggedDecision& logged) {
      if (logged.update > update_) return;
      kept += line + '\n';
      newest = logged.update;
    });
  } catch (const Error& error) {
    // After a power cut lines behind the checkpoint may be torn or missing; they would go anyway.
    if (!counts_all || newest != update_) throw;
    log_warning(text("takes out what follows update ", update_, ": ", error.what()));
  }
  if (counts_all && newest != update_) {
    throw Error(
        text(path_.string(), newest == 0 ? " begins later" : text(" ends with update ", newest)));
  }
  return kept;
}

void DecisionLog::open() {
  opened_ = true;
  std::string kept;
  if (update_ > 0 && path_exists(path_)) {
    try {
      kept = lines_before();
    } catch (const Error& error) {
      log_warning(text("the decision log begins anew with update ", update_ + 1,
                       ", and can only be replayed from the checkpoint before it: ", error.what()));
    }
  }
  replace_file(path_, head_of(job_) + '\n' + kept, *files_);
  file_ = open_for_appending(path_);
}

template <class Work>
void DecisionLog::write_or_end(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    file_ = File();
    log_warning(text(error.what(), "; this run cannot be replayed beyond update ", newest_));
  }
}

void DecisionLog::append(const Decision& decision, index_t update, index_t staleness) {
  if (path_.empty() || (opened_ && file_.descriptor() < 0)) return;
  write_or_end([&] {
    if (!opened_) open();
    const bool alone = !updates_together(job_.consistency.mode);
    const std::string line =
        line_of(decision, update, alone ? std::optional(staleness) : std::nullopt) + '\n';
    files_->write(file_, file_.size(), std::as_bytes(std::span(line)));
    newest_ = update;
  });
}

void DecisionLog::sync() {
  if (file_.descriptor() < 0) return;
  write_or_end([&] { files_->sync(file_); });
}

List<LoggedDecision> read_decisions(const std::filesystem::path& file, const DecidingJob& job) {
  List<LoggedDecision> all;
  read_log(file, job,
           [&](const std::string&, LoggedDecision logged) { all.push_back(std::move(logged)); });
  return all;
}

}  // namespace weir::ps
