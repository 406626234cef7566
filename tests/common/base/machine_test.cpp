#include "common/base/machine.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <vector>

using namespace weir;

TEST_CASE("the clock goes forward by the time slept") {
  const double begin = seconds_now();
  sleep_microseconds(2000);
  const double elapsed = seconds_now() - begin;
  CHECK(elapsed >= 0.002);
  CHECK(elapsed < 1);
}

TEST_CASE("the peak of resident memory follows what was touched and never falls") {
  const index_t before = peak_resident_bytes();
  CHECK(before > index_t{1} << 20);
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  {
    std::vector<char> block(kBytes, 1);
    CHECK(peak_resident_bytes() >= static_cast<index_t>(kBytes));
  }
  CHECK(peak_resident_bytes() >= static_cast<index_t>(kBytes));
}

TEST_CASE("host, processor and cores have sensible names and counts") {
  CHECK_FALSE(host_name().empty());
  CHECK_FALSE(cpu_name().empty());
  CHECK(cpu_name().find('\n') == std::string::npos);
  CHECK(core_count() >= 1);
  CHECK(core_count() <= sysconf(_SC_NPROCESSORS_CONF));
}
