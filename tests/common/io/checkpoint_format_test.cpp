#include "common/io/checkpoint_format.hpp"

#include <doctest/doctest.h>
#include <hdf5.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "common/io/best_checkpoint.hpp"
#include "common/io/hdf5.hpp"
#include "common/number/random.hpp"
#include "tests/common/io/faulty_file_system.hpp"
#include "tests/common/io/hdf5_datasets.hpp"
#include "tests/quiet_log.hpp"
#include "tests/temporary_folder.hpp"

using namespace weir;
using namespace weir::test;
using test::FaultyFileSystem;
using test::kNever;
using test::TemporaryFolder;

namespace {

/// The first record is longer than one digest, so that its ranges are cut.
List<CheckpointRecord> some_records() {
  return {{"/model/embedding.weight", {600, 1000}},
          {"/model/norm.scale", {64}},
          {"/optimizer/momentum/norm.scale", {64}}};
}

std::vector<float> values_of(const CheckpointRecord& record, index_t step) {
  std::vector<float> values(elements_of(record.shape));
  fill_normal(values, static_cast<std::uint64_t>(step), stream_of(record.name), 0, 1.0F);
  return values;
}

Manifest some_manifest(index_t step) {
  Manifest manifest;
  manifest.step = step;
  manifest.cursor = step * 32;
  manifest.settings = {{"model.layers", "4"}, {"data", "a b\\n\nc"}, {"empty", ""}};
  manifest.integers = {{"skipped", 3}};
  manifest.numbers = {{"clip.threshold", 0.1 + 0.2}, {"clip.norm", std::nan("")}};
  return manifest;
}

/// A whole save as the servers do it: two servers, each with half of every record.
void save(FileSystem& files, const fs::path& checkpoints, index_t step,
          List<CheckpointRecord> records = some_records()) {
  begin_checkpoint(files, checkpoints, step, records);
  Manifest manifest = some_manifest(step);
  manifest.records = records;
  for (const int server : {1, 0}) {
    CheckpointWriter writer(files, checkpoints, step, records);
    for (index_t i = 0; i < records.size(); ++i) {
      const auto values = values_of(records[i], step);
      const auto middle = values.size() / 2;
      const auto half =
          server == 0 ? std::span(values).first(middle) : std::span(values).subspan(middle);
      writer.write(i, server == 0 ? 0 : static_cast<index_t>(middle), half);
    }
    for (const auto& digest : writer.finish()) manifest.digests.push_back(digest);
  }
  commit_checkpoint(files, checkpoints, manifest);
}

/// An integer attribute of an object in an HDF5 file.
index_t integer_attribute(const fs::path& file, const char* object, const char* name) {
  const hid_t open = H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t attribute = H5Aopen_by_name(open, object, name, H5P_DEFAULT, H5P_DEFAULT);
  REQUIRE(attribute >= 0);
  index_t value = 0;
  CHECK(H5Aread(attribute, H5T_NATIVE_INT64, &value) >= 0);
  H5Aclose(attribute);
  H5Fclose(open);
  return value;
}

/// Whether all tensors are to the bit those that save() wrote at this step.
bool holds(const fs::path& folder, index_t step) {
  const CheckpointReader reader(folder);
  if (reader.manifest().step != step) return false;
  for (const auto& record : some_records()) {
    const auto index = reader.find(record.name);
    if (!index) return false;
    const auto expected = values_of(record, step);
    std::vector<float> values(expected.size());
    reader.read(*index, 0, values);
    if (values != expected) return false;
  }
  return true;
}

/// The message with which `call` ends, without the folder's own name.
template <class Call>
std::string message_of(const TemporaryFolder& folder, Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    std::string message = error.what();
    const std::string prefix = folder.path().string() + "/";
    for (auto at = message.find(prefix); at != std::string::npos; at = message.find(prefix)) {
      message.erase(at, prefix.size());
    }
    return message;
  }
  return "no error";
}

void change_byte(const fs::path& file, index_t offset) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(offset);
  const auto byte = static_cast<char>(stream.get() ^ 0x10);
  stream.seekp(offset);
  stream.put(byte);
}

}  // namespace

