#include "benchmarks/torch_peer.hpp"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "benchmarks/job.hpp"
#include "common/base/error.hpp"
#include "common/base/text.hpp"

namespace weir::benchmark {
namespace {

PeerResult peer_result_of(const std::string& line) {
  const auto json = nlohmann::json::parse(line);
  PeerResult result{.peer = json.at("peer"),
                    .length = json.at("length"),
                    .window = {},
                    .both_seconds = json.at("both_ms").get<double>() / 1e3,
                    .extra_bytes = json.at("extra_bytes"),
                    .torch = json.at("torch"),
                    .sgemm_flops = json.at("sgemm_gflops").get<double>() * 1e9,
                    .heads_measured = json.at("heads_measured")};
  if (!json.at("window").is_null()) result.window = json.at("window").get<index_t>();
  return result;
}

}  // namespace

std::string python_of_peers() {
  const char* python = std::getenv("WEIR_PYTHON");
  return python == nullptr || *python == '\0' ? "python3" : python;
}

bool has_module(const std::string& name) {
  const std::string command =
      text(quoted(python_of_peers()), " -c 'import ", name, "' 2>/dev/null");
  return std::system(command.c_str()) == 0;
}

std::vector<std::string> lines_of_peer(const std::string& script, const std::string& arguments) {
  const std::string command = text(quoted(python_of_peers()), " ",
                                   quoted(text(WEIR_PEERS "/", script)), " --json ", arguments);
  FILE* const output = popen(command.c_str(), "r");
  if (output == nullptr) throw Error(text("cannot start ", command));
  std::vector<std::string> lines(1);
  for (int c = std::fgetc(output); c != EOF; c = std::fgetc(output)) {
    if (c == '\n') {
      lines.emplace_back();
    } else {
      lines.back() += static_cast<char>(c);
    }
  }
  if (pclose(output) != 0) throw Error(text("failed: ", command));
  lines.pop_back();  // what follows the last line's end
  return lines;
}

std::vector<PeerResult> run_torch_peers(index_t length, const std::vector<index_t>& windows) {
  std::string arguments = text("--lengths ", length, " --windows ");
  for (const index_t window : windows) {
    arguments += text(window == windows.front() ? "" : ",", window);
  }
  std::vector<PeerResult> results;
  for (const std::string& line : lines_of_peer("attention.py", arguments)) {
    results.push_back(peer_result_of(line));
  }
  return results;
}

}  // namespace weir::benchmark
