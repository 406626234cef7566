#include "tests/common/io/hdf5_datasets.hpp"

#include <array>
#include <string>
#include <string_view>

#include "common/base/error.hpp"
#include "common/io/file.hpp"
#include "common/io/hdf5_handle.hpp"

namespace weir::test {

using namespace hdf5;

namespace {

/// Why the dataset is not plain, or nothing.
std::string_view not_plain(hid_t dataset) {
  const Properties creation(H5Dget_create_plist(dataset));
  const H5D_layout_t layout = H5Pget_layout(creation);
  if (layout == H5D_VIRTUAL) return "is virtual: its data are in other files";
  if (layout == H5D_CHUNKED) return "is stored in chunks";
  if (layout != H5D_CONTIGUOUS) return "is not contiguous";
  if (H5Pget_nfilters(creation) != 0) return "has filters";
  if (H5Pget_external_count(creation) != 0) return "has its data in another file";
  const Type type(H5Dget_type(dataset));
  if (H5Tequal(type, H5T_IEEE_F32LE) <= 0) return "does not hold little-endian 32-bit floats";
  const Space space(H5Dget_space(dataset));
  if (H5Sis_simple(space) <= 0 || H5Sget_simple_extent_type(space) == H5S_NULL) {
    return "has no plain shape";
  }
  return {};
}

std::vector<index_t> shape_of(hid_t dataset) {
  const Space space(H5Dget_space(dataset));
  std::array<hsize_t, H5S_MAX_RANK> extents{};
  const int rank = H5Sget_simple_extent_dims(space, extents.data(), nullptr);
  std::vector<index_t> shape;
  for (int axis = 0; axis < rank; ++axis) {
    shape.push_back(extents[axis]);
  }
  return shape;
}

/// What a walk through all links of a file finds.
struct Links {
  std::vector<std::string> datasets;
  std::string refused;  ///< what is wrong with the first one that is neither group nor dataset
};

/// Called by HDF5 for each link; positive ends the walk.
herr_t visit_link(hid_t root, const char* name, const H5L_info_t* link, void* out) {
  auto& links = *static_cast<Links*>(out);
  if (link->type != H5L_TYPE_HARD) {
    links.refused = text("/", name, " is a link to elsewhere");
    return 1;
  }
  H5O_info_t object;
  if (H5Oget_info_by_name2(root, name, &object, H5O_INFO_BASIC, H5P_DEFAULT) < 0) return -1;
  if (object.type == H5O_TYPE_DATASET && object.rc == 1) {
    links.datasets.push_back(text("/", name));
  } else if (object.type != H5O_TYPE_GROUP) {
    links.refused = text("/", name, object.rc > 1 ? " has several names" : " is no dataset");
    return 1;
  }
  return 0;
}

}  // namespace

List<Hdf5Dataset> hdf5_datasets(const fs::path& file) {
  check_hdf5_signature(file);
  const index_t file_bytes = File::open(file).size();
  start_hdf5();
  const Properties access = file_access();
  const OpenFile open(checked(H5Fopen(file.c_str(), H5F_ACC_RDONLY, access), "open", file));
  Links links;
  checked(H5Lvisit(open, H5_INDEX_NAME, H5_ITER_INC, visit_link, &links), "read", file);
  if (!links.refused.empty()) throw Error(text(file.string(), ": ", links.refused));

  List<Hdf5Dataset> datasets;
  for (const auto& path : links.datasets) {
    const Dataset dataset(checked(H5Dopen2(open, path.c_str(), H5P_DEFAULT), "read", file));
    const auto problem = not_plain(dataset);
    if (!problem.empty()) throw Error(text(file.string(), ": ", path, " ", problem));
    const auto shape = shape_of(dataset);
    const index_t bytes = elements_of(shape) * index_t{sizeof(float)};
    const haddr_t offset = H5Dget_offset(dataset);
    if (offset == HADDR_UNDEF || offset > static_cast<haddr_t>(file_bytes) ||
        bytes > file_bytes - static_cast<index_t>(offset)) {
      throw Error(text(file.string(), ": ", path, " has its data outside of the file: truncated?"));
    }
    datasets.push_back({path, shape, static_cast<index_t>(offset)});
  }
  return datasets;
}

}  // namespace weir::test
