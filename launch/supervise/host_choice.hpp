#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/index.hpp"
#include "common/job/layout.hpp"
#include "launch/supervise/mpirun_job.hpp"

namespace weir {

/// A line of a hostfile.
struct HostLine {
  std::string name = {};  ///< the host, without a user
  index_t slots = 0;      ///< ranks that it may have; 0: the line does not say it
  std::string text = {};  ///< the whole line
};

/// The hosts of a hostfile in mpirun's words: `anna slots=4 max_slots=8`, `me@berta slots=2  #
/// new`. Empty lines and comments are left out.
std::vector<HostLine> read_hostfile(const std::string& text);

/// Whether both are names of one host, as `anna` and `anna.example.org` are.
bool is_same_host(std::string_view left, std::string_view right);

/// The hosts on which a start has failed: those that mpirun has lost or could not reach, else those
/// whose ranks nobody has seen end (hosts_without_end), else the one where a rank was killed first.
/// A rank that ends by itself says nothing about its host.
std::vector<std::string> failed_hosts(const JobEnd& end,
                                      const std::vector<std::string>& without_end);

/// How often each host has failed.
class HostFailures {
 public:
  void note(const std::vector<std::string>& failed);
  /// Those of these hosts on which two starts or more have failed.
  std::vector<std::string> twice(const std::vector<std::string>& hosts) const;

 private:
  std::map<std::string, index_t> counts_;
};

/// The same layout with another number of replicas; colocated, with another number of servers, too.
Layout with_replicas(Layout layout, index_t replicas);

/// A job without some of its hosts: what is left of it.
struct HostChoice {
  std::vector<HostLine> hosts = {};
  index_t replicas = 0;
  std::string obstacle = {};  ///< why no host can be left out; the rest does not count then
};

/// The most replicas, at least `replicas_min` and not more than before, whose ranks have room on
/// the hosts that are left. `refusal_of`: why a job cannot have this number of replicas; empty if
/// it can.
HostChoice without_hosts(const std::vector<HostLine>& hosts,
                         const std::vector<std::string>& left_out, Layout layout,
                         index_t replicas_min,
                         const std::function<std::string(index_t)>& refusal_of);

}  // namespace weir
