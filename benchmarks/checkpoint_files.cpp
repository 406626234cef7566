// How fast checkpoints are written and read, and what others need for the same bytes.
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "benchmarks/checkpoint_measures.hpp"
#include "benchmarks/job.hpp"
#include "benchmarks/torch_peer.hpp"
#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/base/text.hpp"
#include "common/io/checkpoint_format.hpp"
#include "common/io/digest.hpp"
#include "common/number/memory.hpp"

namespace weir::benchmark {
namespace {

constexpr index_t kBucketElements = index_t{1} << 17;  // as servers write, bucket by bucket

List<CheckpointRecord> records_of(const StateSize& size) {
  List<CheckpointRecord> records;
  for (const char* const group : {"/model/", "/optimizer/mean/", "/optimizer/variance/"}) {
    for (index_t each = 0; each < size.matrices; ++each) {
      records.push_back(
          {.name = text(group, "layers.", each, ".weight"), .shape = {size.side, size.side}});
    }
  }
  return records;
}

/// Bits without a pattern that a disk could make smaller, as finite numbers.
void fill(std::span<float> values) {
  std::uint64_t state = 1;
  for (float& value : values) {
    state = state * 6364136223846793005 + 1442695040888963407;
    value = static_cast<float>(static_cast<std::int64_t>(state)) * 1e-20F;
  }
}

class Trial {
 public:
  Trial(const StateSize& size, const fs::path& folder)
      : size_(size),
        folder_(folder),
        checkpoints_(folder / "checkpoints"),
        values_(size.tensors() * size.tensor_elements()),
        loaded_(values_.size()),
        folder_file_(open_file(folder, O_RDONLY | O_DIRECTORY, "cannot open the folder")) {
    fill(values_.span());
  }

  /// One more checkpoint; the one before goes.
  void write(FileTimes& times) {
    FileSystem& files = posix_file_system();
    settle();
    List<CheckpointRecord> records = records_of(size_);
    const double begin = seconds_now();
    begin_checkpoint(files, checkpoints_, step_ + 1, records);
    const double made = seconds_now();
    CheckpointWriter writer(files, checkpoints_, step_ + 1, records);
    for (index_t record = 0; record < records.size(); ++record) {
      const std::span<const float> values = tensor(values_, record);
      for (index_t at = 0; at < std::ssize(values); at += kBucketElements) {
        const index_t count = std::min<index_t>(kBucketElements, std::ssize(values) - at);
        writer.write(record, at, values.subspan(at, count));
      }
    }
    const double written = seconds_now();
    Manifest manifest;
    manifest.step = ++step_;
    manifest.records = records;
    manifest.digests = writer.finish();
    commit_checkpoint(files, checkpoints_, manifest);
    const double end = seconds_now();
    times.write.push_back(end - begin);
    times.write_parts[0].push_back(made - begin);
    times.write_parts[1].push_back(written - made);
    times.write_parts[2].push_back(end - written);
    if (step_ > 1) files.remove_all(checkpoint_folder(checkpoints_, step_ - 1));
  }

  double dd() {
    const fs::path copy = folder_ / "copy";
    settle();
    const std::string command =
        text("dd if=", quoted(data_file()), " of=", quoted(copy), " bs=1M conv=fsync 2>/dev/null");
    const double begin = seconds_now();
    if (std::system(command.c_str()) != 0) throw Error(text("failed: ", command));
    const double seconds = seconds_now() - begin;
    fs::remove(copy);
    return seconds;
  }

  void read(FileTimes& times) {
    const CheckpointReader reader(newest());
    times.verify.push_back(seconds_of([&] { reader.verify(); }));
    times.load.push_back(seconds_of([&] {
      for (index_t record = 0; record < size_.tensors(); ++record) {
        reader.read(record, 0, tensor(loaded_, record));
      }
    }));
    const File file = File::open(data_file());
    const List<CheckpointRecord>& records = reader.manifest().records;
    times.read.push_back(seconds_of([&] {
      for (index_t record = 0; record < records.size(); ++record) {
        const std::span<float> values = tensor(loaded_, record);
        for (index_t at = 0; at < std::ssize(values); at += kDigestElements) {
          const index_t count = std::min<index_t>(kDigestElements, std::ssize(values) - at);
          file.read(records[record].offset + 4 * at,
                    std::as_writable_bytes(values.subspan(at, count)));
        }
      }
    }));
    times.crc.push_back(seconds_of([&] { crc_ ^= crc32c(std::as_bytes(loaded_.span())); }));
  }

  /// Those of peers/checkpoint.py that are installed.
  void run_peers(FileTimes& times) {
    settle();
    const std::string arguments =
        text("--folder ", quoted(folder_), " --data ", quoted(data_file()), " --tensors ",
             size_.tensors(), " --elements ", size_.tensor_elements());
    for (const std::string& line : lines_of_peer("checkpoint.py", arguments)) {
      const auto json = nlohmann::json::parse(line);
      FileTimes::Peer& peer = times.peers[json.at("peer")];
      peer.version = json.at("version");
      peer.write.push_back(json.at("write_s"));
      peer.load.push_back(json.at("load_s"));
    }
  }

 private:
  std::span<float> tensor(Buffer& of, index_t record) {
    return of.span().subspan(record * size_.tensor_elements(), size_.tensor_elements());
  }

  template <class Work>
  static double seconds_of(const Work& work) {
    const double begin = seconds_now();
    work();
    return seconds_now() - begin;
  }

  /// What was removed is off the disk before the next clock starts.
  void settle() const { syncfs(folder_file_.descriptor()); }

  fs::path newest() const { return checkpoint_folder(checkpoints_, step_); }
  fs::path data_file() const { return newest() / "model.h5"; }

  StateSize size_;
  fs::path folder_;
  fs::path checkpoints_;
  Buffer values_, loaded_;
  File folder_file_;
  index_t step_ = 0;
  std::uint32_t crc_ = 0;
};

}  // namespace

FileTimes measure_files(const StateSize& size, const fs::path& folder, index_t rounds,
                        bool with_peers) {
  FileTimes times;
  Trial trial(size, folder);
  trial.write(times);  // warms up
  times = {};
  for (index_t round = 0; round < rounds; ++round) {
    trial.write(times);
    times.dd.push_back(trial.dd());
    trial.read(times);
    if (with_peers) trial.run_peers(times);
  }
  return times;
}

}  // namespace weir::benchmark
