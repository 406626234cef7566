#pragma once

#include <algorithm>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "common/io/file.hpp"

namespace weir::test {

/// What of the changes that were not brought to the disk survives a power cut.
enum class Survivors {
  none,
  all,
  prefixes,  ///< the first changes of each folder and each file, a random number of them
  any,       ///< any of them, in any combination; the last write of a file may be torn
};

/// What the simulated disk does not do, though it was told to: a sweep must find that.
struct Broken {
  bool forgets_file_syncs = false;
  bool forgets_folder_syncs = false;
};

/// The real files below `root`, and a record of every change to them, from which the disk after a
/// power cut at any moment can be made. A new or changed name outlives the cut if its folder was
/// brought to the disk since, a file's bytes if the file was. Calls outside of `root` do nothing.
/// What HDF5 makes by itself is taken into the record when it is opened for writing.
class RecordedDisk final : public FileSystem {
 public:
  explicit RecordedDisk(fs::path root) : root_(std::move(root)) {}

  /// How many changes there were so far; a power cut comes after some of them.
  std::size_t count() const { return changes_.size(); }

  /// Makes `target` hold what was below `root` if the power had failed after `count` changes.
  void cut_power(std::size_t count, Survivors survivors, unsigned seed, Broken broken,
                 const fs::path& target) const {
    Disk disk(survivors, seed, broken);
    for (std::size_t at = 0; at < count; ++at) changes_[at](disk);
    disk.restart(target);
  }

