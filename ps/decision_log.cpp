#include "ps/decision_log.hpp"

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "common/base/error.hpp"
#include "common/base/log.hpp"

namespace weir::ps {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::pair<Decision::Kind, const char*> kKinds[] = {
    {Decision::Kind::close, "close"},
    {Decision::Kind::drop, "drop"},
    {Decision::Kind::share, "share"},
};

std::string head_of(const ConsistencyConfig& config, index_t replicas) {
  return Json(
             {{"kind", "decisions"}, {"consistency", name_of(config.mode)}, {"replicas", replicas}})
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

Decision decision_of(const Json& line) {
  for (const auto& [kind, name] : kKinds) {
    if (line.contains(name)) return {kind, line.at(name).get<std::vector<index_t>>()};
  }
  throw Error("it has neither close, drop nor share");
}

/// Calls take(line, update, decision) for each. A last line that a dying job left half written is
/// none.
template <class Take>
void read_log(const std::filesystem::path& path, const ConsistencyConfig& config, index_t replicas,
              const Take& take) {
  std::ifstream file(path);
  if (!file) throw Error(text("cannot read decisions from ", path.string()));
  std::string line;
  std::getline(file, line);
  if (line != head_of(config, replicas)) {
    throw Error(text(path.string(), " begins with ", line.substr(0, 100),
                     ", but this job's log with ", head_of(config, replicas),
                     "; replay it with the settings it was made with"));
  }
  for (index_t number = 2; std::getline(file, line) && !file.eof(); ++number) {
    try {
      const Json json = Json::parse(line);
      take(line, json.at("update").get<index_t>(), decision_of(json));
    } catch (const std::exception& error) {
      throw Error(text(path.string(), " line ", number, " is no decision: ", error.what()));
    }
  }
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
      read_log(path_, config_, replicas_,
               [&](const std::string& line, index_t update, const Decision&) {
                 if (update <= update_) kept += line + '\n';
               });
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
  const bool alone = !updates_together(config_.mode);
  file_ << line_of(decision, update, alone ? std::optional(staleness) : std::nullopt) << '\n'
        << std::flush;
  if (!file_) {
    log_warning(text("cannot write ", path_.string(), ": ", std::strerror(errno),
                     "; this run cannot be replayed beyond update ", update - 1));
  }
}

std::vector<LoggedDecision> read_decisions(const std::filesystem::path& file,
                                           const ConsistencyConfig& config, index_t replicas) {
  std::vector<LoggedDecision> all;
  read_log(file, config, replicas, [&](const std::string&, index_t update, Decision decision) {
    all.push_back({update, std::move(decision)});
  });
  return all;
}

}  // namespace weir::ps
