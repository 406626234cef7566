#include "common/io/hdf5.hpp"

#include <doctest/doctest.h>
#include <hdf5.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "common/base/error.hpp"
#include "common/io/file.hpp"
#include "tests/common/io/hdf5_datasets.hpp"
#include "tests/temporary_folder.hpp"

using namespace weir;
using test::hdf5_datasets;

namespace {

List<Hdf5Dataset> two_datasets() {
  return {{"/model/layers.3.attention.query.weight", {6, 4}}, {"/optimizer/momentum/bias", {3}}};
}

/// Reads a whole dataset by HDF5 itself.
std::vector<float> read_by_hdf5(const fs::path& file, const std::string& path, std::size_t size) {
  std::vector<float> values(size);
  const hid_t open = H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t dataset = H5Dopen2(open, path.c_str(), H5P_DEFAULT);
  REQUIRE(dataset >= 0);
  CHECK(H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) >= 0);
  H5Dclose(dataset);
  H5Fclose(open);
  return values;
}

/// How hdf5_datasets refuses a file that `fill` has put something into.
std::string refusal(const std::function<void(hid_t)>& fill) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "f.h5";
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_EXCL, H5P_DEFAULT, H5P_DEFAULT);
  fill(file);
  H5Fclose(file);
  try {
    hdf5_datasets(path);
  } catch (const Error& error) {
    const std::string message = error.what();
    REQUIRE(message.starts_with(path.string() + ": "));
    return message.substr(path.string().size() + 2);
  }
  return "accepted";
}

void make_dataset(hid_t file, const char* name, hid_t type, hid_t creation) {
  const hsize_t extent = 8;
  const hid_t space = H5Screate_simple(1, &extent, nullptr);
  const hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  REQUIRE(dataset >= 0);
  H5Dclose(dataset);
  H5Sclose(space);
}

}  // namespace

TEST_CASE("floats written at a skeleton's offsets are what HDF5 reads from its datasets") {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "model.h5";
  auto datasets = two_datasets();
  create_hdf5(path, datasets);
  FileSystem& files = posix_file_system();
  const File file = files.open_for_writing(path);
  std::vector<std::vector<float>> all;
  for (const auto& dataset : datasets) {
    std::vector<float> values(elements_of(dataset.shape));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(i) + 100 * static_cast<float>(all.size());
    }
    files.write(file, dataset.offset, std::as_bytes(std::span(values)));
    all.push_back(values);
  }
  CHECK(read_by_hdf5(path, datasets[0].path, 24) == all[0]);
  CHECK(read_by_hdf5(path, datasets[1].path, 3) == all[1]);
}

TEST_CASE(
    "a skeleton has the promised shapes, each dataset on its own pages, in little more room") {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "model.h5";
  List<Hdf5Dataset> datasets = {{"/model/one", {}}, {"/model/big", {300, 1000}}};
  index_t bytes = 0;
  for (int i = 0; i < 100; ++i) datasets.push_back({text("/model/layers.", i, ".bias"), {i + 1}});
  for (const auto& dataset : datasets) bytes += elements_of(dataset.shape) * 4;
  create_hdf5(path, datasets);
  for (const auto& dataset : datasets) CHECK(dataset.offset % 4096 == 0);
  const auto found = hdf5_datasets(path);
  REQUIRE(found.size() == datasets.size());
  for (const auto& dataset : found) {
    const auto made = std::ranges::find(datasets, dataset.path, &Hdf5Dataset::path);
    REQUIRE(made != datasets.end());
    CHECK(dataset.shape == made->shape);
    CHECK(dataset.offset == made->offset);
  }
  const File file = File::open(path);
  CHECK(file.size() < bytes + 102 * 3 * 4096);
  for (const auto& dataset : datasets) {
    CHECK(dataset.offset + elements_of(dataset.shape) * 4 <= file.size());
  }
}

