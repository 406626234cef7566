#include "benchmarks/ps_lite_peer.hpp"

#include <cstdlib>
#include <fstream>

#include "common/base/error.hpp"
#include "common/base/text.hpp"

namespace weir::benchmark {

PsLitePeer::PsLitePeer(const std::filesystem::path& path) {
  for (const char* part : {"include/ps/ps.h", "build/libps.a"}) {
    if (std::filesystem::exists(path / part)) continue;
    throw Error(text("--ps-lite ", path.string(), ": there is no ", part,
                     "; it has to be a built checkout of dmlc/ps-lite (benchmarks/README.md)"));
  }
  const auto in = [&](const char* part) { return quoted((path / part).string()); };
  // Its own protobuf and ZeroMQ where its makefile has fetched them, else the system's.
  const std::string command =
      text(quoted(WEIR_COMPILER), " -std=c++20 -O3 -march=native -I", in("include"), " -I",
           quoted(WEIR_ROOT), " ", quoted(WEIR_PEERS "/ps_lite.cpp"), " ", quoted(WEIR_PS_LIBRARY),
           " ", quoted(WEIR_COMMON_LIBRARY), " ", in("build/libps.a"), " -L", in("deps/lib"),
           " -Wl,-rpath,", in("deps/lib"), " -lprotobuf-lite -lzmq -lhwy -pthread -o ",
           quoted((scratch_.path() / "ps_lite").string()));
  if (std::system(command.c_str()) != 0) throw Error(text("cannot compile: ", command));
}

std::map<index_t, std::vector<double>> PsLitePeer::run(index_t elements,
                                                       const std::vector<index_t>& bucket_bytes,
                                                       index_t rounds, index_t updates) const {
  const std::filesystem::path file = scratch_.path() / "seconds";
  std::string command = text(quoted((scratch_.path() / "ps_lite").string()), " ",
                             quoted(file.string()), " ", elements, " ", rounds, " ", updates);
  for (const index_t bytes : bucket_bytes) command += text(' ', bytes);
  if (std::system(command.c_str()) != 0) throw Error(text("ps-lite failed: ", command));
  std::map<index_t, std::vector<double>> seconds;
  std::ifstream lines(file);
  index_t bytes = 0;
  double value = 0;
  while (lines >> bytes >> value) seconds[bytes].push_back(value);
  return seconds;
}

}  // namespace weir::benchmark
