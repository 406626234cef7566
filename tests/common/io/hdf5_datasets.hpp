#pragma once

#include <filesystem>
#include <vector>

#include "common/io/hdf5.hpp"

namespace weir::test {

/// All datasets of a file, by path. Throws Error for anything but groups and plain datasets of f32:
/// links to elsewhere, chunks, filters, other types, data outside of the file. Reads no attributes,
/// and loads no plugins.
List<Hdf5Dataset> hdf5_datasets(const std::filesystem::path& file);

}  // namespace weir::test
