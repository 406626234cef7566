#include "benchmarks/step_peer.hpp"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "benchmarks/job.hpp"
#include "benchmarks/torch_peer.hpp"
#include "common/base/text.hpp"

namespace weir::benchmark {
namespace {

StepPeer step_peer_of(const std::string& line) {
  const auto json = nlohmann::json::parse(line);
  StepPeer peer{.attention = json.at("attention"),
                .mode = json.at("mode"),
                .precision = json.at("precision"),
                .torch = json.at("torch"),
                .error = json.value("error", "")};
  if (peer.error.empty()) peer.tokens_per_second = json.at("tokens_s");
  return peer;
}

std::vector<StepPeer> run(const worker::ModelConfig& model, const std::string& precision,
                          index_t steps, const std::string& more) {
  const std::string arguments =
      text("--length ", model.length, " --width ", model.width, " --heads ", model.heads,
           " --layers ", model.layers, " --left ", model.left, " --globals ",
           model.sparsity().globals.count(), " --precisions ", precision, " --steps ", steps, more);
  std::vector<StepPeer> peers;
  for (const std::string& line : lines_of_peer("step.py", arguments)) {
    peers.push_back(step_peer_of(line));
  }
  return peers;
}

}  // namespace

std::vector<StepPeer> all_step_peers(const worker::ModelConfig& model, const std::string& precision,
                                     index_t steps) {
  std::vector<StepPeer> peers = run(model, precision, steps, "");
  std::ranges::stable_sort(peers, std::greater(), &StepPeer::tokens_per_second);
  return peers;
}

StepPeer run_again(const StepPeer& peer, const worker::ModelConfig& model, index_t steps) {
  return run(model, peer.precision, steps,
             text(" --forms ", quoted(peer.attention), " --modes ", peer.mode))
      .at(0);
}

}  // namespace weir::benchmark
