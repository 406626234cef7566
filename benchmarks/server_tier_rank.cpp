#include "benchmarks/server_tier_rank.hpp"

#include <iostream>

#include "benchmarks/server_tier_measures.hpp"
#include "common/base/machine.hpp"
#include "common/net/agree.hpp"

namespace weir::benchmark {
namespace {

constexpr const char* kAsRank = "--as-rank";

void measure_all(TierTeam& team) {
  for (index_t round = 0; round < team.job().rounds; ++round) {
    measure_memory(team);
    measure_servers(team);
    measure_messages(team);
    for (const index_t bytes : team.job().bucket_bytes) {
      for (const Transport transport : {Transport::window, Transport::messages}) {
        measure_burst(team, transport, bytes);
      }
    }
    for (const Transport transport : {Transport::window, Transport::messages}) {
      measure_paced(team, transport);
    }
    if (team.layout().placement == Placement::colocated) measure_allreduce(team);
  }
  team.world().barrier();
}

}  // namespace

std::string command_of(const TierJob& job, const std::string& program,
                       const std::filesystem::path& file) {
  const index_t ranks = layout_of(job).rank_count();
  // The settings are those of `weir run` for one host, but each rank is bound to a core if
  // there are enough cores: two ranks that wait for each other must not share one.
  std::string command =
      text("OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 ",
           "OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=",
           ranks <= core_count() ? "core" : "none",
           " OMPI_MCA_mpi_yield_when_idle=", ranks - 1 <= core_count() ? 0 : 1,
           " mpirun --quiet -n ", ranks, " '", program, "' ", kAsRank, " '", file.string(), "' ",
           job.workers, ' ', job.servers, ' ', job.elements, ' ', job.rounds, ' ', job.updates);
  for (const index_t bytes : job.bucket_bytes) command += text(' ', bytes);
  return command;
}

bool is_tier_rank(int argument_count, char** arguments) {
  return argument_count > 8 && std::string(arguments[1]) == kAsRank;
}

int run_tier_rank(int argument_count, char** arguments) {
  Session session(argument_count, arguments);
  try {
    const auto number = [&](int at) { return static_cast<index_t>(std::stoll(arguments[at])); };
    TierJob job = {.workers = number(3),
                   .servers = number(4),
                   .elements = number(5),
                   .bucket_bytes = {},
                   .rounds = number(6),
                   .updates = number(7)};
    for (int at = 8; at < argument_count; ++at) job.bucket_bytes.push_back(number(at));
    TierTeam team(job, arguments[2]);
    measure_all(team);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "server_tier: " << error.what() << std::endl;
    abort_job(1);
  }
}

}  // namespace weir::benchmark