TEST_CASE("model.h5 says its step, its format and what the caller tells of the model") {
  const TemporaryFolder folder;
  List<CheckpointRecord> records = some_records();
  records[0].layout = "[tokens, features]";
  begin_checkpoint(posix_file_system(), folder.path(), 7, records, {{"model.heads", index_t{4}}});
  const fs::path file = folder.path() / ".tmp-step-00000007" / "model.h5";
  CHECK(integer_attribute(file, "/", "step") == 7);
  CHECK(integer_attribute(file, "/", "format.version") == kCheckpointVersion);
  CHECK(integer_attribute(file, "/", "model.heads") == 4);
  const hid_t open = H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  CHECK(H5Aexists_by_name(open, records[0].name.c_str(), "layout", H5P_DEFAULT) > 0);
  CHECK(H5Aexists_by_name(open, records[1].name.c_str(), "layout", H5P_DEFAULT) == 0);
  H5Fclose(open);
}

TEST_CASE("what several servers wrote reads back to the bit, by weir in any ranges and by HDF5") {
  const TemporaryFolder folder;
  save(posix_file_system(), folder.path(), 7);
  const auto found = newest_complete(folder.path());
  REQUIRE(found.has_value());
  CHECK(found->filename() == "step-00000007");
  CHECK(holds(*found, 7));
  const CheckpointReader reader(*found);
  reader.verify();
  CHECK_FALSE(reader.find("/model/missing").has_value());

  const auto records = some_records();
  const auto expected = values_of(records[0], 7);
  const index_t size = std::ssize(expected);
  for (const auto& [begin, end] : std::vector<std::pair<index_t, index_t>>{{0, 1},
                                                                           {0, 0},
                                                                           {size - 1, size},
                                                                           {size, size},
                                                                           {262143, 262145},
                                                                           {262144, 524288},
                                                                           {262144, 300000},
                                                                           {299999, 300001},
                                                                           {5, size - 5}}) {
    CAPTURE(begin);
    CAPTURE(end);
    std::vector<float> part(end - begin);
    reader.read(0, begin, part);
    CHECK(std::equal(part.begin(), part.end(), expected.begin() + begin));
  }

  const auto datasets = test::hdf5_datasets(*found / "model.h5");
  REQUIRE(datasets.size() == records.size());
  for (index_t i = 0; i < datasets.size(); ++i) {
    CHECK(datasets[i].path == records[i].name);
    CHECK(datasets[i].shape == records[i].shape);
    CHECK(datasets[i].offset == reader.manifest().records[i].offset);
  }
}

TEST_CASE("settings, integers and numbers come back as they were, numbers to the bit") {
  const TemporaryFolder folder;
  save(posix_file_system(), folder.path(), 5);
  const Manifest manifest = read_manifest(checkpoint_folder(folder.path(), 5));
  const Manifest written = some_manifest(5);
  CHECK(manifest.step == 5);
  CHECK(manifest.cursor == 160);
  CHECK(manifest.settings == written.settings);
  CHECK(manifest.integers == written.integers);
  for (const auto& [name, value] : written.numbers) {
    CHECK(std::bit_cast<std::uint64_t>(manifest.numbers.at(name)) ==
          std::bit_cast<std::uint64_t>(value));
  }
}

TEST_CASE("the newest complete checkpoint counts, whatever else lies beside it") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  CHECK_FALSE(newest_complete(folder.path() / "missing").has_value());
  CHECK_FALSE(newest_complete(folder.path()).has_value());
  FileSystem& files = posix_file_system();
  save(files, folder.path(), 9);
  save(files, folder.path(), 100);
  fs::create_directory(folder.path() / ".tmp-step-00000200");
  fs::create_directory(folder.path() / "step-200");  // not a name of ours
  fs::create_directory(folder.path() / "step-xyz");
  CHECK(newest_complete(folder.path())->filename() == "step-00000100");
  fs::resize_file(folder.path() / "step-00000100" / "model.h5", 5000);
  CHECK(newest_complete(folder.path())->filename() == "step-00000009");
  fs::rename(folder.path() / "step-00000009", folder.path() / "step-00000300");
  CHECK(message_of(folder, [&] {
          newest_complete(folder.path());
        }).find("step-00000300: MANIFEST is that of step 9") != std::string::npos);
}