  File create(const fs::path& path) override {
    File file = real_.create(path);
    known_.insert(name_of(path));
    record([name = name_of(path)](Disk& disk) { disk.make(name, false); });
    return file;
  }
  File open_for_writing(const fs::path& path) override {
    if (!known_.contains(name_of(path))) {
      const std::string bytes = read_whole(path, index_t{1} << 30);
      record([name = name_of(path), bytes](Disk& disk) {
        disk.make(name, false);
        disk.change(name, {0, bytes});
      });
      known_.insert(name_of(path));
    }
    return real_.open_for_writing(path);
  }
  void preallocate(const File& file, index_t bytes) override { real_.preallocate(file, bytes); }
  void write(const File& file, index_t offset, std::span<const std::byte> bytes) override {
    real_.write(file, offset, bytes);
    const std::string copy(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    record([name = name_of(file.path()), offset, copy](Disk& disk) {
      disk.change(name, {static_cast<std::size_t>(offset), copy});
    });
  }
  void sync(const File& file) override {
    real_.sync(file);
    record([name = name_of(file.path())](Disk& disk) { disk.sync_file(name); });
  }
  void close(File file) override { real_.close(std::move(file)); }
  void make_folder(const fs::path& path) override {
    real_.make_folder(path);
    record([name = name_of(path)](Disk& disk) { disk.make(name, true); });
  }
  void sync_folder(const fs::path& path) override {
    if (path != root_ && name_of(path).empty()) return;
    record([name = name_of(path)](Disk& disk) { disk.sync_folder(name); });
  }
  void rename(const fs::path& from, const fs::path& to) override {
    real_.rename(from, to);
    record([from = name_of(from), to = name_of(to)](Disk& disk) { disk.rename(from, to, false); });
  }
  bool exchange(const fs::path& left, const fs::path& right) override {
    if (!real_.exchange(left, right)) return false;
    record([left = name_of(left), right = name_of(right)](Disk& disk) {
      disk.rename(left, right, true);
    });
    return true;
  }
  void remove_all(const fs::path& path) override {
    real_.remove_all(path);
    std::erase_if(known_, [below = name_of(path)](const std::string& name) {
      return name.starts_with(below);
    });
    record([name = name_of(path)](Disk& disk) { disk.remove(name); });
  }

 private:
  struct Write {
    std::size_t offset = 0;
    std::string bytes;
  };
  /// Names of one folder that change together: each is given to a node, or to none.
  using Naming = std::vector<std::pair<std::string, std::optional<std::size_t>>>;

  /// A file or a folder: what is on the disk, and the changes since.
  struct Node {
    bool is_folder = false;
    std::map<std::string, std::size_t> names;
    std::vector<Naming> namings;
    std::string bytes;
    std::vector<Write> writes;

    void apply(const Naming& naming) {
      for (const auto& [name, node] : naming) {
        if (node) {
          names[name] = *node;
        } else {
          names.erase(name);
        }
      }
    }
    void apply(const Write& write) {
      bytes.resize(std::max(bytes.size(), write.offset + write.bytes.size()));
      bytes.replace(write.offset, write.bytes.size(), write.bytes);
    }
    void settle() {
      for (const Naming& naming : std::exchange(namings, {})) apply(naming);
      for (const Write& write : std::exchange(writes, {})) apply(write);
    }
    std::map<std::string, std::size_t> names_now() const {
      Node now = *this;
      now.settle();
      return now.names;
    }
  };

  class Disk {
   public:
    Disk(Survivors survivors, unsigned seed, Broken broken)
        : survivors_(survivors), broken_(broken), random_(seed) {}

    void make(const std::string& name, bool is_folder) {
      nodes_.push_back(
          {.is_folder = is_folder, .names = {}, .namings = {}, .bytes = {}, .writes = {}});
      node(parent_of(name)).namings.push_back({{last_of(name), nodes_.size() - 1}});
    }
    void change(const std::string& name, Write write) {
      node(name).writes.push_back(std::move(write));
    }
    void sync_file(const std::string& name) {
      if (!broken_.forgets_file_syncs) node(name).settle();
    }
    void sync_folder(const std::string& name) {
      if (!broken_.forgets_folder_syncs) node(name).settle();
    }
    void rename(const std::string& from, const std::string& to, bool exchanged) {
      const std::size_t moved = index_of(from);
      std::optional<std::size_t> back;
      if (exchanged) back = index_of(to);
      node(parent_of(to)).namings.push_back({{last_of(from), back}, {last_of(to), moved}});
    }
    void remove(const std::string& name) {
      Node& parent = node(parent_of(name));
      if (!parent.names_now().contains(last_of(name))) return;
      Node& gone = node(name);
      for (const auto& [each, ignored] : gone.names_now()) {
        gone.namings.push_back({{each, std::nullopt}});
      }
      parent.namings.push_back({{last_of(name), std::nullopt}});
    }

    /// What a computer finds that starts from this disk.
    void restart(const fs::path& target) {
      for (Node& each : nodes_) {
        lose(each.namings);
        if (survivors_ == Survivors::any && !each.writes.empty() && random_() % 2 == 0) {
          std::string& last = each.writes.back().bytes;
          last.resize(last.size() / 2);
        }
        lose(each.writes);
        each.settle();
      }
      write_out(nodes_[0], target);
    }

   private:
    static std::string parent_of(const std::string& name) {
      return fs::path(name).parent_path().string();
    }
    static std::string last_of(const std::string& name) {
      return fs::path(name).filename().string();
    }
    std::size_t index_of(const std::string& name) const {
      std::size_t index = 0;
      for (const fs::path& part : fs::path(name)) {
        index = nodes_[index].names_now().at(part.string());
      }
      return index;
    }
    Node& node(const std::string& name) { return nodes_[index_of(name)]; }

    template <class Change>
    void lose(std::vector<Change>& changes) {
      switch (survivors_) {
        case Survivors::none:
          return changes.clear();
        case Survivors::all:
          return;
        case Survivors::prefixes:
          return changes.resize(random_() % (changes.size() + 1));
        case Survivors::any:
          std::erase_if(changes, [&](const Change&) { return random_() % 2 == 0; });
      }
    }

    void write_out(const Node& folder, const fs::path& target) const {
      fs::create_directories(target);
      for (const auto& [name, index] : folder.names) {
        if (nodes_[index].is_folder) {
          write_out(nodes_[index], target / name);
        } else {
          std::ofstream(target / name, std::ios::binary) << nodes_[index].bytes;
        }
      }
    }

    Survivors survivors_;
    Broken broken_;
    std::mt19937 random_;
    std::vector<Node> nodes_ = {
        {.is_folder = true, .names = {}, .namings = {}, .bytes = {}, .writes = {}}};
  };

  /// The path below `root`; empty for `root` itself and for all that is not below.
  std::string name_of(const fs::path& path) const {
    const std::string name = path.lexically_relative(root_).string();
    return name == "." || name.starts_with("..") ? "" : name;
  }
  void record(std::function<void(Disk&)> change) { changes_.push_back(std::move(change)); }

  FileSystem& real_ = posix_file_system();
  fs::path root_;
  std::set<std::string> known_;  ///< files that are in the record
  std::vector<std::function<void(Disk&)>> changes_;
};

}  // namespace weir::test
