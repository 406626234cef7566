#include "launch/supervise/mpirun_words.hpp"

#include <doctest/doctest.h>

#include <algorithm>

namespace weir::test::mpirun_words_test {
namespace {

using Words = std::vector<std::string>;

std::string value_in(const std::vector<std::pair<std::string, std::string>>& variables,
                     const std::string& name) {
  for (const auto& [each, value] : variables) {
    if (each == name) return value;
  }
  return "none";
}

std::string yields(const Words& words, const MpirunHost& host) {
  return value_in(mpirun_environment(read_mpirun_words(words), host),
                  "OMPI_MCA_mpi_yield_when_idle");
}

TEST_CASE("mpirun's options end at train, eval or plan, unless that is an option's value") {
  const MpirunWords read = read_mpirun_words({"-n", "3", "--mca", "pml", "train", "--wdir", "plan",
                                              "-x", "eval", "train", "--steps", "5"});
  CHECK(read.options == Words{"-n", "3", "--mca", "pml", "train", "--wdir", "plan", "-x", "eval"});
  CHECK(read.command == Words{"train", "--steps", "5"});
  CHECK(read.ranks == 3);
  CHECK(read.folder == "plan");
  CHECK(read.stranger.empty());
  CHECK(read.trains());
}

TEST_CASE("a word that stands where the command should is the stranger; values are none") {
  CHECK(
      read_mpirun_words({"-n", "3", "--mca", "a", "b", "--wdir", "train", "trian", "--steps", "3"})
          .stranger == "trian");
  CHECK(read_mpirun_words({"--oversubscribe", "generate", "run"}).stranger == "generate");
  const MpirunWords none = read_mpirun_words({"-n", "3", "--mca", "a"});
  CHECK(none.stranger.empty());
  CHECK(none.command.empty());
  CHECK(none.options == Words{"-n", "3", "--mca", "a"});
  CHECK(read_mpirun_words({}).command.empty());
}

TEST_CASE("options that name hosts make it a job of several hosts") {
  for (const char* const option :
       {"--hostfile", "-machinefile", "--host", "-H", "--default-hostfile"}) {
    CAPTURE(option);
    CHECK_FALSE(read_mpirun_words({option, "x", "train"}).one_host);
  }
  CHECK(read_mpirun_words({"-n", "2", "train", "--hostfile", "x"}).one_host);
}

TEST_CASE("the number of ranks is unknown if the options do not say it") {
  CHECK(read_mpirun_words({"-np", "12", "eval"}).ranks == 12);
  CHECK(read_mpirun_words({"-np", "many", "eval"}).ranks == 0);
  CHECK(read_mpirun_words({"-n", "2x", "eval"}).ranks == 0);
  CHECK(read_mpirun_words({"train"}).ranks == 0);
}

TEST_CASE("variables that mpirun exports with a value are known") {
  CHECK(read_mpirun_words({"-x", "WEIR_RUN=a b", "-x", "PATH", "train"}).exported ==
        Words{"WEIR_RUN=a b"});
}

TEST_CASE("ranks yield to each other only if one host has fewer cores than workers") {
  const MpirunHost host = {.cores = 2};
  CHECK(yields({"-n", "3", "train"}, host) == "0");  // two workers, one server
  CHECK(yields({"-n", "4", "train"}, host) == "1");
  CHECK(yields({"train"}, host) == "1");  // an unknown number of ranks
  CHECK(yields({"-n", "2", "train", "--placement", "colocated"}, host) == "0");
  CHECK(yields({"-n", "3", "train", "--placement=colocated"}, host) == "1");
  CHECK(yields({"-n", "3", "train"}, {.cores = 2, .placement = "colocated"}) == "1");
}

TEST_CASE("several hosts keep Open MPI's own binding and slots; so does a job of Slurm") {
  const MpirunHost slurm = {.has_slurm_job = true, .cores = 2};
  CHECK(mpirun_environment(read_mpirun_words({"-n", "3", "train"}), slurm).size() == 1);
  CHECK(mpirun_environment(read_mpirun_words({"-H", "a", "-n", "3", "train"}), {}).size() == 1);
  const auto one = mpirun_environment(read_mpirun_words({"-n", "3", "train"}), {.cores = 2});
  CHECK(value_in(one, "OMPI_MCA_rmaps_base_oversubscribe") == "1");
  CHECK(value_in(one, "OMPI_MCA_hwloc_base_binding_policy") == "none");
}

TEST_CASE("root and an OpenCL runtime are dealt with; what the user says of components counts") {
  const MpirunWords words = read_mpirun_words({"train"});
  const auto root = mpirun_environment(words, {.is_root = true});
  CHECK(value_in(root, "OMPI_ALLOW_RUN_AS_ROOT") == "1");
  CHECK(value_in(root, "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM") == "1");
  CHECK(value_in(root, "HWLOC_COMPONENTS") == "-opencl");
  const auto user = mpirun_environment(words, {.components = "-pci"});
  CHECK(value_in(user, "OMPI_ALLOW_RUN_AS_ROOT") == "none");
  CHECK(value_in(user, "HWLOC_COMPONENTS") == "none");
}

TEST_CASE("a hostfile is known if it is the only word that names hosts") {
  CHECK(read_mpirun_words({"-n", "2", "--hostfile", "f", "train"}).hostfile == "f");
  CHECK(read_mpirun_words({"-machinefile", "f", "train"}).hostfile == "f");
  for (const Words& words :
       {Words{"--hostfile", "f", "--host", "a", "train"}, Words{"-H", "a", "--hostfile", "f"},
        Words{"--hostfile", "f", "--hostfile", "g"}, Words{"--default-hostfile", "f"}, Words{}}) {
    CHECK(read_mpirun_words(words).hostfile.empty());
  }
}

TEST_CASE("another hostfile and number of ranks take the place of those in mpirun's words") {
  const MpirunWords before = read_mpirun_words(
      {"-np", "6", "--mca", "a", "b", "--hostfile", "f", "--map-by", "node", "train", "-n", "7"});
  const MpirunWords after = with_hosts(before, "g", 4);
  CHECK(after.options ==
        Words{"--mca", "a", "b", "--hostfile", "g", "--map-by", "node", "-n", "4"});
  CHECK(after.hostfile == "g");
  CHECK(after.ranks == 4);
  CHECK(after.command == before.command);
  CHECK(with_hosts(read_mpirun_words({"--hostfile", "f", "train"}), "g", 4).options ==
        Words{"--hostfile", "g", "-n", "4"});
}

TEST_CASE("an option of weir gets another value, however the old one was written") {
  CHECK(with_option({"train", "--steps", "3"}, "resume", "auto") ==
        Words{"train", "--steps", "3", "--resume=auto"});
  CHECK(with_option({"train", "--resume", "never", "--steps=3"}, "resume", "auto") ==
        Words{"train", "--steps=3", "--resume=auto"});
  CHECK(with_option({"train", "--resume=x/y", "--resumes=3"}, "resume", "auto") ==
        Words{"train", "--resumes=3", "--resume=auto"});
}

}  // namespace
}  // namespace weir::test::mpirun_words_test
