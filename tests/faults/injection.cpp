#include "tests/faults/injection.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

namespace weir::test {

std::vector<Call> read_calls(const std::filesystem::path& log, index_t rank) {
  std::map<index_t, Call> calls;  // two threads may write their lines in another order
  std::ifstream file(log.string() + '.' + std::to_string(rank));
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    index_t number = 0;
    Call call;
    words >> number >> call.name;
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
  add(injection.stays, "FAULT_STAYS", "1");
  add(!injection.only.empty(), "FAULT_ONLY", injection.only);
  add(injection.rank >= 0, "FAULT_RANK", std::to_string(injection.rank));
  add(!injection.protocol.empty(), "FAULT_PROTOCOL", injection.protocol);
  add(!injection.log.empty(), "FAULT_LOG", injection.log.string());
  std::vector<std::string> all = command;
  all.insert(std::ranges::find(all, WEIR_BINARY), words.begin(), words.end());
  return all;
}

}  // namespace weir::test