TEST_CASE("the newest complete checkpoint is one whose data are whole, and a later save mends it") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  FileSystem& files = posix_file_system();
  for (const index_t step : {4, 6}) save(files, folder.path(), step);
  const fs::path damaged = checkpoint_folder(folder.path(), 6);
  change_byte(damaged / "model.h5", read_manifest(damaged).records[2].offset + 5);
  CHECK(newest_complete(folder.path()) == checkpoint_folder(folder.path(), 4));
  save(files, folder.path(), 6);
  CHECK(newest_complete(folder.path()) == damaged);
  CHECK(holds(damaged, 6));
}

TEST_CASE("what cannot be read is not called damaged") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  FileSystem& files = posix_file_system();
  for (const index_t step : {4, 6}) save(files, folder.path(), step);
  const fs::path newest = checkpoint_folder(folder.path(), 6);
  for (const char* name : {"MANIFEST", "model.h5"}) {
    CAPTURE(name);
    fs::rename(newest / name, folder.path() / "away");
    fs::create_symlink(std::string(300, 'x'), newest / name);  // nor can root read through it
    CHECK(
        message_of(folder, [&] { newest_complete(folder.path()); }) ==
        text("cannot open step-00000006/", name,
             ": File name too long; step-00000006 may be whole: make it readable, or move it away "
             "to use an older one"));
    CHECK_THROWS_AS(remove_old_checkpoints(files, folder.path(), 6, 1), FileError);
    CHECK(fs::exists(checkpoint_folder(folder.path(), 4)));
    fs::rename(folder.path() / "away", newest / name);
  }
  CHECK(newest_complete(folder.path()) == newest);
}

TEST_CASE("a damaged checkpoint drives out no complete one") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  FileSystem& files = posix_file_system();
  for (const index_t step : {1, 2, 3, 4, 5}) save(files, folder.path(), step);
  fs::resize_file(checkpoint_folder(folder.path(), 4) / "model.h5", 5000);
  fs::remove(checkpoint_folder(folder.path(), 3) / "MANIFEST");
  fs::create_directory(folder.path() / ".old-step-00000009");
  remove_old_checkpoints(files, folder.path(), 5, 2);
  std::vector<index_t> left;
  for (const auto& [step, path] : checkpoints_in(folder.path())) left.push_back(step);
  CHECK(left == std::vector<index_t>{5, 4, 3, 2});
  CHECK_FALSE(fs::exists(folder.path() / ".old-step-00000009"));
  save(files, folder.path(), 6);
  remove_old_checkpoints(files, folder.path(), 6, 2);
  CHECK(checkpoints_in(folder.path()).size() == 2);
}

TEST_CASE("the best checkpoint stays however old it is, until another is better") {
  const TemporaryFolder folder;
  FileSystem& files = posix_file_system();
  const auto left = [&](index_t newest) {
    save(files, folder.path(), newest);
    remove_old_checkpoints(files, folder.path(), newest, 2);
    std::vector<index_t> steps;
    for (const auto& [step, path] : checkpoints_in(folder.path())) steps.push_back(step);
    return steps;
  };
  save(files, folder.path(), 1);
  write_best(folder.path(), {1, 2.5});
  save(files, folder.path(), 2);
  save(files, folder.path(), 3);
  CHECK(left(4) == std::vector<index_t>{4, 3, 1});
  write_best(folder.path(), {4, 2.25});
  CHECK(left(5) == std::vector<index_t>{5, 4});
  CHECK(left(6) == std::vector<index_t>{6, 5, 4});
}

TEST_CASE("a checkpoint of the same step is replaced") {
  const TemporaryFolder folder;
  FileSystem& files = posix_file_system();
  save(files, folder.path(), 8);
  change_byte(checkpoint_folder(folder.path(), 8) / "MANIFEST", 30);
  save(files, folder.path(), 8);
  CHECK(holds(*newest_complete(folder.path()), 8));
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);
}

