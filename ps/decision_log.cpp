#include "ps/decision_log.hpp"

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "common/base/error.hpp"
#include "common/base/log.hpp"

namespace weir::ps {
namespace {

using Json = nlohmann::ordered_json;

struct LoggedDecision {
  index_t update = 0;
  Decision decision;
  std::string line;
};

std::string head_of(const ConsistencyConfig& config, index_t replicas) {
  return Json(
             {{"kind", "decisions"}, {"consistency", name_of(config.mode)}, {"replicas", replicas}})
      .dump();
}

std::string line_of(const Decision& decision, index_t update, std::optional<index_t> staleness) {
  const char* kind = decision.kind == Decision::Kind::close ? "close" : "drop";
  Json line = {{"update", update}, {kind, decision.replicas}};
  if (staleness) line["staleness"] = *staleness;
  return line.dump();
}

/// A last line that a dying job left half written is none.
std::vector<LoggedDecision> read_log(const std::filesystem::path& path,
                                     const ConsistencyConfig& config, index_t replicas) {
  std::ifstream file(path);
  if (!file) throw Error(text("cannot read decisions from ", path.string()));
  std::string line;
  std::getline(file, line);
  if (line != head_of(config, replicas)) {
    throw Error(text(path.string(), " begins with ", line.substr(0, 100),
                     ", but this job's log with ", head_of(config, replicas),
                     "; replay it with the settings it was made with"));
  }
  std::vector<LoggedDecision> all;
  while (std::getline(file, line) && !file.eof()) {
    try {
      const Json json = Json::parse(line);
      const bool closes = json.contains("close");
      all.push_back({json.at("update").get<index_t>(),
                     {closes ? Decision::Kind::close : Decision::Kind::drop,
                      json.at(closes ? "close" : "drop").get<std::vector<index_t>>()},
                     line});
    } catch (const Json::exception& error) {
      throw Error(text(path.string(), " line ", all.size() + 2, " is no decision: ", error.what()));
    }
  }
  return all;
}

}  // namespace

DecisionLog::DecisionLog(const std::filesystem::path& file, const ConsistencyConfig& config,
                         index_t replicas, index_t update)
    : path_(file), config_(config), replicas_(replicas), update_(update) {}

void DecisionLog::open() {
  opened_ = true;
  std::string kept = head_of(config_, replicas_) + '\n';
  // With other settings than before the earlier decisions are another run's.
  if (update_ > 0 && std::filesystem::exists(path_)) {
    try {
      for (const LoggedDecision& each : read_log(path_, config_, replicas_)) {
        if (each.update <= update_) kept += each.line + '\n';
      }
    } catch (const Error& error) {
      log_info(text("the decision log begins anew: ", error.what()));
    }
  }
  const std::filesystem::path fresh = path_.string() + ".new";
  file_.open(fresh, std::ios::trunc);
  file_ << kept << std::flush;
  std::error_code code;
  std::filesystem::rename(fresh, path_, code);
  if (code) file_.setstate(std::ios::failbit);
}

void DecisionLog::append(const Decision& decision, index_t update, index_t staleness) {
  if (path_.empty()) return;
  if (!opened_) open();
  if (!file_) return;
  const bool alone = config_.mode != Consistency::bsp;
  file_ << line_of(decision, update, alone ? std::optional(staleness) : std::nullopt) << '\n'
        << std::flush;
  if (!file_) {
    log_warning(text("cannot write ", path_.string(), ": ", std::strerror(errno),
                     "; this run cannot be replayed beyond update ", update - 1));
  }
}

std::deque<Decision> read_decisions(const std::filesystem::path& file,
                                    const ConsistencyConfig& config, index_t replicas,
                                    index_t update) {
  std::deque<Decision> decisions;
  for (LoggedDecision& each : read_log(file, config, replicas)) {
    if (each.update > update) decisions.push_back(std::move(each.decision));
  }
  return decisions;
}

}  // namespace weir::ps
