#include "tests/faults/recorded_disk.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <optional>
#include <random>
#include <string_view>

namespace weir::test {
namespace {

using Kind = DiskChange::Kind;

bool is_below(const std::string& name, const std::string& folder) {
  return name == folder || name.starts_with(folder + "/");
}

/// A change that is not on the disk yet; `number` orders all of them.
struct PendingWrite {
  std::size_t number;
  std::size_t offset;
  std::string_view bytes;
  bool truncates = false;
};
/// Names of one folder that change together: each is given to a node, or to none.
struct PendingNames {
  std::size_t number;
  std::vector<std::pair<std::string, std::optional<std::size_t>>> names;
};

/// A file or a folder: what is on the disk, and the changes since.
struct DiskNode {
  bool is_folder = false;
  std::map<std::string, std::size_t> names;      ///< on the disk
  std::map<std::string, std::size_t> names_now;  ///< as the program sees them
  std::vector<PendingNames> namings;
  std::string bytes;
  std::vector<PendingWrite> writes;

  static void apply(const PendingNames& naming, std::map<std::string, std::size_t>& names) {
    for (const auto& [name, node] : naming.names) {
      if (node) {
        names[name] = *node;
      } else {
        names.erase(name);
      }
    }
  }
  void change(PendingNames naming) {
    apply(naming, names_now);
    namings.push_back(std::move(naming));
  }
  void settle() {
    for (const PendingNames& naming : namings) apply(naming, names);
    namings.clear();
    for (const PendingWrite& write : writes) {
      if (write.truncates) bytes.clear();
      bytes.resize(std::max(bytes.size(), write.offset + write.bytes.size()));
      bytes.replace(write.offset, write.bytes.size(), write.bytes);
    }
    writes.clear();
  }
};

class SimulatedDisk {
 public:
  void make(const DiskChange& change, std::size_t number) {
    const fs::path path = change.name;
    const auto found = find(change.name);
    if (found && nodes_[*found].is_folder) return;
    if (found) return nodes_[*found].writes.push_back({number, 0, {}, true});
    nodes_.emplace_back().is_folder = change.kind == Kind::make_folder;
    parent_of(change.name).change({number, {{path.filename().string(), nodes_.size() - 1}}});
  }
  void write(const DiskChange& change, std::size_t number) {
    node(change.name).writes.push_back({number, change.offset, change.bytes});
  }
  void sync(const DiskChange& change) { node(change.name).settle(); }
  void rename(const DiskChange& change, std::size_t number) {
    const std::size_t moved = *find(change.name);
    std::optional<std::size_t> back;
    if (change.kind == Kind::exchange) back = find(change.to);
    parent_of(change.to).change({number,
                                 {{fs::path(change.name).filename().string(), back},
                                  {fs::path(change.to).filename().string(), moved}}});
  }
  void remove(const DiskChange& change, std::size_t number) {
    const auto gone = find(change.name);
    if (!gone) return;
    const std::map<std::string, std::size_t> names = nodes_[*gone].names_now;
    for (const auto& [name, ignored] : names) {
      nodes_[*gone].change({number, {{name, std::nullopt}}});
    }
    parent_of(change.name)
        .change({number, {{fs::path(change.name).filename().string(), std::nullopt}}});
  }

  /// What a computer finds that starts from this disk, at which `count` changes were made.
  void restart(Survivors survivors, std::uint64_t seed, std::size_t count, const fs::path& target) {
    std::mt19937_64 random(seed);
    const std::size_t moment = random() % (count + 1);
    for (DiskNode& each : nodes_) {
      lose(each.namings, survivors, moment, random);
      lose(each.writes, survivors, moment, random);
      for (PendingWrite& write : each.writes) {
        const bool is_torn = survivors == Survivors::any && random() % 4 == 0;
        if (is_torn) write.bytes = write.bytes.substr(0, random() % (write.bytes.size() + 1));
      }
      each.settle();
    }
    write_out(nodes_[0], target);
  }

