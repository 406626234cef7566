#include "tests/faults/injection.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

namespace weir::test {
namespace {

std::vector<std::string> before_weir(std::vector<std::string> command,
                                     const std::vector<std::string>& words) {
  command.insert(std::ranges::find(command, WEIR_BINARY), words.begin(), words.end());
  return command;
}

}  // namespace

std::vector<Call> read_calls(const std::filesystem::path& log, index_t rank) {
  std::map<index_t, Call> calls;  // two threads may write their lines in another order
  std::ifstream file(log.string() + '.' + std::to_string(rank));
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    index_t number = 0;
    Call call;
    std::string what;
    words >> number >> what >> call.name;
    call.struck = what == "struck";
    std::getline(words >> std::ws, call.path);
    calls[number] = call;
  }
  std::vector<Call> all;
  for (const auto& [number, call] : calls) all.push_back(call);
  return all;
}

std::vector<std::string> with_injection(const std::vector<std::string>& command,
                                        const Injection& injection) {
  std::vector<std::string> words = {"env", "LD_PRELOAD=" WEIR_FAULT_INJECTOR,
                                    "FAULT_BELOW=" + injection.below.string()};
  const auto add = [&](bool wanted, const char* name, const std::string& value) {
    if (wanted) words.push_back(name + ("=" + value));
  };
  add(injection.at > 0, "FAULT_AT", std::to_string(injection.at));
  add(!injection.kind.empty(), "FAULT_KIND", injection.kind);
  add(!injection.when.empty(), "FAULT_WHEN", injection.when.string());
  add(injection.stays, "FAULT_STAYS", "1");
  add(!injection.call.name.empty(), "FAULT_NAME", injection.call.name);
  add(!injection.call.name.empty(), "FAULT_PATH", injection.call.path);
  add(!injection.only.empty(), "FAULT_ONLY", injection.only);
  add(injection.rank >= 0, "FAULT_RANK", std::to_string(injection.rank));
  add(!injection.protocol.empty(), "FAULT_PROTOCOL", injection.protocol);
  add(!injection.log.empty(), "FAULT_LOG", injection.log.string());
  return before_weir(command, words);
}

std::vector<std::string> with_lost_message(const std::vector<std::string>& command, index_t rank,
                                           const std::filesystem::path& when) {
  return before_weir(command, {"env", "LD_PRELOAD=" WEIR_FRAME_DROPPER,
                               "DROP_RANK=" + std::to_string(rank), "DROP_WHEN=" + when.string()});
}

}  // namespace weir::test
