#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "common/base/index.hpp"

namespace weir::benchmark {

/// What the checkpoints of a benchmark hold: square matrices of weights, and AdamW's two moments
/// of each.
struct StateSize {
  index_t matrices;  ///< weights
  index_t side;      ///< rows of each

  index_t tensors() const { return 3 * matrices; }
  index_t tensor_elements() const { return side * side; }
  index_t bytes() const { return 4 * tensors() * tensor_elements(); }
};

/// Seconds, repeat by repeat.
using Times = std::vector<double>;

/// A server with one worker in one thread, whose every fourth update has a checkpoint.
struct StallTimes {
  Times updates;         ///< all buckets summed, decided and stepped; without a checkpoint
  Times stalls;          ///< what one with a checkpoint takes beyond that; the server is idle then
  Times stalls_at_once;  ///< what it and the next one take, if that comes at once
  double first_stall;    ///< the first checkpoint's, which also makes room for copies, as the last
  Times copy_gigabytes;  ///< GB/s of memcpy between large buffers, beside each save
};
StallTimes measure_stall(const StateSize& size, const std::filesystem::path& folder, index_t saves);

/// Checkpoints of `size` written and read by one thread with the functions that servers use, in
/// turns with others that bring the same bytes to the same disk.
struct FileTimes {
  Times write;           ///< to the commit
  Times write_parts[3];  ///< room on the disk; data and digests; fsync and commit
  Times dd;              ///< dd with fsync
  Times verify;          ///< all digests, from the page cache
  Times load;            ///< the same into memory of its own
  Times read;            ///< pread of the same ranges, no digests
  Times crc;             ///< CRC-32C of the same bytes in memory
  /// What else wrote and loaded the same bytes.
  struct Peer {
    std::string version;
    Times write, load;
  };
  std::map<std::string, Peer> peers;  ///< each by its name
};
FileTimes measure_files(const StateSize& size, const std::filesystem::path& folder, index_t rounds,
                        bool with_peers);

/// The model of a training job, and how often it saves.
struct JobSize {
  index_t layers, width, length;
  index_t checkpoint_every;  ///< steps

  std::vector<std::string> options(const std::string& corpus) const;
};

/// Seconds from the SIGKILL of a rank on.
struct RestartTimes {
  Times named;     ///< the rank that died is named
  Times ended;     ///< mpirun has ended, and is started again
  Times verified;  ///< the newest checkpoint is found and read to the end
  Times loaded;    ///< all is ready for the first step
  Times stepped;   ///< that step is done
};
/// Kills the worker of a job of one worker and one server, `kills` times, each time after a
/// checkpoint was committed.
RestartTimes measure_restarts(const JobSize& size, const std::filesystem::path& folder,
                              const std::string& corpus, index_t kills);

/// What saves take away from a whole job.
struct JobTimes {
  index_t state_bytes;  ///< weights and moments
  Times steps;          ///< those that no save disturbs
  Times saves;          ///< what the steps with and after a checkpoint take beyond that
};
/// Trains on two ranks until `saves` checkpoints have been made, besides the first and the last.
/// Half of `checkpoint_every` steps have to be longer than a save.
JobTimes measure_job(const JobSize& size, const std::vector<std::string>& layout,
                     const std::string& corpus, index_t saves);

}  // namespace weir::benchmark