 private:
  std::optional<std::size_t> find(const std::string& name) const {
    std::size_t index = 0;
    for (const fs::path& part : fs::path(name)) {
      const auto found = nodes_[index].names_now.find(part.string());
      if (found == nodes_[index].names_now.end()) return std::nullopt;
      index = found->second;
    }
    return index;
  }
  DiskNode& node(const std::string& name) {
    const auto found = find(name);
    if (!found) throw Error(text("the record of the disk has no ", name));
    return nodes_[*found];
  }
  DiskNode& parent_of(const std::string& name) {
    return node(fs::path(name).parent_path().string());
  }

  template <class Change>
  static void lose(std::vector<Change>& changes, Survivors survivors, std::size_t moment,
                   std::mt19937_64& random) {
    switch (survivors) {
      case Survivors::none:
        return changes.clear();
      case Survivors::all:
        return;
      case Survivors::prefixes:
        changes.erase(changes.begin() + std::ptrdiff_t(random() % (changes.size() + 1)),
                      changes.end());
        return;
      case Survivors::moment:
        std::erase_if(changes, [&](const Change& change) { return change.number >= moment; });
        return;
      case Survivors::any:
        std::erase_if(changes, [&](const Change&) { return random() % 2 == 0; });
    }
  }

  void write_out(const DiskNode& folder, const fs::path& target) const {
    fs::create_directories(target);
    for (const auto& [name, index] : folder.names) {
      if (nodes_[index].is_folder) {
        write_out(nodes_[index], target / name);
      } else {
        std::ofstream(target / name, std::ios::binary) << nodes_[index].bytes;
      }
    }
  }

  std::vector<DiskNode> nodes_ = [] {
    std::vector<DiskNode> root(1);
    root[0].is_folder = true;
    return root;
  }();
};

}  // namespace

std::string words_of(const DiskChange& change) {
  static const char* const names[] = {"make the file",    "make the folder", "write",    "fsync",
                                      "fsync the folder", "rename",          "exchange", "remove"};
  std::string words = text(names[static_cast<int>(change.kind)], ' ', change.name);
  if (!change.to.empty()) words += text(" to ", change.to);
  if (change.kind == Kind::write) {
    words += text(", ", change.bytes.size(), " bytes at ", change.offset);
  }
  return words;
}

std::string name_of(Survivors survivors) {
  switch (survivors) {
    case Survivors::none:
      return "nothing";
    case Survivors::all:
      return "everything";
    case Survivors::prefixes:
      return "the first changes of each file and folder";
    case Survivors::moment:
      return "what was older than some moment";
    case Survivors::any:
      return "any changes, some torn";
  }
  return "";
}

std::size_t RecordedDisk::count() const {
  const std::lock_guard guard(mutex_);
  return recording_.changes.size();
}

void RecordedDisk::promise(const std::string& what, const std::string& version,
                           std::size_t possible_from) {
  const std::lock_guard guard(mutex_);
  recording_.promises.push_back({what, version, possible_from});
}

File RecordedDisk::create(const fs::path& path) {
  const std::lock_guard guard(mutex_);
  File file = real_.create(path);
  known_.insert(name_of(path));
  record({.kind = Kind::make_file, .name = name_of(path)});
  return file;
}

File RecordedDisk::open_for_writing(const fs::path& path) {
  const std::lock_guard guard(mutex_);
  if (known_.insert(name_of(path)).second) {
    record({.kind = Kind::make_file, .name = name_of(path)});
    record(
        {.kind = Kind::write, .name = name_of(path), .bytes = read_whole(path, index_t{1} << 30)});
  }
  return real_.open_for_writing(path);
}

void RecordedDisk::write(const File& file, index_t offset, std::span<const std::byte> bytes) {
  const std::lock_guard guard(mutex_);
  const std::string name = name_of(file.path());
  if (known_.insert(name).second) record({.kind = Kind::make_file, .name = name});
  real_.write(file, offset, bytes);
  record({.kind = Kind::write,
          .name = name,
          .offset = static_cast<std::size_t>(offset),
          .bytes = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size())});
}

