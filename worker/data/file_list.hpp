#pragma once

#include <string>
#include <vector>

namespace weir::worker {

/// A list of files as `--data.files` takes it: items with commas between them. In an item `\,` is
/// a comma and `\\` a backslash; any other backslash stands for itself. Empty items do not count.
std::vector<std::string> items_of(const std::string& list);

/// The list of these items: items_of reads it back.
std::string list_of(const std::vector<std::string>& items);

/// What a list of files names.
struct FileList {
  std::vector<std::string> paths;     ///< the order is that in which they are read
  std::vector<std::string> warnings;  ///< what a folder or a pattern holds that is not read
};

/// Finds the files of a list. An item is
///
///   a path       that file; the name of a file that exists is never a pattern
///   a folder     all files in it, less hidden ones and those in its sub-folders
///   a pattern    with * ? or [: all files that fit, as in a shell
///   @FILE        a file that lists paths, folders and patterns, one a line. Relative ones start
///                from the folder of FILE. Empty lines and lines that start with # do not count.
///
/// What a folder or a pattern names is sorted by bytes, so that all hosts read the same text
/// whatever their locale; empty files among them are skipped. Throws Error, naming the item, if
/// something does not exist, fits nothing, or is a pipe, a device or a socket.
FileList find_files(const std::string& list);

}  // namespace weir::worker
