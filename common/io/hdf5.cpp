#include "common/io/hdf5.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "common/base/error.hpp"
#include "common/io/digest.hpp"
#include "common/io/file.hpp"
#include "common/io/hdf5_handle.hpp"

namespace weir {

namespace hdf5 {

void fail(std::string_view doing, const fs::path& file) {
  std::string reason = "unknown reason";
  const auto keep = [](unsigned, const H5E_error2_t* error, void* out) -> herr_t {
    if (error->desc != nullptr) *static_cast<std::string*>(out) = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep, &reason);
  const std::string begin = text("cannot ", doing, " ", file.string(), ": ");
  constexpr std::string_view kNumber = "errno = ";
  if (const auto at = reason.find(kNumber); at != std::string::npos) {
    const int number = std::atoi(reason.c_str() + at + kNumber.size());
    throw FileError(begin + std::strerror(number), number);
  }
  throw Error(begin + reason);
}

void start_hdf5() {
  // Whatever is open is closed by its owner. After a failed close HDF5 keeps the file's id with
  // memory that is gone, and its own handler at exit would die of it. Only the first call counts.
  H5dont_atexit();
  // Errors become ours instead of a page on stderr. Set for this thread, so each time.
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  H5PLset_loading_state(0);
}

Properties file_access() {
  Properties access(H5Pcreate(H5P_FILE_ACCESS));
  H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
  H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
  // The run folder's lock keeps others away; HDF5's own fails on network file systems.
  H5Pset_file_locking(access, false, true);
  return access;
}

}  // namespace hdf5

using namespace hdf5;

namespace {

/// Objects are made without timestamps, so that the same datasets give the same bytes. Attributes,
/// however many there are, stay in the object's header, whose checksum covers them.
Properties creation_of(hid_t kind) {
  Properties creation(H5Pcreate(kind));
  H5Pset_obj_track_times(creation, false);
  constexpr unsigned kAttributesMax = 1000;
  H5Pset_attr_phase_change(creation, kAttributesMax, 0);
  return creation;
}

/// Makes the groups above a dataset that are not there yet.
void make_groups(hid_t open, const std::string& dataset, const fs::path& file) {
  const Properties creation = creation_of(H5P_GROUP_CREATE);
  for (auto end = dataset.find('/', 1); end != std::string::npos;
       end = dataset.find('/', end + 1)) {
    const std::string path = dataset.substr(0, end);
    if (H5Lexists(open, path.c_str(), H5P_DEFAULT) > 0) continue;
    const std::string doing = text("make the group ", path, " in");
    const Group made(
        checked(H5Gcreate2(open, path.c_str(), H5P_DEFAULT, creation, H5P_DEFAULT), doing, file));
  }
}

constexpr std::array<unsigned char, 8> kSignature = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};

/// A type in the file and the bytes of a value.
struct Stored {
  Type type;
  std::string bytes;
};

Stored stored(const std::variant<std::string, index_t, double>& value) {
  const auto bytes_of = [](const auto& number) {
    return std::string(reinterpret_cast<const char*>(&number), sizeof(number));
  };
  if (const auto* integer = std::get_if<index_t>(&value)) {
    return {Type(H5Tcopy(H5T_STD_I64LE)), bytes_of(*integer)};
  }
  if (const auto* number = std::get_if<double>(&value)) {
    return {Type(H5Tcopy(H5T_IEEE_F64LE)), bytes_of(*number)};
  }
  // The text has a fixed length: HDF5 keeps other texts in a heap that has no checksum.
  std::string text = std::get<std::string>(value);
  if (text.empty()) text.push_back('\0');  // HDF5 has no text of zero bytes
  Type type(H5Tcopy(H5T_C_S1));
  H5Tset_size(type, text.size());
  H5Tset_strpad(type, H5T_STR_NULLPAD);
  H5Tset_cset(type, H5T_CSET_UTF8);
  return {std::move(type), std::move(text)};
}

void write_attributes(hid_t object, const std::vector<Attribute>& attributes,
                      const fs::path& file) {
  const Space space(H5Screate(H5S_SCALAR));
  for (const Attribute& each : attributes) {
    const std::string doing = text("write the attribute ", each.name, " into");
    const auto [type, bytes] = stored(each.value);
    const OpenAttribute made(checked(
        H5Acreate2(object, each.name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), doing, file));
    checked(H5Awrite(made, type, bytes.data()), doing, file);
  }
}

}  // namespace

index_t elements_of(const List<index_t>& shape) {
  constexpr index_t kElementsMax = index_t{1} << 60;
  index_t elements = 1;
  for (const index_t extent : shape) {
    if (extent <= 0 || elements > kElementsMax / extent) {
      throw Error(text("a shape with the extent ", extent, " is not possible"));
    }
    elements *= extent;
  }
  return elements;
}

void create_hdf5(const fs::path& file, List<Hdf5Dataset>& datasets,
                 const std::vector<Attribute>& attributes) {
  start_hdf5();
  const Properties access = file_access();
  constexpr hsize_t kPage = 4096;
  H5Pset_alignment(access, 1, kPage);
  const Properties file_creation = creation_of(H5P_FILE_CREATE);
  OpenFile open(
      checked(H5Fcreate(file.c_str(), H5F_ACC_EXCL, file_creation, access), "create", file));
  write_attributes(open, attributes, file);

  const Properties creation = creation_of(H5P_DATASET_CREATE);
  H5Pset_layout(creation, H5D_CONTIGUOUS);
  H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY);
  H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);

  for (auto& dataset : datasets) {
    elements_of(dataset.shape);  // throws
    const std::vector<hsize_t> extents(dataset.shape.begin(), dataset.shape.end());
    const Space space(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr));
    make_groups(open, dataset.path, file);
    const std::string doing = text("make the dataset ", dataset.path, " in");
    const Dataset made(checked(H5Dcreate2(open, dataset.path.c_str(), H5T_IEEE_F32LE, space,
                                          H5P_DEFAULT, creation, H5P_DEFAULT),
                               doing, file));
    const haddr_t offset = H5Dget_offset(made);
    if (offset == HADDR_UNDEF) throw Error(text("cannot ", doing, " ", file.string(), ": no room"));
    dataset.offset = static_cast<index_t>(offset);
    write_attributes(made, dataset.attributes, file);
  }
  checked(H5Fclose(open.release()), "write", file);
}

void check_hdf5_signature(const fs::path& file) {
  const File open = File::open(file);
  std::array<std::byte, kSignature.size()> begin{};
  const auto size = std::min<index_t>(open.size(), index_t{begin.size()});
  open.read(0, std::span(begin).first(size));
  if (std::ranges::equal(begin, std::as_bytes(std::span(kSignature)))) return;
  std::string bytes;
  for (index_t i = 0; i < size; ++i) {
    bytes += text(" ", hexadecimal(std::to_integer<std::uint8_t>(begin[i])));
  }
  throw Error(text(file.string(), ": not an HDF5 file (",
                   bytes.empty() ? "it is empty" : "first bytes" + bytes, ")"));
}

}  // namespace weir
