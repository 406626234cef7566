#include "worker/data/file_list.hpp"

#include <glob.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "common/base/error.hpp"
#include "common/io/file.hpp"

namespace weir::worker {
namespace {

constexpr index_t kListBytesMax = index_t{64} << 20;

/// Finds files and keeps what it has found.
class Finder {
 public:
  FileList take() { return std::move(found_); }

  /// `from` says where the item was written, for errors: ` (line 3 of list.txt)`, or nothing.
  void add(const std::string& item, const std::string& from) {
    const fs::file_type type = type_of(item);
    if (type == fs::file_type::directory) {
      add_all(item, files_in(item), from);
    } else if (type != fs::file_type::not_found) {
      add_file(item, type, from);
    } else if (item.find_first_of("*?[") != std::string::npos) {
      add_all(item, files_that_fit(item), from);
    } else {
      throw Error(text("cannot open ", item, ": there is no such file or folder", from));
    }
  }

  void add_list(const std::string& path) {
    const fs::path folder = fs::path(path).parent_path();
    std::istringstream lines(read_whole(path, kListBytesMax));
    index_t number = 1;
    for (std::string line; std::getline(lines, line); ++number) {
      if (line.ends_with('\r')) line.pop_back();
      if (line.empty() || line.starts_with('#')) continue;
      add((folder / line).string(), text(" (line ", number, " of ", path, ")"));
    }
  }

 private:
  /// Follows links. Throws Error if the system does not tell.
  static fs::file_type type_of(const std::string& path) {
    std::error_code error;
    const fs::file_type type = fs::status(path, error).type();
    if (type == fs::file_type::none) {
      throw Error(text("cannot open ", path, ": ", error.message()));
    }
    return type;
  }

  static std::vector<std::string> files_in(const std::string& folder) {
    std::vector<std::string> names;
    std::error_code error;
    fs::directory_iterator entry(folder, error);
    for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
      const fs::path& path = entry->path();
      if (!path.filename().string().starts_with('.')) names.push_back(path.string());
    }
    if (error) throw Error(text("cannot read the folder ", folder, ": ", error.message()));
    return names;
  }

  static std::vector<std::string> files_that_fit(const std::string& pattern) {
    glob_t found{};
    // No escapes: a list has its own.
    const int result = glob(pattern.c_str(), GLOB_NOSORT | GLOB_NOESCAPE, nullptr, &found);
    std::vector<std::string> names;
    if (result == 0) names.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
    globfree(&found);
    if (result != 0 && result != GLOB_NOMATCH) {
      throw Error(text("cannot look for ", pattern, ": a folder cannot be read"));
    }
    return names;
  }

  void add_all(const std::string& item, std::vector<std::string> names, const std::string& from) {
    std::ranges::sort(names);
    const std::size_t before = found_.paths.size();
    index_t folder_count = 0, empty_count = 0;
    for (const std::string& name : names) {
      const fs::file_type type = type_of(name);
      if (type == fs::file_type::directory) {
        ++folder_count;
      } else if (type == fs::file_type::regular && File::open(name).size() == 0) {
        ++empty_count;
      } else {
        add_file(name, type, from);
      }
    }
    if (found_.paths.size() == before) {
      throw Error(text("no file to read in ", item, from, ": there are ", folder_count,
                       " folders and ", empty_count, " empty files; name what is to be read"));
    }
    if (folder_count > 0) {
      found_.warnings.push_back(
          text(item, ": ", folder_count, " folders in it are not read; name them, too"));
    }
    if (empty_count > 0) {
      found_.warnings.push_back(text(item, ": ", empty_count, " empty files are passed over"));
    }
  }

  void add_file(const std::string& path, fs::file_type type, const std::string& from) {
    if (type != fs::file_type::regular) {
      throw Error(text("read ", path, from, ": it is ", name_of(type),
                       "; data are read again whenever a run is resumed or scored, so write them "
                       "into a file and name that"));
    }
    found_.paths.push_back(path);
  }

  FileList found_;
};

/// If some of the items, with a comma between them, are the name of a file: what to write instead.
std::string comma_hint(const std::vector<std::string>& items) {
  constexpr std::size_t kCommasMax = 8;
  for (std::size_t first = 0; first < items.size(); ++first) {
    std::string name = items[first];
    for (std::size_t last = first + 1; last < items.size() && last <= first + kCommasMax; ++last) {
      name += "," + items[last];
      std::error_code ignored;
      if (fs::exists(name, ignored)) {
        return text("; for the file ", name, " write '", list_of({name}),
                    "', in quotes: a comma alone separates files");
      }
    }
  }
  return "";
}

}  // namespace

std::vector<std::string> items_of(const std::string& list) {
  std::vector<std::string> items = {""};
  for (std::size_t at = 0; at < list.size(); ++at) {
    const bool escapes =
        list[at] == '\\' && at + 1 < list.size() && (list[at + 1] == ',' || list[at + 1] == '\\');
    if (list[at] == ',') {
      items.emplace_back();
    } else {
      items.back() += list[escapes ? ++at : at];
    }
  }
  std::erase(items, "");
  return items;
}

std::string list_of(const std::vector<std::string>& items) {
  std::string list;
  for (const std::string& item : items) {
    if (!list.empty()) list += ',';
    for (const char letter : item) {
      if (letter == ',' || letter == '\\') list += '\\';
      list += letter;
    }
  }
  return list;
}

FileList find_files(const std::string& list) {
  const std::vector<std::string> items = items_of(list);
  Finder finder;
  try {
    for (const std::string& item : items) {
      if (item.starts_with('@')) {
        finder.add_list(item.substr(1));
      } else {
        finder.add(item, "");
      }
    }
  } catch (const Error& error) {
    const std::string hint = comma_hint(items);
    if (hint.empty()) throw;
    throw Error(error.what() + hint, error.code());
  }
  return finder.take();
}

}  // namespace weir::worker
