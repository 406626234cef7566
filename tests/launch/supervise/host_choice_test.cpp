#include "launch/supervise/host_choice.hpp"

#include <doctest/doctest.h>

#include "common/base/error.hpp"

namespace weir::test::host_choice_test {
namespace {

using Names = std::vector<std::string>;

std::vector<HostLine> three_hosts() { return read_hostfile("a slots=2\nb slots=2\nc slots=2\n"); }

std::string allows_all(index_t) { return {}; }
std::string allows_even(index_t replicas) {
  return replicas % 2 == 0 ? "" : text(replicas, " is odd");
}

TEST_CASE("a hostfile has names, slots, users, comments and blanks around the signs") {
  const std::vector<HostLine> hosts = read_hostfile(
      "# ours\n\n  anna slots=4 max_slots=8  # slots=7\nme@berta.net max_slots = 9 slots = "
      "2\ncleo\n");
  REQUIRE(hosts.size() == 3);
  CHECK(hosts[0].name == "anna");
  CHECK(hosts[0].slots == 4);
  CHECK(hosts[0].text == "  anna slots=4 max_slots=8  # slots=7");
  CHECK(hosts[1].name == "berta.net");
  CHECK(hosts[1].slots == 2);
  CHECK(hosts[2].name == "cleo");
  CHECK(hosts[2].slots == 0);
  CHECK(read_hostfile("a slots=x\n")[0].slots == 0);
}

TEST_CASE("a host has one name with and without its domain") {
  CHECK(is_same_host("anna", "anna"));
  CHECK(is_same_host("anna", "anna.net"));
  CHECK(is_same_host("anna.net", "anna"));
  CHECK_FALSE(is_same_host("anna.net", "anna.org"));
  CHECK_FALSE(is_same_host("anna", "ann"));
}

TEST_CASE("lost hosts failed, else those without an end, else the one of the rank killed first") {
  const JobEnd lost = {.code = 250, .failure = RankFailure{137, "b"}, .lost_hosts = {"c"}};
  CHECK(failed_hosts(lost, {"a"}) == Names{"c"});
  CHECK(failed_hosts({.code = 86, .failure = RankFailure{86, "b"}}, {"a"}) == Names{"a"});
  CHECK(failed_hosts({.code = 137, .failure = RankFailure{137, "b"}}, {}) == Names{"b"});
  CHECK(failed_hosts({.code = 86, .failure = RankFailure{86, "b"}}, {}).empty());
  CHECK(failed_hosts({.code = 1, .failure = RankFailure{1, "b"}}, {}).empty());
  CHECK(failed_hosts({.code = 137}, {}).empty());
}

TEST_CASE("hosts that failed in two starts are told from those that failed in one") {
  HostFailures failures;
  failures.note({"a", "b"});
  CHECK(failures.twice({"a", "b"}).empty());
  failures.note({"a.net"});
  CHECK(failures.twice({"a", "b"}) == Names{"a"});
  CHECK(failures.twice({"b"}).empty());
}

TEST_CASE("the most replicas are taken that have room beside the servers, and that divide") {
  const Layout dedicated = {.replicas = 2, .stages = 2, .servers = 2};  // 6 ranks
  const HostChoice one = without_hosts(three_hosts(), {"b.net"}, dedicated, 1, allows_all);
  CHECK(one.obstacle.empty());
  CHECK(one.replicas == 1);
  REQUIRE(one.hosts.size() == 2);
  CHECK(one.hosts[1].text == "c slots=2");
  const Layout colocated = {.replicas = 6, .servers = 6, .placement = Placement::colocated};
  CHECK(without_hosts(three_hosts(), {"a"}, colocated, 1, allows_all).replicas == 4);
  const Layout five = {.replicas = 5, .servers = 1};
  CHECK(without_hosts(three_hosts(), {"a"}, five, 1, allows_all).replicas == 3);
  CHECK(without_hosts(three_hosts(), {"a"}, five, 1, allows_even).replicas == 2);
  CHECK(without_hosts(three_hosts(), {"a", "c"}, five, 1, allows_all).replicas == 1);
}

TEST_CASE("a spare host takes the place of the one that is left out") {
  const Layout layout = {.replicas = 3, .servers = 1};
  CHECK(without_hosts(three_hosts(), {"a"}, layout, 3, allows_all).replicas == 3);
}

TEST_CASE(
    "no host is left out below --min-replicas, where none divides, or where slots are unknown") {
  const Layout five = {.replicas = 5, .servers = 1};
  CHECK(without_hosts(three_hosts(), {"a"}, five, 4, allows_all).obstacle ==
        "the 4 slots of the other hosts have room for 3 replicas, and --min-replicas is 4");
  CHECK(without_hosts(three_hosts(), {"a"}, five, 3, allows_even).obstacle == "3 is odd");
  CHECK(without_hosts(three_hosts(), {"d"}, five, 1, allows_all).obstacle ==
        "no line of the hostfile has this name");
  CHECK(without_hosts(read_hostfile("a slots=2\nb\n"), {"a"}, five, 1, allows_all).obstacle ==
        "the hostfile does not say how many slots b has");
  CHECK(without_hosts(three_hosts(), {"a", "b", "c"}, five, 1, allows_all).obstacle ==
        "the 0 slots of the other hosts have room for 0 replicas, and --min-replicas is 1");
}

}  // namespace
}  // namespace weir::test::host_choice_test
