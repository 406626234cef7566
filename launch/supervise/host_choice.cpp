#include "launch/supervise/host_choice.hpp"

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "common/base/error.hpp"

namespace weir {
namespace {

std::string_view short_name(std::string_view name) { return name.substr(0, name.find('.')); }

bool is_among(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::any_of(names,
                             [&](const std::string& each) { return is_same_host(each, name); });
}

index_t slots_of(const std::vector<HostLine>& hosts) {
  index_t slots = 0;
  for (const HostLine& host : hosts) slots += host.slots;
  return slots;
}

}  // namespace

std::vector<HostLine> read_hostfile(const std::string& text) {
  std::vector<HostLine> hosts;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::string words = line.substr(0, line.find('#'));
    std::ranges::replace(words, '=', ' ');  // blanks may stand around it
    std::istringstream parts(words);
    HostLine host = {.text = line};
    if (!(parts >> host.name)) continue;
    host.name.erase(0, host.name.find('@') + 1);
    for (std::string key, value; parts >> key >> value;) {
      if (key == "slots") host.slots = std::atoll(value.c_str());
    }
    hosts.push_back(std::move(host));
  }
  return hosts;
}

bool is_same_host(std::string_view left, std::string_view right) {
  if (left == right) return true;
  const bool both_long =
      left.find('.') != std::string_view::npos && right.find('.') != std::string_view::npos;
  return !both_long && short_name(left) == short_name(right);
}

std::vector<std::string> failed_hosts(const JobEnd& end,
                                      const std::vector<std::string>& without_end) {
  if (!end.lost_hosts.empty()) return end.lost_hosts;
  if (!without_end.empty()) return without_end;
  constexpr int kKilled = 128;
  if (end.failure && end.failure->code > kKilled) return {end.failure->host};
  return {};
}

void HostFailures::note(const std::vector<std::string>& failed) {
  for (const std::string& name : failed) {
    const auto known = std::ranges::find_if(
        counts_, [&](const auto& each) { return is_same_host(each.first, name); });
    ++(known == counts_.end() ? counts_[name] : known->second);
  }
}

std::vector<std::string> HostFailures::twice(const std::vector<std::string>& hosts) const {
  std::vector<std::string> all;
  for (const auto& [name, count] : counts_) {
    if (count > 1 && is_among(hosts, name)) all.push_back(name);
  }
  return all;
}

Layout with_replicas(Layout layout, index_t replicas) {
  layout.replicas = replicas;
  if (layout.placement == Placement::colocated) layout.servers = layout.worker_count();
  return layout;
}

HostChoice without_hosts(const std::vector<HostLine>& hosts,
                         const std::vector<std::string>& left_out, Layout layout,
                         index_t replicas_min,
                         const std::function<std::string(index_t)>& refusal_of) {
  HostChoice choice = {.hosts = hosts};
  std::erase_if(choice.hosts, [&](const HostLine& host) { return is_among(left_out, host.name); });
  if (choice.hosts.size() == hosts.size()) {
    return {.obstacle = "no line of the hostfile has this name"};
  }
  for (const HostLine& host : choice.hosts) {
    if (host.slots > 0) continue;
    return {.obstacle = text("the hostfile does not say how many slots ", host.name, " has")};
  }
  const index_t slots = slots_of(choice.hosts);
  choice.replicas = layout.replicas;
  while (choice.replicas > 0 && with_replicas(layout, choice.replicas).rank_count() > slots) {
    --choice.replicas;
  }
  std::string refusal;
  for (; choice.replicas >= replicas_min && choice.replicas > 0; --choice.replicas) {
    const std::string why = refusal_of(choice.replicas);
    if (why.empty()) return choice;
    if (refusal.empty()) refusal = why;
  }
  if (!refusal.empty()) return {.obstacle = refusal};
  return {.obstacle = text("the ", slots, " slots of the other hosts have room for ",
                           choice.replicas, " replicas, and --min-replicas is ", replicas_min)};
}

}  // namespace weir
