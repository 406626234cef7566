#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "common/base/machine.hpp"
#include "tests/system/job.hpp"

namespace weir::test::bad_input_test {
namespace fs = std::filesystem;

namespace {

using Words = std::vector<std::string>;

/// A small job that works; `more` replaces what has the same name.
Words arguments(const TemporaryFolder& folder, const Words& more = {}) {
  Words all = {"train",
               "--steps=4",
               "--batch=4",
               "--micro-batch=2",
               "--length=32",
               "--model.layers=2",
               "--model.width=32",
               "--model.heads=4",
               "--model.feed-forward=64",
               "--attention.left=8",
               "--data.files=" + (folder / "corpus.txt").string(),
               "--data.held-out=400",
               "--checkpoint-every=2",
               "--progress=none",
               "--run=" + (folder / "run").string()};
  for (const std::string& argument : more) {
    const std::string name = argument.substr(0, argument.find('='));
    std::erase_if(all, [&](const std::string& other) { return other.starts_with(name + '='); });
    all.push_back(argument);
  }
  return all;
}

index_t occurrences(const std::string& text, const std::string& words) {
  index_t count = 0;
  for (auto at = text.find(words); at != std::string::npos; at = text.find(words, at + 1)) ++count;
  return count;
}

/// All ranks end within seconds with this code, and one of them says `message`, once.
void check_refused(const Ended& ended, int exit_code, const std::string& message) {
  CAPTURE(ended.output);
  CAPTURE(message);
  CHECK_FALSE(ended.timed_out);
  CHECK(ended.seconds < 15);
  CHECK(ended.exit_code == exit_code);
  CHECK(occurrences(ended.output, message) == 1);
  CHECK(occurrences(ended.output, "weir: ") == 1);
}

constexpr int kError = 1, kUsage = 2;

}  // namespace

TEST_CASE("settings that do not go together end all ranks with exit code 2 and one message") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 1);
  struct Wrong {
    int ranks;
    Words words;
    std::string message;
  };
  for (const auto& [ranks, words, message] : std::vector<Wrong>{
           {4,
            {"--replicas=2"},
            "3 ranks needed: 2 replicas x 1 stage x 1 shard = 2 workers + 1 server; mpirun "
            "started 4. Start mpirun with -n 3"},
           {3, {"--shards=2", "--model.heads=3", "--model.width=33"}, "--model.heads 3"},
           {3, {"--shards=2", "--model.feed-forward=63"}, "--model.feed-forward 63"},
           {2, {"--model.width=33"}, "--model.width 33 is not a multiple of --model.heads 4"},
           {8, {"--stages=7", "--micro-batch=1"}, "--stages 7"},
           {6, {"--contexts=5"}, "take --contexts 4 at most, or --length 40 or more"},
           {4,
            {"--contexts=2"},
            "3 ranks needed: 1 replica x 1 stage x 2 contexts x 1 shard = 2 workers + 1 server; "
            "mpirun started 4"},
           {1,
            {"--contexts=2", "--placement=local"},
            "2 contexts x 1 shard = 2 workers; take --placement dedicated and start 3 ranks"},
           {2,
            {"--replicas=2", "--placement=colocated", "--servers=1"},
            "--placement colocated has a server on each worker's rank: 2 replicas x 1 stage x 1 "
            "shard = 2 workers, so --servers 1 cannot be"},
           {3,
            {"--replicas=2", "--placement=colocated"},
            "2 ranks needed: 2 replicas x 1 stage x 1 shard = 2 workers, each a server, too; "
            "mpirun started 3. Start mpirun with -n 2"},
           {0, {"--placement=colocated"}, "--placement colocated speaks MPI"},
           {2, {"--stpes=4"}, "unknown option --stpes (did you mean --steps?)"},
           {2, {"--rate.peak=nan"}, "--rate.peak"},
           {2, {"stray"}, "a stray word among the arguments: stray"},
           {3, {"--replicas=2", "--batch=2"}, "too few for 2 replicas"},
           {3, {"--replicas=2", "--staleness=-1"}, "--staleness"},
           {3, {"--consistency=sync"}, "expected one of bsp, ssp, asp, local"},
           {3, {"--replicas=2", "--consistency=local", "--local.steps=0"}, "--local.steps=0"},
           {3,
            {"--replicas=2", "--consistency=local", "--local.steps=3"},
            "--steps 4 is not a multiple of --local.steps 3"},
           {3, {"--replicas=2", "--backup=-1"}, "--backup=-1"},
           {3, {"--replicas=2", "--backup=2"}, "--backup 2 with 2 replicas would leave none"},
           {3, {"--replicas=2", "--backup=1", "--consistency=asp"}, "only --consistency bsp"},
           {1, {"--placement=local", "--consistency=asp"}, "take --consistency bsp"},
           {3, {"--replicas=2", "--replay=x"}, "nothing is decided"},
           {3, {"--replicas=2", "--inject=slow=2:3x"}, "names replica 2, the last one is 1"},
           {3, {"--replicas=2", "--inject=slow:3x"}, "expected slow=REPLICA:FACTORx"},
           {2, {"--inject=bad=20-10:30x"}, "bad=1%:30x"},
           {2,
            {"--clip.policy=update_rms", "--optimizer.kind=sgd"},
            "the variance that adamw keeps"},
           {2, {"--clip.policy=median"}, "--clip.policy"},
           {2, {"--clip.max-norm=0"}, "--clip.max-norm"},
           {2, {"--clip.quantile=1"}, "--clip.quantile"},
           {2, {"--rollback=-1"}, "--rollback"},
           {2,
            {"--rollback=3", "--consistency=local", "--local.steps=2"},
            "--rollback goes back on the servers alone"},
       }) {
    check_refused(run_weir(ranks, arguments(folder, words)), kUsage, message);
    CHECK_FALSE(fs::exists(folder / "run" / "metrics.jsonl"));
  }
}

