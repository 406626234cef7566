#include "launch/trace/trace_reader.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "common/base/error.hpp"
#include "common/io/line_file.hpp"

namespace weir {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kLineMax = 4096;

struct Wait {
  double begin_s;
  double end_s;
};

struct Rank {
  TracedWorker worker;
  std::vector<Wait> waits;
};

/// The number; -1 if there is none.
index_t number_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number_integer() ? found->get<index_t>() : -1;
}

double seconds_of(const Json& event, const char* name) {
  const auto found = event.find(name);
  return found != event.end() && found->is_number() ? 1e-6 * found->get<double>() : 0;
}

std::string word_of(const Json& event, const char* name) {
  const auto found = event.find(name);
  return found != event.end() && found->is_string() ? found->get<std::string>() : "";
}

/// Whether the line holds an event that take() wants; to parse all of them takes longer.
bool is_wanted(std::string_view line) {
  return std::ranges::any_of(
      std::array{R"("cat":"action")", R"("cat":"wait")", R"("process_name")"},
      [&](const char* words) { return line.find(words) != std::string_view::npos; });
}

void take(std::map<index_t, Rank>& ranks, const Json& event) {
  const index_t rank = number_of(event, "pid");
  const auto arguments = event.find("args");
  if (rank < 0 || arguments == event.end() || !arguments->is_object()) return;
  if (word_of(event, "ph") == "M") {
    if (number_of(*arguments, "stage") < 0) return;
    TracedWorker& worker = ranks[rank].worker;
    worker.dropped_count = number_of(*arguments, "dropped_spans");
    worker.place = {number_of(*arguments, "replica"), number_of(*arguments, "stage"),
                    number_of(*arguments, "context"), number_of(*arguments, "shard")};
    return;
  }
  const auto found = ranks.find(rank);
  if (found == ranks.end()) return;
  const double begin_s = seconds_of(event, "ts");
  const double end_s = begin_s + seconds_of(event, "dur");
  if (word_of(event, "cat") == "wait") {
    found->second.waits.push_back({begin_s, end_s});
  } else if (number_of(*arguments, "step") >= 0) {
    found->second.worker.actions.push_back({.name = word_of(event, "name"),
                                            .step = number_of(*arguments, "step"),
                                            .chunk = number_of(*arguments, "chunk"),
                                            .micro_batch = number_of(*arguments, "micro_batch"),
                                            .begin_s = begin_s,
                                            .end_s = end_s});
  }
}

/// How much of the action the waits take; they may enclose each other.
double waited_in(const TracedAction& action, const std::vector<Wait>& waits) {
  double waited_s = 0;
  double until_s = action.begin_s;
  for (auto each = std::ranges::lower_bound(waits, action.begin_s, {}, &Wait::begin_s);
       each != waits.end() && each->begin_s < action.end_s; ++each) {
    const double end_s = std::min(each->end_s, action.end_s);
    waited_s += std::max(0.0, end_s - std::max(each->begin_s, until_s));
    until_s = std::max(until_s, end_s);
  }
  return waited_s;
}

}  // namespace

std::vector<TracedWorker> read_trace(const fs::path& file) {
  std::map<index_t, Rank> ranks;
  LineFile lines(file, kLineMax);
  for (LineState state = lines.next(); state != LineState::none; state = lines.next()) {
    std::string_view line = lines.line();
    if (state == LineState::too_long || !is_wanted(line)) continue;
    if (line.ends_with(',')) line.remove_suffix(1);
    const Json event = Json::parse(line, nullptr, false);
    if (event.is_object()) take(ranks, event);
  }
  if (ranks.empty()) throw Error(text(file.string(), " is no trace of weir: it names no worker"));
  std::vector<TracedWorker> workers;
  for (auto& [number, rank] : ranks) {
    std::ranges::sort(rank.waits, {}, &Wait::begin_s);
    std::ranges::sort(rank.worker.actions, {}, &TracedAction::begin_s);
    for (TracedAction& action : rank.worker.actions) {
      action.waited_s = waited_in(action, rank.waits);
    }
    workers.push_back(std::move(rank.worker));
  }
  return workers;
}

}  // namespace weir