TEST_CASE("attributes of the file and of datasets are what HDF5 reads, beside the data") {
  const test::TemporaryFolder folder;
  auto datasets = two_datasets();
  datasets[0].attributes = {{"layout", "[outputs, inputs]"}};
  std::vector<Attribute> attributes = {
      {"integer", index_t{-7}}, {"number", 0.1}, {"text", "größer"}, {"empty", ""}};
  for (index_t i = 0; i < 50; ++i) attributes.push_back({text("more ", i), i});
  const fs::path path = folder.path() / "model.h5";
  create_hdf5(path, datasets, attributes);

  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const auto read = [&](const char* object, const char* name, hid_t type, void* out) {
    const hid_t attribute = H5Aopen_by_name(file, object, name, H5P_DEFAULT, H5P_DEFAULT);
    REQUIRE(attribute >= 0);
    CHECK(H5Aread(attribute, type, out) >= 0);
    H5Aclose(attribute);
  };
  const auto read_text = [&](const char* object, const char* name) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, 100);
    H5Tset_cset(type, H5T_CSET_UTF8);
    std::string value(100, '?');
    read(object, name, type, value.data());
    H5Tclose(type);
    return std::string(value.c_str());
  };
  index_t integer = 0;
  double number = 0;
  read("/", "integer", H5T_NATIVE_INT64, &integer);
  read("/", "number", H5T_NATIVE_DOUBLE, &number);
  CHECK(integer == -7);
  CHECK(number == 0.1);
  CHECK(read_text("/", "text") == "größer");
  CHECK(read_text("/", "empty").empty());
  CHECK(read_text(datasets[0].path.c_str(), "layout") == "[outputs, inputs]");
  read("/", "more 49", H5T_NATIVE_INT64, &integer);
  CHECK(integer == 49);
  H5Fclose(file);

  const auto found = hdf5_datasets(path);
  REQUIRE(found.size() == 2);
  for (index_t i = 0; i < found.size(); ++i) CHECK(found[i].offset == datasets[i].offset);
}

TEST_CASE("the same datasets and attributes give the same bytes") {
  const test::TemporaryFolder folder;
  auto datasets = two_datasets();
  datasets[0].attributes = {{"layout", "[outputs, inputs]"}};
  const std::vector<Attribute> attributes = {{"step", index_t{6}}, {"gelu", "tanh"}};
  create_hdf5(folder.path() / "a", datasets, attributes);
  create_hdf5(folder.path() / "b", datasets, attributes);
  CHECK(read_whole(folder.path() / "a", 1 << 20) == read_whole(folder.path() / "b", 1 << 20));
}

TEST_CASE("no object carries the time of its making") {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "model.h5";
  auto datasets = two_datasets();
  create_hdf5(path, datasets);
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  for (const char* name :
       {"/", "/model", "/optimizer", "/optimizer/momentum", "/optimizer/momentum/bias"}) {
    CAPTURE(name);
    H5O_info_t object;
    REQUIRE(H5Oget_info_by_name2(file, name, &object, H5O_INFO_TIME, H5P_DEFAULT) >= 0);
    CHECK(object.atime == 0);
    CHECK(object.mtime == 0);
    CHECK(object.ctime == 0);
    CHECK(object.btime == 0);
  }
  H5Fclose(file);
}

TEST_CASE("a skeleton that cannot be made is an Error with HDF5's reason") {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "model.h5";
  auto datasets = two_datasets();
  CHECK_THROWS_WITH_AS(create_hdf5(folder.path() / "missing" / "model.h5", datasets),
                       doctest::Contains("missing/model.h5: No such file or directory"), Error);
  create_hdf5(path, datasets);
  CHECK_THROWS_WITH_AS(create_hdf5(path, datasets), doctest::Contains("cannot create "), Error);
  List<Hdf5Dataset> twice = {{"/model/a", {2}}, {"/model/a", {2}}};
  CHECK_THROWS_WITH_AS(create_hdf5(folder.path() / "twice", twice),
                       doctest::Contains("cannot make the dataset /model/a in "), Error);
  for (const index_t extent : {index_t{0}, index_t{-1}, index_t{1} << 61}) {
    List<Hdf5Dataset> impossible = {{"/model/a", {2, extent}}};
    CHECK_THROWS_AS(create_hdf5(folder.path() / text(extent), impossible), Error);
  }
}