TEST_CASE("decisions to replay that are missing or of another job end all ranks") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 1);
  const std::string log = (folder / "log.jsonl").string();
  const Words asp = {"--replicas=2", "--consistency=asp", "--replay=" + log};
  check_refused(run_weir(3, arguments(folder, asp)), kError, "cannot open " + log);
  std::ofstream(log) << "{\"kind\":\"decisions\",\"consistency\":\"asp\",\"replicas\":3}\n";
  check_refused(run_weir(3, arguments(folder, asp)), kError,
                "replay it with the settings it was made with");
  CHECK_FALSE(fs::exists(folder / "run" / "metrics.jsonl"));
}

TEST_CASE("text that is missing, empty, a pipe, packed or shorter than a window ends all ranks") {
  const TemporaryFolder folder;
  write_corpus(folder / "short.txt", 20, 1);
  std::ofstream(folder / "empty.txt").close();
  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  std::ofstream(folder / "own.zip") << "PK\x03\x04" << std::string(20'000, 'x');
  struct Wrong {
    std::string file;
    int exit_code;
    std::string message;
  };
  for (const auto& [file, exit_code, message] : std::vector<Wrong>{
           {"none.txt", kError, "none.txt"},
           {"empty.txt", kError, "empty.txt: the file is empty"},
           {"short.txt", kUsage, "short.txt"},
           {"pipe", kError, "pipe: it is a pipe; data are read again"},
           {"own.zip", kError, "own.zip: it is a zip archive"},
       }) {
    CAPTURE(file);
    check_refused(run_weir(2, arguments(folder, {"--data.files=" + (folder / file).string()})),
                  exit_code, message);
  }
}

TEST_CASE("a run folder that cannot be written, or that another run has, ends all ranks") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 1);
  std::ofstream(folder / "file").close();
  check_refused(run_weir(2, arguments(folder, {"--run=" + (folder / "file" / "run").string()})),
                kError, (folder / "file" / "run").string());

  Process first(weir_command(2, arguments(folder, {"--steps=1000000"})));
  for (int i = 0; i < 1000 && !fs::exists(folder / "run" / "metrics.jsonl"); ++i) {
    sleep_microseconds(10'000);
  }
  REQUIRE(first.running());
  check_refused(run_weir(2, arguments(folder)), kError, (folder / "run").string());
  CHECK(first.running());
}

