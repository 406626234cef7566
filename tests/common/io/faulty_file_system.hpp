#pragma once

#include <atomic>
#include <functional>
#include <limits>
#include <utility>

#include "common/base/error.hpp"
#include "common/io/file.hpp"

namespace weir::test {

/// A FaultyFileSystem with this as `fatal` only counts.
constexpr int kNever = std::numeric_limits<int>::max();

/// The real files behind a counter, for any number of threads: call `fatal` fails, and so do all
/// later ones if the process is to look dead; a write tears in the middle.
class FaultyFileSystem final : public FileSystem {
 public:
  FaultyFileSystem(int fatal, bool dies) : fatal_(fatal), dies_(dies) {}
  int calls() const { return calls_; }
  /// Called before each call, instead of the planted fault; what it throws is the call's.
  std::function<void()> fault;
  bool can_exchange = true;  ///< false: like NFS

  File create(const fs::path& path) override { return step(), real_.create(path); }
  File open_for_writing(const fs::path& path) override {
    return step(), real_.open_for_writing(path);
  }
  void preallocate(const File& file, index_t bytes) override {
    step(), real_.preallocate(file, bytes);
  }
  void write(const File& file, index_t offset, std::span<const std::byte> bytes) override {
    if (calls_ + 1 == fatal_) real_.write(file, offset, bytes.first(bytes.size() / 2));
    step(), real_.write(file, offset, bytes);
  }
  void sync(const File& file) override { step(), real_.sync(file); }
  void close(File file) override { step(), real_.close(std::move(file)); }
  void make_folder(const fs::path& path) override { step(), real_.make_folder(path); }
  void sync_folder(const fs::path& path) override { step(), real_.sync_folder(path); }
  void rename(const fs::path& from, const fs::path& to) override { step(), real_.rename(from, to); }
  bool exchange(const fs::path& left, const fs::path& right) override {
    return step(), can_exchange && real_.exchange(left, right);
  }
  void remove_all(const fs::path& path) override { step(), real_.remove_all(path); }

 private:
  void step() {
    const int call = ++calls_;
    if (fault) fault();
    if (call == fatal_ || (dies_ && call > fatal_)) {
      throw Error(text("planted fault in call ", call));
    }
  }

  FileSystem& real_ = posix_file_system();
  std::atomic<int> calls_ = 0;
  int fatal_;
  bool dies_;
};

}  // namespace weir::test
