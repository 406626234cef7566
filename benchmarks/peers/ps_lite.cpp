// dmlc/ps-lite where server_tier has one worker and one server: push, AdamW and pull of all
// parameters. ps_lite_peer.cpp compiles this against the user's build of ps-lite.
//
//   ps_lite FILE ELEMENTS ROUNDS UPDATES BUCKET_BYTES...
//
// Writes a line an update to FILE: bucket bytes, seconds.
#include <ps/ps.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "common/base/machine.hpp"
#include "common/number/memory.hpp"
#include "ps/update/optimizer.hpp"

namespace {

using weir::Buffer;
using weir::index_t;

// ps-lite waits for a process that is gone until somebody ends it.
constexpr unsigned kLimitSeconds = 300;

struct Job {
  std::string file;
  index_t elements = 0;
  index_t rounds = 0;
  index_t updates = 0;
  std::vector<index_t> bucket_bytes;
};

/// Weights with their moments and the same step as weir's server makes, on any part of them.
class Parameters {
 public:
  explicit Parameters(index_t elements)
      : weights_(elements), mean_(elements), variance_(elements) {}

  std::span<float> weights() { return weights_.span(); }
  void step(std::size_t begin, std::span<const float> gradient, index_t applied) {
    const auto part = [&](Buffer& all) { return all.span().subspan(begin, gradient.size()); };
    const std::span<float> slots[] = {part(mean_), part(variance_)};
    weir::ps::optimizer_step({},
                             {.factor = 1, .rate = 1e-3, .applied = applied, .weight_decay = 0.1},
                             part(weights_), gradient, slots);
  }