TEST_CASE("anything but groups and plain datasets of f32 is refused with its name") {
  CHECK(refusal([](hid_t file) { make_dataset(file, "d", H5T_IEEE_F64LE, H5P_DEFAULT); }) ==
        "/d does not hold little-endian 32-bit floats");
  CHECK(refusal([](hid_t file) { make_dataset(file, "d", H5T_IEEE_F32BE, H5P_DEFAULT); }) ==
        "/d does not hold little-endian 32-bit floats");
  CHECK(refusal([](hid_t file) {
          const hid_t chunked = H5Pcreate(H5P_DATASET_CREATE);
          const hsize_t extent = 4;
          H5Pset_chunk(chunked, 1, &extent);
          H5Pset_fletcher32(chunked);
          make_dataset(file, "d", H5T_IEEE_F32LE, chunked);
          H5Pclose(chunked);
        }) == "/d is stored in chunks");
  CHECK(refusal([](hid_t file) {
          const hid_t compact = H5Pcreate(H5P_DATASET_CREATE);
          H5Pset_layout(compact, H5D_COMPACT);
          make_dataset(file, "d", H5T_IEEE_F32LE, compact);
          H5Pclose(compact);
        }) == "/d is not contiguous");
  CHECK(refusal([](hid_t file) {
          const hid_t external = H5Pcreate(H5P_DATASET_CREATE);
          H5Pset_external(external, "/etc/passwd", 0, H5F_UNLIMITED);
          make_dataset(file, "d", H5T_IEEE_F32LE, external);
          H5Pclose(external);
        }) == "/d has its data in another file");
  CHECK(refusal([](hid_t file) {
          const hid_t virtual_layout = H5Pcreate(H5P_DATASET_CREATE);
          const hsize_t extent = 8;
          const hid_t space = H5Screate_simple(1, &extent, nullptr);
          H5Pset_virtual(virtual_layout, space, "other.h5", "/d", space);
          make_dataset(file, "d", H5T_IEEE_F32LE, virtual_layout);
          H5Sclose(space);
          H5Pclose(virtual_layout);
        }) == "/d is virtual: its data are in other files");
  CHECK(refusal([](hid_t file) { H5Lcreate_soft("/d", file, "soft", H5P_DEFAULT, H5P_DEFAULT); }) ==
        "/soft is a link to elsewhere");
  CHECK(refusal([](hid_t file) {
          H5Lcreate_external("other.h5", "/d", file, "outside", H5P_DEFAULT, H5P_DEFAULT);
        }) == "/outside is a link to elsewhere");
  CHECK(refusal([](hid_t file) {
          const hid_t early = H5Pcreate(H5P_DATASET_CREATE);
          H5Pset_alloc_time(early, H5D_ALLOC_TIME_EARLY);
          make_dataset(file, "d", H5T_IEEE_F32LE, early);
          H5Lcreate_hard(file, "d", file, "e", H5P_DEFAULT, H5P_DEFAULT);
          H5Pclose(early);
        }) == "/d has several names");
  CHECK(refusal([](hid_t file) {
          const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
          H5Tcommit2(file, "type", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
          H5Tclose(type);
        }) == "/type is no dataset");
  CHECK(refusal([](hid_t file) { make_dataset(file, "late", H5T_IEEE_F32LE, H5P_DEFAULT); }) ==
        "/late has its data outside of the file: truncated?");
  CHECK(refusal([](hid_t) {}) == "accepted");
}

TEST_CASE("a file that is not HDF5 shows its first bytes") {
  const test::TemporaryFolder folder;
  const std::string path = (folder.path() / "f").string();
  const auto message = [&](const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
    return [&] { hdf5_datasets(path); };
  };
  CHECK_THROWS_WITH_AS(message("PK\x03\x04 a zip file")(),
                       (path + ": not an HDF5 file (first bytes 50 4b 03 04 20 61 20 7a)").c_str(),
                       Error);
  CHECK_THROWS_WITH_AS(message("\x89HDF")(),
                       (path + ": not an HDF5 file (first bytes 89 48 44 46)").c_str(), Error);
  CHECK_THROWS_WITH_AS(message("")(), (path + ": not an HDF5 file (it is empty)").c_str(), Error);
}

TEST_CASE("a cut skeleton is an Error, wherever it is cut") {
  const test::TemporaryFolder folder;
  auto datasets = two_datasets();
  create_hdf5(folder.path() / "whole", datasets);
  const std::string bytes = read_whole(folder.path() / "whole", 1 << 20);
  for (std::size_t size = 0; size < bytes.size(); size += 509) {
    std::ofstream(folder.path() / "cut", std::ios::binary) << bytes.substr(0, size);
    CAPTURE(size);
    CHECK_THROWS_AS(hdf5_datasets(folder.path() / "cut"), Error);
  }
}

TEST_CASE("a file that cannot be written is refused in one line, with the reason of the system") {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "f.h5";
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &none);
  std::string message;
  bool is_full = false;
  try {
    auto datasets = two_datasets();
    create_hdf5(path, datasets);
  } catch (const FileError& error) {
    message = error.what();
    is_full = error.is_full();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(message == "cannot create " + path.string() + ": File too large");
  CHECK(is_full);
}

TEST_CASE("a process in which HDF5 could not write a skeleton, wherever it failed, ends well") {
  const test::TemporaryFolder folder;
  auto datasets = two_datasets();
  create_hdf5(folder.path() / "whole", datasets);
  const auto bytes = static_cast<rlim_t>(fs::file_size(folder.path() / "whole"));
  for (rlim_t most = 0; most < bytes; most += 1024) {
    CAPTURE(most);
    const pid_t child = fork();
    if (child == 0) {
      const rlimit limit = {.rlim_cur = most, .rlim_max = RLIM_INFINITY};
      std::signal(SIGXFSZ, SIG_IGN);
      setrlimit(RLIMIT_FSIZE, &limit);
      try {
        create_hdf5(folder.path() / text(most), datasets);
      } catch (const Error&) {
        std::exit(0);  // with the handlers at exit
      }
      _exit(1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
}