TEST_CASE("killed before any call, a save leaves the old checkpoint or the whole new one") {
  const QuietLog quiet;
  for (const index_t step : {8, 16}) {  // replaces the old one, or stands beside it
    FaultyFileSystem counter(kNever, true);
    const TemporaryFolder counted;
    save(posix_file_system(), counted.path(), 8);
    save(counter, counted.path(), step);
    REQUIRE(counter.calls() > 20);
    int new_ones = 0;
    for (int fatal = 1; fatal <= counter.calls(); ++fatal) {
      CAPTURE(step);
      CAPTURE(fatal);
      const TemporaryFolder folder;
      save(posix_file_system(), folder.path(), 8);
      FaultyFileSystem dying(fatal, true);
      CHECK_THROWS_AS(save(dying, folder.path(), step), Error);
      const auto found = newest_complete(folder.path());
      REQUIRE(found.has_value());
      const bool is_new = found->filename() == "step-00000016";
      CHECK(holds(*found, is_new ? 16 : 8));
      new_ones += is_new ? 1 : 0;
      save(posix_file_system(), folder.path(), 16);  // the next run is not in the way of the last
      CHECK(holds(*newest_complete(folder.path()), 16));
    }
    CHECK(new_ones < 4);
  }
}

TEST_CASE("killed where names cannot be exchanged, a save loses no checkpoint either") {
  const QuietLog quiet;
  FaultyFileSystem counter(kNever, true);
  counter.can_exchange = false;
  const TemporaryFolder counted;
  save(posix_file_system(), counted.path(), 8);
  save(counter, counted.path(), 8);
  bool was_away = false;
  for (int fatal = 1; fatal <= counter.calls(); ++fatal) {
    CAPTURE(fatal);
    const TemporaryFolder folder;
    save(posix_file_system(), folder.path(), 8);
    FaultyFileSystem dying(fatal, true);
    dying.can_exchange = false;
    CHECK_THROWS_AS(save(dying, folder.path(), 8), Error);
    was_away = was_away || !newest_complete(folder.path());
    restore_replaced(posix_file_system(), folder.path());
    const auto found = newest_complete(folder.path());
    REQUIRE(found.has_value());
    CHECK(holds(*found, 8));
    remove_leftovers(posix_file_system(), folder.path());
    CHECK(newest_complete(folder.path()) == found);
  }
  CHECK(was_away);  // else this shows nothing
}

TEST_CASE("killed before any call, the first save leaves nothing or all") {
  const QuietLog quiet;
  FaultyFileSystem counter(kNever, true);
  const TemporaryFolder counted;
  save(counter, counted.path() / "checkpoints", 8);
  for (int fatal = 1; fatal <= counter.calls(); ++fatal) {
    CAPTURE(fatal);
    const TemporaryFolder folder;
    FaultyFileSystem dying(fatal, true);
    CHECK_THROWS_AS(save(dying, folder.path() / "checkpoints", 8), Error);
    const auto found = newest_complete(folder.path() / "checkpoints");
    if (found) CHECK(holds(*found, 8));
  }
}

TEST_CASE("after an error in any call the save is abandoned, and the next one succeeds") {
  FaultyFileSystem counter(kNever, false);
  const TemporaryFolder counted;
  save(counter, counted.path(), 8);
  for (int fatal = 1; fatal <= counter.calls(); ++fatal) {
    CAPTURE(fatal);
    const TemporaryFolder folder;
    FaultyFileSystem failing(fatal, false);
    CHECK_THROWS_AS(save(failing, folder.path(), 8), Error);
    abandon_checkpoint(failing, folder.path(), 8);
    for (const auto& entry : fs::directory_iterator(folder.path())) {
      CHECK_FALSE(entry.path().filename().string().starts_with(".tmp"));
    }
    save(failing, folder.path(), 16);
    CHECK(holds(*newest_complete(folder.path()), 16));
  }
}

