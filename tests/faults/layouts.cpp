#include "tests/faults/layouts.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <initializer_list>
#include <map>
#include <mutex>

#include "common/io/checkpoint_format.hpp"
#include "ps/local_steps.hpp"
#include "tests/faults/small_jobs.hpp"

namespace weir::test {
namespace {

namespace fs = std::filesystem;

using Words = std::vector<std::string>;
using Tensors = std::map<std::string, std::vector<float>>;

constexpr index_t kSavedStep = 3;  ///< until the checkpoint

/// Each differs from the next one in who holds what, and in who writes it.
const std::vector<SmallLayout> kRing = {
    {"one process", 0, {"--placement=local"}},
    {"1 worker, 1 server", 2, {}},
    {"2 stages", 3, {"--stages=2"}},
    {"2 replicas, 2 servers", 4, {"--replicas=2", "--servers=2"}},
    {"2 shards colocated", 2, {"--shards=2", "--placement=colocated"}},
    {"3 replicas by messages", 4, {"--replicas=3", "--transport=messages"}},
    {"2 contexts", 3, {"--contexts=2"}},
    {"2 replicas x 2 stages, 2 servers", 6, {"--replicas=2", "--stages=2", "--servers=2"}},
    {"2 replicas colocated", 2, {"--replicas=2", "--placement=colocated"}},
    {"2 stages x 2 shards", 5, {"--stages=2", "--shards=2"}},
    {"3 stages, 2 servers", 5, {"--stages=3", "--servers=2"}},
    {"2 contexts x 2 shards colocated", 4, {"--contexts=2", "--shards=2", "--placement=colocated"}},
};

/// How a job trains. In mode `local` the servers of the second job have no momentum: it would move
/// the weights of a step that is skipped.
struct Mode {
  std::string name;
  Words words;
  bool is_local() const { return name == "local"; }
  /// One process has nobody to wait for and sends nothing. Replicas that step by themselves are one
  /// worker each, and the servers have ranks of their own.
  bool fits(const SmallLayout& layout) const {
    const auto is_any = [](const Words& words, std::initializer_list<const char*> beginnings) {
      return std::ranges::any_of(words, [&](const std::string& word) {
        return std::ranges::any_of(beginnings,
                                   [&](const char* each) { return word.starts_with(each); });
      });
    };
    if (layout.ranks == 0) return !is_any(words, {"--consistency", "--wire"});
    return !is_local() ||
           !is_any(layout.words, {"--stages", "--contexts", "--shards", "--placement"});
  }
};

const Mode kBsp = {"bsp", {}};
const Mode kLocal = {"local", {"--consistency=local", "--local.steps=1"}};
const Mode kLocalStill = {"local",
                          {"--consistency=local", "--local.steps=1", "--local.momentum=0"}};
const Mode kSgd = {"sgd", {"--optimizer.kind=sgd", "--rate.peak=0.1"}};
const Mode kLion = {"lion", {"--optimizer.kind=lion"}};
const Mode kLionBf16 = {"lion, wires of bf16",
                        {"--optimizer.kind=lion", "--wire-push=bf16", "--wire-pull=bf16"}};
const Mode kLamb = {"lamb", {"--optimizer.kind=lamb"}};
const Mode kAsp = {"asp", {"--consistency=asp"}};
const Mode kSsp = {"ssp", {"--consistency=ssp", "--staleness=1"}};

/// The modes of the job that saves, and of the one that loads.
const std::vector<std::pair<Mode, Mode>> kModes = {
    {kBsp, kBsp}, {kSgd, kSgd},   {kLion, kLionBf16}, {kLamb, kLamb},
    {kAsp, kSsp}, {kBsp, kLocal}, {kLocal, kBsp},     {kLocal, kLocalStill},
};

Tensors tensors_of(const fs::path& checkpoints, index_t step, std::string_view group) {
  const CheckpointReader reader(checkpoint_folder(checkpoints, step));
  Tensors tensors;
  index_t record = 0;
  for (const CheckpointRecord& each : reader.manifest().records) {
    std::size_t count = 1;
    for (const index_t extent : each.shape) count *= static_cast<std::size_t>(extent);
    std::vector<float> values(count);
    reader.read(record++, 0, values);
    if (each.name.starts_with(group)) tensors[each.name] = std::move(values);
  }
  return tensors;
}

bool same_bits(float left, float right) {
  return std::bit_cast<std::uint32_t>(left) == std::bit_cast<std::uint32_t>(right);
}

void expect_same(const Tensors& saved, const Tensors& again, const std::string& point) {
  expect(!saved.empty(), "there are no tensors", point);
  expect(saved.size() == again.size(), saved.size(), " tensors became ", again.size(), point);
  for (const auto& [name, values] : saved) {
    expect(again.contains(name), name, " is missing", point);
    expect(std::ranges::equal(values, again.at(name), same_bits), name, " has other bits", point);
  }
}

class Layouts final : public Part {
 public:
  /// A few trials go round the ring once, and take another pair of modes at each step.
  index_t prepare(bool is_long) override {
    write_corpus(folder_ / "corpus.txt", 20'000, 5);
    const std::size_t count = kRing.size();
    const auto add = [&](std::size_t from, std::size_t to, std::size_t modes) {
      const auto& [saves, loads] = kModes[modes];
      const bool fits = saves.fits(kRing[from]) && loads.fits(kRing[to]);
      if (fits) pairs_.push_back({&kRing[from], &kRing[to], &saves, &loads});
      return fits;
    };
    for (std::size_t from = 0; from < count; ++from) {
      for (std::size_t modes = 0; modes < kModes.size(); ++modes) {
        if (!is_long && add(from, (from + 1) % count, (from + modes) % kModes.size())) break;
        for (std::size_t to = 0; is_long && to < count; ++to) add(from, to, modes);
      }
    }
    return std::ssize(pairs_);
  }

  void attempt(index_t trial, std::uint64_t) override {
    const Pair& pair = pairs_[static_cast<std::size_t>(trial)];
    const std::string point = text(" (", pair.saves->name, " on ", pair.from->name, " to ",
                                   pair.loads->name, " on ", pair.to->name, "): ");
    const fs::path saved = saved_by(*pair.from, *pair.saves);
    const std::string name = text("loads-", trial);
    // The gradients of its only step are infinite, so that step is skipped, and what was loaded is
    // saved again.
    const Words more = {text("--steps=", kSavedStep + 1), "--resume=" + saved.string(),
                        text("--inject=scale=", kSavedStep + 1, "-", kSavedStep + 1, ":1e60x")};
    train(*pair.to, *pair.loads, name, more, point);
    compare(saved, folder_ / name, pair, point);
    fs::remove_all(folder_ / name);
  }

 private:
  struct Pair {
    const SmallLayout *from, *to;
    const Mode *saves, *loads;
  };

  /// The README of ps/ says what is taken over and what begins anew.
  static void compare(const fs::path& saved, const fs::path& again, const Pair& pair,
                      const std::string& point) {
    const std::array runs = {saved / "checkpoints", again / "checkpoints"};
    const auto before = [&](const fs::path& checkpoints, const char* group) {
      return tensors_of(checkpoints, kSavedStep, group);
    };
    const auto after = [&](const fs::path& checkpoints, const char* group) {
      return tensors_of(checkpoints, kSavedStep + 1, group);
    };
    expect_same(before(runs[0], "/model/"), after(runs[1], "/model/"), point);
    const bool was_local = pair.saves->is_local(), is_local = pair.loads->is_local();
    if (was_local && !is_local) {
      for (const auto& [name, values] : after(runs[1], "/optimizer/")) {
        expect(std::ranges::all_of(values, [](float value) { return value == 0; }), name,
               " does not begin anew", point);
      }
    } else if (!was_local || replicas_of(*pair.from) == replicas_of(*pair.to)) {
      const auto of_own_steps = [](const fs::path& checkpoints, bool local) {
        return local ? ps::replica_checkpoints(checkpoints, 0) : checkpoints;
      };
      expect_same(before(of_own_steps(runs[0], was_local), "/optimizer/"),
                  after(of_own_steps(runs[1], is_local), "/optimizer/"), point);
    }
  }

  static int replicas_of(const SmallLayout& layout) {
    for (const std::string& word : layout.words) {
      if (word.starts_with("--replicas=")) return std::stoi(word.substr(11));
    }
    return 1;
  }

  /// The run folder of a job of this layout and mode; whoever needs it first runs it.
  fs::path saved_by(const SmallLayout& layout, const Mode& mode) {
    const std::string name = text("saves-", layout.name, "-", mode.name);
    std::once_flag& made = [&]() -> std::once_flag& {
      const std::lock_guard guard(mutex_);
      return made_[name];
    }();
    std::call_once(made, [&] {
      train(layout, mode, name, {text("--steps=", kSavedStep)},
            text(" (", mode.name, " on ", layout.name, "): "));
    });
    return folder_ / name;
  }

  void train(const SmallLayout& layout, const Mode& mode, const std::string& name, Words more,
             const std::string& point) const {
    more.insert(more.end(), {"--batch=12", "--model.layers=3", "--checkpoint-every=0",
                             "--eval-every=0", "--data.held-out=100"});
    more.insert(more.end(), layout.words.begin(), layout.words.end());
    more.insert(more.end(), mode.words.begin(), mode.words.end());
    const Ended ended = run_weir(layout.ranks, small_job(folder_, name, more), 120);
    expect(ended.exit_code == 0, "a job ended with ", ended.exit_code, point, ended.output);
  }

  TemporaryFolder folder_;
  std::vector<Pair> pairs_;
  std::mutex mutex_;
  std::map<std::string, std::once_flag> made_;  ///< each by the name of the run folder
};

}  // namespace

std::unique_ptr<Part> layouts() { return std::make_unique<Layouts>(); }

}  // namespace weir::test