TEST_CASE("a checkpoint that does not fit, or is damaged, ends all ranks and says what differs") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 1);
  REQUIRE(run_weir(2, arguments(folder)).exit_code == 0);
  const fs::path checkpoint = folder / "run" / "checkpoints" / "step-00000004";
  const fs::path model = checkpoint / "model.h5";
  REQUIRE(fs::exists(model));
  const auto resume = [&](const Words& more = {}) {
    Words words = {"--steps=6", "--resume=" + checkpoint.string(),
                   "--run=" + (folder / "other").string()};
    words.insert(words.end(), more.begin(), more.end());
    return run_weir(2, arguments(folder, words));
  };

  check_refused(resume({"--model.layers=3"}), kError, "model.layers");
  for (const char* form : {"--attention.left=9", "--attention.global-tokens=0-4",
                           "--attention.globals=separate", "--model.heads=1"}) {
    const std::string name = std::string(form).substr(2, std::string(form).find('=') - 2);
    check_refused(resume({form}), kError, name + ": ");
  }
  check_refused(run_weir(2, arguments(folder, {"--resume=" + (folder / "none").string()})), kUsage,
                (folder / "none").string());

  const auto bytes = fs::file_size(model);
  fs::copy(model, folder / "whole");
  fs::resize_file(model, bytes / 2);
  check_refused(resume(), kError, "truncated");

  std::ofstream(model) << std::string(bytes, 'x');
  check_refused(resume(), kError, model.string() + ": not an HDF5 file");

  // One bit of a weight; MANIFEST says where they lie.
  fs::copy(folder / "whole", model, fs::copy_options::overwrite_existing);
  std::ifstream manifest(checkpoint / "MANIFEST");
  std::streamoff at = 0;
  for (std::string word; manifest >> word;) {
    if (word == "/model/layers.1.attention.key.weight") manifest >> at;
  }
  REQUIRE(at > 0);
  {
    std::fstream file(model, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at + 100);
    const int byte = file.get();
    file.seekp(at + 100);
    file.put(static_cast<char>(byte ^ 4));
  }
  check_refused(resume(), kError, model.string());

  fs::copy(folder / "whole", model, fs::copy_options::overwrite_existing);
  CHECK(resume().exit_code == 0);
}

TEST_CASE("ranks that were started with different configurations end at once") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 1);
  Words command = weir_command(1, arguments(folder));
  const Words other = arguments(folder, {"--seed=2"});
  command.insert(command.end(), {":", "-n", "1", WEIR_BINARY});
  command.insert(command.end(), other.begin(), other.end());
  check_refused(Process(command).wait(60), kUsage, "the command line");
}

TEST_CASE("ranks that find different text under the same name end at once") {
  const TemporaryFolder folder;
  const auto start_in = [&](const std::string& name, std::uint64_t seed) {
    fs::create_directory(folder / name);
    write_corpus(folder / name / "corpus.txt", 20'000, seed);
    Words words = {"-wdir", (folder / name).string(), "-n", "1", WEIR_BINARY};
    const Words own = arguments(folder, {"--data.files=corpus.txt"});
    words.insert(words.end(), own.begin(), own.end());
    return words;
  };
  Words command = {"mpirun", "--quiet", "--oversubscribe"};
  for (const Words& words : {start_in("one", 1), Words{":"}, start_in("other", 2)}) {
    command.insert(command.end(), words.begin(), words.end());
  }
  check_refused(Process(command).wait(60), kUsage, "rank 1 differs from rank 0 in the data");
}

TEST_CASE("a loss that is not a number is skipped, counted and visible, and the weights stay") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 20'000, 1);
  const Ended ended =
      run_weir(2, arguments(folder, {"--steps=30", "--optimizer.kind=sgd", "--rate.peak=1000",
                                     "--rate.warm-up=0", "--clip.policy=none"}));
  CAPTURE(ended.output);
  CHECK(ended.exit_code == 3);  // on all ranks, or mpirun would have killed one
  CHECK(occurrences(ended.output, "training diverged: the loss is not finite after step 30") == 1);
  CHECK(occurrences(ended.output, "not finite\n") >= 1);  // in the summary
  std::ifstream metrics(folder / "run" / "metrics.jsonl");
  const std::string all((std::istreambuf_iterator<char>(metrics)), {});
  CHECK(occurrences(all, "\"skip\":\"none\"") < 30);
  CHECK(occurrences(all, "\"loss\":null,\"loss_state\":\"") > 0);
}

}  // namespace weir::test::bad_input_test