void RecordedDisk::sync(const File& file) {
  const std::lock_guard guard(mutex_);
  record({.kind = Kind::sync_file, .name = name_of(file.path())});
}

void RecordedDisk::make_folder(const fs::path& path) {
  const std::lock_guard guard(mutex_);
  real_.make_folder(path);
  record({.kind = Kind::make_folder, .name = name_of(path)});
}

void RecordedDisk::sync_folder(const fs::path& path) {
  const std::lock_guard guard(mutex_);
  if (path != root_ && name_of(path).empty()) return;
  record({.kind = Kind::sync_folder, .name = name_of(path)});
}

void RecordedDisk::rename(const fs::path& from, const fs::path& to) {
  const std::lock_guard guard(mutex_);
  real_.rename(from, to);
  std::set<std::string> moved;
  for (const std::string& name : known_) {
    const bool is_moved = is_below(name, name_of(from));
    moved.insert(is_moved ? name_of(to) + name.substr(name_of(from).size()) : name);
  }
  known_ = std::move(moved);
  record({.kind = Kind::rename, .name = name_of(from), .to = name_of(to)});
}

bool RecordedDisk::exchange(const fs::path& left, const fs::path& right) {
  const std::lock_guard guard(mutex_);
  if (!can_exchange_ || !real_.exchange(left, right)) return false;
  record({.kind = Kind::exchange, .name = name_of(left), .to = name_of(right)});
  return true;
}

void RecordedDisk::remove_all(const fs::path& path) {
  const std::lock_guard guard(mutex_);
  real_.remove_all(path);
  std::erase_if(known_, [&](const std::string& name) { return is_below(name, name_of(path)); });
  record({.kind = Kind::remove, .name = name_of(path)});
}

/// The path below `root`; empty for `root` itself and for all that is not below.
std::string RecordedDisk::name_of(const fs::path& path) const {
  const std::string name = path.lexically_relative(root_).string();
  return name == "." || name.starts_with("..") ? "" : name;
}

void RecordedDisk::record(DiskChange change) {
  change.promise_count = std::ssize(recording_.promises);
  recording_.changes.push_back(std::move(change));
}

void cut_power(const std::vector<DiskChange>& changes, std::size_t count, Survivors survivors,
               std::uint64_t seed, const Forgets& forgets, const fs::path& target) {
  SimulatedDisk disk;
  for (std::size_t at = 0; at < count; ++at) {
    const DiskChange& change = changes[at];
    if (forgets && forgets(change)) continue;
    switch (change.kind) {
      case Kind::make_file:
      case Kind::make_folder:
        disk.make(change, at);
        break;
      case Kind::write:
        disk.write(change, at);
        break;
      case Kind::sync_file:
      case Kind::sync_folder:
        disk.sync(change);
        break;
      case Kind::rename:
      case Kind::exchange:
        disk.rename(change, at);
        break;
      case Kind::remove:
        disk.remove(change, at);
        break;
    }
  }
  disk.restart(survivors, seed, count, target);
}

std::vector<DiskChange> without_rename(std::vector<DiskChange> changes,
                                       const std::function<bool(const std::string&)>& is_target) {
  for (std::size_t at = 0; at < changes.size(); ++at) {
    const DiskChange rename = changes[at];
    const bool moves = rename.kind == Kind::rename || rename.kind == Kind::exchange;
    if (!moves || !is_target(rename.to)) continue;
    const auto is_making = [&](const DiskChange& each) {
      return each.name == rename.name &&
             (each.kind == Kind::make_file || each.kind == Kind::make_folder);
    };
    std::size_t made = at;
    while (made > 0 && !is_making(changes[made])) --made;
    for (std::size_t each = made; each < at; ++each) {
      for (std::string* const name : {&changes[each].name, &changes[each].to}) {
        if (is_below(*name, rename.name)) *name = rename.to + name->substr(rename.name.size());
      }
    }
    // It stays, as a removal of nothing: the counts go on.
    changes[at] = {.kind = Kind::remove, .name = "-", .promise_count = rename.promise_count};
  }
  return changes;
}

}  // namespace weir::test
