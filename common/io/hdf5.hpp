#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "common/base/attribute.hpp"
#include "common/base/index.hpp"
#include "common/base/list.hpp"

namespace weir {

/// A plain dataset of little-endian f32: row-major, in one piece of the file.
struct Hdf5Dataset {
  std::string path;                        ///< `/model/layers.3.attention.query.weight`
  List<index_t> shape;                     ///< empty: one number
  index_t offset = 0;                      ///< where its first byte is in the file
  std::vector<Attribute> attributes = {};  ///< for people and other programs
};

/// The product of the extents. Throws Error if one is not positive or the bytes are more than a
/// file can have.
index_t elements_of(const List<index_t>& shape);

/// Makes a new file with these datasets, the groups above them, `attributes` of the root (text as
/// UTF-8 of a fixed length, integers as i64, numbers as f64), and room for the data, which hold
/// nothing yet: any process that knows the offsets writes them without HDF5. The format is HDF5's
/// latest, so that its own metadata carry checksums. Each dataset starts on a page of its own. The
/// same datasets and attributes give the same bytes. Sets the offsets. Throws Error if the file
/// exists or cannot be written.
void create_hdf5(const std::filesystem::path& file, List<Hdf5Dataset>& datasets,
                 const std::vector<Attribute>& attributes = {});

/// Throws Error, with the first bytes, if the file does not begin as an HDF5 file does.
void check_hdf5_signature(const std::filesystem::path& file);

}  // namespace weir