 private:
  Buffer weights_, mean_, variance_;
};

/// Nobody sends before the server can receive, nor is it taken down before all are done.
void meet() { ps::Postoffice::Get()->Barrier(0, ps::kWorkerGroup + ps::kServerGroup); }

/// A request is one bucket: its key is its number, the command the elements of a bucket. It is
/// stepped where it arrived and answered from where the weights are, without a copy.
void serve(const Job& job) {
  Parameters parameters(job.elements);
  ps::Start(0);
  {
    index_t stepped = 0;  // elements, of all updates
    ps::KVServer<float> server(0);
    server.set_request_handle([&](const ps::KVMeta& request, const ps::KVPairs<float>& pushed,
                                  ps::KVServer<float>* self) {
      const std::size_t begin = pushed.keys[0] * static_cast<std::size_t>(request.cmd);
      const std::size_t size = pushed.vals.size();
      parameters.step(begin, {pushed.vals.data(), size}, 1 + stepped / job.elements);
      stepped += static_cast<index_t>(size);
      ps::KVPairs<float> weights;
      weights.keys = pushed.keys;
      weights.vals = ps::SArray<float>(parameters.weights().data() + begin, size);
      self->Response(request, weights);
    });
    meet();
    meet();
  }
  ps::Finalize(0, true);
}

/// The buckets of one update, as ps-lite wants them.
struct Buckets {
  Buckets(std::span<float> gradient, std::span<float> weights, std::size_t bucket)
      : elements(bucket) {
    for (std::size_t begin = 0; begin < weights.size(); begin += bucket) {
      const std::size_t size = std::min(bucket, weights.size() - begin);
      keys.emplace_back(1, keys.size());
      pushed.emplace_back(gradient.data() + begin, size);
      pulled.emplace_back(weights.data() + begin, size);
    }
  }
  std::size_t elements;
  std::vector<ps::SArray<ps::Key>> keys;
  std::vector<ps::SArray<float>> pushed, pulled;
};

double update(ps::KVWorker<float>& worker, Buckets& buckets) {
  std::vector<int> requests;
  const double begin = weir::seconds_now();
  for (std::size_t at = buckets.keys.size(); at-- > 0;) {
    requests.push_back(worker.ZPushPull(buckets.keys[at], buckets.pushed[at], &buckets.pulled[at],
                                        nullptr, static_cast<int>(buckets.elements)));
  }
  for (const int request : requests) worker.Wait(request);
  return weir::seconds_now() - begin;
}

void work(const Job& job) {
  Buffer gradient(job.elements), weights(job.elements);
  Parameters expected(1);
  index_t applied = 0;
  std::ofstream file(job.file);
  ps::Start(0);
  {
    ps::KVWorker<float> worker(0, 0);
    meet();
    for (index_t round = 0; round < job.rounds; ++round) {
      for (const index_t bytes : job.bucket_bytes) {
        Buckets buckets(gradient.span(), weights.span(), static_cast<std::size_t>(bytes) / 4);
        for (index_t repeat = 0; repeat <= job.updates; ++repeat) {
          // Another one each time, as backward would have written it, before the clock starts.
          std::ranges::fill(gradient.span(), 1e-3F * static_cast<float>(1 + applied % 3));
          expected.step(0, gradient.span().first(1), ++applied);
          const double seconds = update(worker, buckets);
          if (repeat > 0) file << bytes << ' ' << seconds << std::endl;
          if (std::ranges::count(weights.span(), expected.weights()[0]) != job.elements) {
            std::cerr << "ps_lite: update " << applied << " did not come back" << std::endl;
            std::_Exit(1);
          }
        }
      }
    }
    meet();
  }
  ps::Finalize(0, true);
}

void run_role(const std::string& role, const Job& job) {
  setenv("DMLC_ROLE", role.c_str(), 1);
  if (role == "server") return serve(job);
  if (role == "worker") return work(job);
  ps::Start(0);
  ps::Finalize(0, true);
}

/// The file in /tmp that stands for a port of a Unix socket. ps-lite leaves it behind.
std::filesystem::path socket_of(int port) {
  return std::filesystem::path("/tmp") / std::to_string(port);
}

/// For the scheduler, the server and the worker: names that are free.
std::vector<int> free_ports() {
  std::vector<int> ports;
  for (int port = 10000 + getpid() % 40000; ports.size() < 3; ++port) {
    if (!std::filesystem::exists(socket_of(port))) ports.push_back(port);
  }
  return ports;
}

/// Whatever the caller's environment says of another job of ps-lite does not count.
void set_environment(int scheduler_port) {
  for (const char* name : {"DMLC_RANK", "DMLC_INTERFACE", "DMLC_USE_KUBERNETES",
                           "DMLC_PS_WATER_MARK", "PS_RESEND", "PS_DROP_MSG", "PS_VERBOSE"}) {
    unsetenv(name);
  }
  const std::pair<const char*, std::string> values[] = {
      {"DMLC_NUM_WORKER", "1"},
      {"DMLC_NUM_SERVER", "1"},
      {"DMLC_PS_ROOT_URI", "127.0.0.1"},
      {"DMLC_PS_ROOT_PORT", std::to_string(scheduler_port)},
      {"DMLC_NODE_HOST", "127.0.0.1"},
      {"DMLC_PS_VAN_TYPE", "zmq"},
      {"DMLC_LOCAL", "1"}};  // Unix sockets, faster than TCP
  for (const auto& [name, value] : values) setenv(name, value.c_str(), 1);
}

pid_t start(const std::string& role, int port, const Job& job) {
  const pid_t process = fork();
  if (process < 0) {
    std::perror("ps_lite: cannot start a process");
    std::exit(1);
  }
  if (process > 0) return process;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  alarm(kLimitSeconds);
  setenv("PORT", std::to_string(port).c_str(), 1);
  run_role(role, job);
  std::_Exit(0);
}

}  // namespace

int main(int argument_count, char** arguments) {
  if (argument_count < 6) return 2;
  const auto number = [&](int at) { return static_cast<index_t>(std::atoll(arguments[at])); };
  Job job = {.file = arguments[1],
             .elements = number(2),
             .rounds = number(3),
             .updates = number(4),
             .bucket_bytes = {}};
  for (int at = 5; at < argument_count; ++at) job.bucket_bytes.push_back(number(at));
  const std::vector<int> ports = free_ports();
  set_environment(ports[0]);
  std::map<pid_t, std::string> roles;
  for (const std::string role : {"scheduler", "server", "worker"}) {
    roles[start(role, ports[roles.size()], job)] = role;
  }
  bool failed = false;
  while (!roles.empty()) {
    int status = 0;
    const auto ended = roles.extract(wait(&status));
    if (ended.empty() || status == 0 || failed) continue;
    failed = true;
    std::cerr << "ps_lite: the " << ended.mapped() << " failed, or took longer than "
              << kLimitSeconds << " s" << std::endl;
    // The others would wait for it.
    for (const auto& [process, role] : roles) kill(process, SIGKILL);
  }
  for (const int port : ports) std::filesystem::remove(socket_of(port));
  return failed ? 1 : 0;
}