TEST_CASE("a range that no server wrote, or two did, is not committed") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  FileSystem& files = posix_file_system();
  auto records = some_records();
  begin_checkpoint(files, folder.path(), 3, records);
  Manifest manifest;
  manifest.step = 3;
  manifest.records = records;
  const auto commit = [&] {
    return message_of(folder, [&] { commit_checkpoint(files, folder.path(), manifest); });
  };
  CHECK(commit() ==
        ".tmp-step-00000003: there is no digest of /model/embedding.weight from element 0 on");
  CheckpointWriter writer(files, folder.path(), 3, records);
  writer.write(0, 0, std::vector<float>(600000));
  writer.write(2, 0, std::vector<float>(64));
  writer.write(1, 0, std::vector<float>(63));
  const auto digests = writer.finish();
  manifest.digests = digests;
  CHECK(commit() ==
        ".tmp-step-00000003: there is no digest of /model/norm.scale from element 63 on");
  manifest.digests.push_back({1, 63, 64, 0});
  manifest.digests.push_back({2, 0, 64, 0});
  CHECK(commit() == ".tmp-step-00000003: there are digests of nothing");
  CHECK_FALSE(newest_complete(folder.path()).has_value());
}

TEST_CASE("a damaged or foreign checkpoint is refused with what is wrong") {
  const QuietLog quiet;
  const TemporaryFolder folder;
  save(posix_file_system(), folder.path(), 8);
  const fs::path checkpoint = checkpoint_folder(folder.path(), 8);
  const fs::path data = checkpoint / "model.h5";
  const std::string whole = read_whole(data, 1 << 26);
  const auto open_with = [&](const std::string& bytes) {
    std::ofstream(data, std::ios::binary) << bytes;
    return message_of(folder, [&] { CheckpointReader{checkpoint}; });
  };
  CHECK(
      open_with(whole.substr(0, 9000)) ==
      text("step-00000008/model.h5: has 9000 bytes, MANIFEST says ", whole.size(), ": truncated"));
  CHECK(open_with(whole + "x") == text("step-00000008/model.h5: has ", whole.size() + 1,
                                       " bytes, MANIFEST says ", whole.size()));
  CHECK(open_with("PK\x03\x04" + whole.substr(4)) ==
        "step-00000008/model.h5: not an HDF5 file (first bytes 50 4b 03 04 0d 0a 1a 0a)");
  CHECK(open_with(whole) == "no error");

  const CheckpointReader reader(checkpoint);
  const auto& record = reader.manifest().records[0];
  change_byte(data, record.offset + 4 * 300000);
  const std::string damage = message_of(folder, [&] { reader.verify(); });
  CHECK(
      damage.starts_with("step-00000008/model.h5: /model/embedding.weight is damaged in the "
                         "elements 300000 to 524287 (CRC-32C "));
  CHECK(damage.ends_with("); take an older checkpoint"));
  std::vector<float> one(1);
  reader.read(0, 299999, one);  // the other server's range is whole
  CHECK(message_of(folder, [&] { reader.read(0, 500000, one); }) == damage);
  fs::remove(data);
  CHECK(message_of(folder, [&] { newest_complete(folder.path()); }) ==
        "no checkpoint in " + folder.path().string() +
            " is complete; repair one, or start anew in another folder:\n"
            "  cannot open step-00000008/model.h5: No such file or directory");
}

TEST_CASE("any flipped bit in model.h5 is refused or in no tensor") {
  constexpr unsigned kSeed = 5;
  CAPTURE(kSeed);
  const TemporaryFolder folder;
  save(posix_file_system(), folder.path(), 8,
       {{"/model/a", {50, 10}}, {"/model/b", {3}}, {"/optimizer/momentum/a", {50, 10}}});
  const fs::path checkpoint = checkpoint_folder(folder.path(), 8);
  const fs::path data = checkpoint / "model.h5";
  const auto size = static_cast<index_t>(fs::file_size(data));
  const auto in_tensor = [manifest = read_manifest(checkpoint)](index_t byte) {
    return std::ranges::any_of(manifest.records, [&](const CheckpointRecord& record) {
      return byte >= record.offset && byte < record.offset + elements_of(record.shape) * 4;
    });
  };
  int refused = 0;
  for (std::uint64_t i = 0; i < 1500; ++i) {
    const auto byte =
        static_cast<index_t>(random_word(kSeed, 0, i) % static_cast<std::uint64_t>(size));
    change_byte(data, byte);
    const bool is_refused =
        message_of(folder, [&] { CheckpointReader(checkpoint).verify(); }) != "no error";
    CAPTURE(byte);
    CHECK(is_refused == (in_tensor(byte) || byte < 8));
    refused += is_refused ? 1 : 0;
    change_byte(data, byte);
  }
  CHECK(refused > 100);
}
