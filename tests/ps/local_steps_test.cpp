#include "ps/local_steps.hpp"

#include <doctest/doctest.h>

#include <fstream>

#include "common/io/checkpoint_format.hpp"
#include "tests/common/io/faulty_file_system.hpp"
#include "tests/ps/local_life.hpp"
#include "tests/temporary_folder.hpp"

using namespace weir;
using namespace weir::test;

namespace {

constexpr index_t kSteps = 6;

/// A life whose sides die before that call of their own.
struct MortalLife {
  MortalLife(const fs::path& checkpoints, int server_dies_at, int replica_dies_at)
      : server_files(server_dies_at, true), replica_files(replica_dies_at, true) {
    LocalLife life(checkpoints, kSteps,
                   {server_files, [&] { return server_files.calls() >= server_dies_at; }},
                   {replica_files, [&] { return replica_files.calls() >= replica_dies_at; }});
    killed = !life.run();
  }
  FaultyFileSystem server_files, replica_files;
  bool killed = false;
};

/// The digests of all tensors that server and replica have at the end.
std::vector<std::uint32_t> digests_of(const fs::path& checkpoints) {
  std::vector<std::uint32_t> digests;
  for (const fs::path& each : {checkpoints, ps::replica_checkpoints(checkpoints, 0)}) {
    const CheckpointReader reader(checkpoint_folder(each, kSteps));
    reader.verify();
    for (const RangeDigest& digest : reader.manifest().digests) digests.push_back(digest.crc);
  }
  return digests;
}

}  // namespace

TEST_CASE("local steps: server or replica killed in the midst of saves goes on to the same bits") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  const auto checkpoints = [&](const std::string& name) {
    fs::create_directory(folder / name);
    return folder / name;
  };
  const fs::path whole = checkpoints("whole");
  const MortalLife undisturbed(whole, kNever, kNever);
  REQUIRE_FALSE(undisturbed.killed);
  const std::vector<std::uint32_t> expected = digests_of(whole);
  CHECK(checkpoints_in(whole).size() == 2);

  for (const bool is_server : {true, false}) {
    CAPTURE(is_server);
    const int calls =
        is_server ? undisturbed.server_files.calls() : undisturbed.replica_files.calls();
    for (int fatal = 5; fatal <= calls; fatal += 9) {  // each takes two lives; 1, 1 tries all
      CAPTURE(fatal);
      const fs::path here = checkpoints(text(is_server ? "server-" : "replica-", fatal));
      const MortalLife first(here, is_server ? fatal : kNever, is_server ? kNever : fatal);
      const MortalLife second(here, kNever, kNever);
      REQUIRE_FALSE(second.killed);
      CHECK(digests_of(here) == expected);
      fs::remove_all(here);
    }
  }
}

TEST_CASE(
    "local steps: a replica whose own checkpoint is damaged begins it anew, and the job goes on") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  const MortalLife first(folder.path(), kNever, kNever);
  REQUIRE_FALSE(first.killed);
  const fs::path own = ps::replica_checkpoints(folder.path(), 0);
  const fs::path data = checkpoint_folder(own, kSteps) / "model.h5";
  {
    std::fstream file(data, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(fs::file_size(data)) - 8);
    file.write("damaged!", 8);
  }
  CHECK_THROWS_AS(CheckpointReader(checkpoint_folder(own, kSteps)).verify(), Error);
  const MortalLife second(folder.path(), kNever, kNever);
  CHECK_FALSE(second.killed);
}
