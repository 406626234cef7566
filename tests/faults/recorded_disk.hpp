#pragma once

#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "common/base/index.hpp"
#include "common/io/file.hpp"

namespace weir::test {

/// A change to the files below a folder; names are paths below it.
struct DiskChange {
  enum class Kind {
    make_file,
    make_folder,
    write,
    sync_file,
    sync_folder,
    rename,
    exchange,
    remove,  ///< with all that is in it
  };
  Kind kind;
  std::string name;
  std::string to = {};  ///< the new name, in rename and exchange
  std::size_t offset = 0;
  std::string bytes = {};
  index_t promise_count = 0;  ///< promises that had been made before it

  bool is_sync() const { return kind == Kind::sync_file || kind == Kind::sync_folder; }
};
std::string words_of(const DiskChange& change);

/// What a program has told others about the disk: from now on it holds this version of something,
/// or a later one, whatever happens.
struct Promise {
  std::string what;
  std::string version;
  std::size_t possible_from = 0;  ///< changes before which the disk cannot hold this version
};

struct Recording {
  std::vector<DiskChange> changes;
  std::vector<Promise> promises;
  /// Promises that had been made when `count` changes were, and the next one was not.
  index_t promises_at(std::size_t count) const {
    return count < changes.size() ? changes[count].promise_count : std::ssize(promises);
  }
};

/// The real files below `root`, and a record of every change to them, from which the disk after a
/// power cut at any moment can be made. Any number of threads may use it. Calls outside of `root`
/// do nothing. What is made without this, as by HDF5, is taken into the record when it is opened
/// for writing.
class RecordedDisk final : public FileSystem {
 public:
  /// can_exchange: false: like NFS.
  explicit RecordedDisk(fs::path root, bool can_exchange = true)
      : root_(std::move(root)), can_exchange_(can_exchange) {}

  std::size_t count() const;  ///< changes so far
  void promise(const std::string& what, const std::string& version, std::size_t possible_from = 0);
  const Recording& recording() const { return recording_; }

  File create(const fs::path& path) override;
  File open_for_writing(const fs::path& path) override;
  void preallocate(const File& file, index_t bytes) override { real_.preallocate(file, bytes); }
  void write(const File& file, index_t offset, std::span<const std::byte> bytes) override;
  void sync(const File& file) override;
  void close(File file) override { real_.close(std::move(file)); }
  void make_folder(const fs::path& path) override;
  void sync_folder(const fs::path& path) override;
  void rename(const fs::path& from, const fs::path& to) override;
  bool exchange(const fs::path& left, const fs::path& right) override;
  void remove_all(const fs::path& path) override;

 private:
  std::string name_of(const fs::path& path) const;
  void record(DiskChange change);

  FileSystem& real_ = posix_file_system();
  fs::path root_;
  bool can_exchange_;
  mutable std::mutex mutex_;
  std::set<std::string> known_;  ///< files that are in the record
  Recording recording_;
};

/// What of the changes that were not brought to the disk survives a power cut. A new or changed
/// name is safe once its folder was brought to the disk, a file's bytes once the file was.
enum class Survivors {
  none,
  all,
  prefixes,  ///< the first changes of each folder and each file, a random number of them
  moment,    ///< what had been changed at some moment before
  any,       ///< any of them, in any combination; writes may be torn
};
std::string name_of(Survivors survivors);

/// What a broken protocol leaves out: true for a change that is not made.
using Forgets = std::function<bool(const DiskChange&)>;

/// Makes `target` hold what was below `root` if the power had failed after `count` changes.
void cut_power(const std::vector<DiskChange>& changes, std::size_t count, Survivors survivors,
               std::uint64_t seed, const Forgets& forgets, const fs::path& target);

/// The same changes by a program that writes at once where it should write under another name and
/// rename: `is_target` tells the names that it never gives by a rename.
std::vector<DiskChange> without_rename(std::vector<DiskChange> changes,
                                       const std::function<bool(const std::string&)>& is_target);

}  // namespace weir::test
