#include "launch/supervise/left_out_hosts.hpp"

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "launch/run/live.hpp"
#include "launch/supervise/run_progress.hpp"

namespace weir {
namespace {

constexpr index_t kHostfileBytesMax = 16 << 20;
/// What ranks may take to end after mpirun, and their notes to be seen: a network's file system is
/// asked for them once, since it would remember that one was not there.
constexpr index_t kEndMicroseconds = 3'000'000;

std::string refusal_of(RunConfig config, index_t replicas) {
  config.layout = with_replicas(config.layout, replicas);
  try {
    fit_model_to_data(config);
    check(config);
  } catch (const UsageError& error) {
    return text("with ", replicas, " replicas: ", error.what());
  }
  return {};
}

/// What a job with another number of replicas does not go on with.
std::string begins_anew(const RunConfig& config) {
  std::string anew;
  if (config.server.consistency.mode == ps::Consistency::local) {
    anew += "; the replicas' moments (--consistency local) begin anew";
  }
  if (!config.wire.push.is_raw() || !config.wire.pull.is_raw()) {
    anew += "; the error feedback of the wire begins anew";
  }
  return anew;
}

std::string list_of(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

void write_hostfile(const fs::path& path, const std::vector<HostLine>& hosts) {
  std::string lines;
  for (const HostLine& host : hosts) lines += host.text + '\n';
  replace_file(path, lines);
}

}  // namespace

LeftOutHosts::LeftOutHosts(index_t replicas_min, bool has_slurm_job, const MpirunWords& words)
    : replicas_min_(replicas_min), has_slurm_job_(has_slurm_job) {
  if (replicas_min > 0 && !has_slurm_job && words.hostfile.empty()) {
    throw UsageError(
        "run: --min-replicas lets a host be left out of mpirun's --hostfile, and there is none, or "
        "other options name hosts, too: weir run --min-replicas 2 -- --hostfile FILE train ...");
  }
}

std::string LeftOutHosts::after(const JobEnd& end, const fs::path& run, MpirunWords& words) {
  if (words.one_host) return {};
  std::vector<std::string> without_end;
  std::error_code error;
  if (replicas_min_ > 0 && end.any_began && fs::exists(live_folder(run), error)) {
    sleep_microseconds(kEndMicroseconds);
    without_end = hosts_without_end(live_folder(run));
  }
  const std::vector<std::string> failed = failed_hosts(end, without_end);
  failures_.note(failed);
  const std::vector<std::string> names = failures_.twice(failed);
  if (names.empty()) return {};
  try {
    if (has_slurm_job_) throw Error("under Slurm its allocation says which hosts a job has");
    if (replicas_min_ == 0) throw Error("there is no --min-replicas");
    return leave_out(names, run, words);
  } catch (const Error& error) {
    return text(list_of(names),
                " failed twice, but the job goes on with all hosts: ", error.what());
  }
}

std::string LeftOutHosts::leave_out(const std::vector<std::string>& names, const fs::path& run,
                                    MpirunWords& words) const {
  const std::optional<RunConfig> config = config_of_job(words);
  if (!config) throw Error("the job's configuration cannot be read");
  const std::vector<HostLine> hosts = read_hostfile(read_whole(words.hostfile, kHostfileBytesMax));
  const HostChoice choice =
      without_hosts(hosts, names, config->layout, replicas_min_,
                    [&](index_t replicas) { return refusal_of(*config, replicas); });
  if (!choice.obstacle.empty()) throw Error(choice.obstacle);

  const Layout layout = with_replicas(config->layout, choice.replicas);
  const fs::path hostfile = run / "hostfile.remaining";
  write_hostfile(hostfile, choice.hosts);
  words = with_hosts(std::move(words), hostfile.string(), layout.rank_count());
  words.command = with_option(std::move(words.command), "replicas", text(layout.replicas));
  if (layout.placement == Placement::colocated) {
    words.command = with_option(std::move(words.command), "servers", text(layout.servers));
  }
  const bool has_fewer = layout.replicas < config->layout.replicas;
  return text(list_of(names), " failed twice and is left out from now on. The job goes on with ",
              layout.replicas, has_fewer ? text(" of ", config->layout.replicas) : "",
              " replicas on the hosts in ", hostfile.string(),
              has_fewer ? begins_anew(*config) : "");
}

}  // namespace weir
