#pragma once

#include <algorithm>
#include <barrier>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "tests/worker/low_types.hpp"
#include "worker/groups/tensor_group.hpp"

namespace weir::test {

/// The shards of one stage as threads of this process: a TensorGroup without MPI, for each thread
/// its own.
class ThreadShards {
 public:
  explicit ThreadShards(index_t count) : count_(count), parts_(count), barrier_(count) {}

  /// Calls body(group) on `count` threads at once, each with its own index, and waits for all.
  void run(const std::function<void(worker::TensorGroup&)>& body) {
    std::vector<std::thread> threads;
    for (index_t index = 0; index < count_; ++index) {
      threads.emplace_back([this, index, &body] { body(*group(index)); });
    }
    for (std::thread& thread : threads) thread.join();
  }

  /// For the thread that is shard `index`; looks at this.
  std::unique_ptr<worker::TensorGroup> group(index_t index) {
    return std::make_unique<Group>(*this, index);
  }

 private:
  class Group final : public worker::TensorGroup {
   public:
    Group(ThreadShards& shards, index_t index) : shards_(shards), index_(index) {}
    index_t size() const override { return shards_.count_; }
    index_t index() const override { return index_; }
    void sum(Vector values) override {
      std::vector<float> floats = floats_of(values);
      reduce(floats, [](float a, float b) { return a + b; });
      round_to(floats, values);
    }
    void start_row_sum(Matrix) override {}
    void finish_row_sum(Matrix values) override {
      std::vector<float> floats = floats_of(values.flat());
      reduce(floats, [](float a, float b) { return a + b; });
      const Interval own = own_rows(values.extent(0));
      const Interval mine = {own.begin * values.extent(1), own.end * values.extent(1)};
      for (index_t i = 0; i < std::ssize(floats); ++i) {
        if (!mine.holds(i)) floats[static_cast<std::size_t>(i)] = 1e4F;  // whoever reads it, errs
      }
      round_to(floats, values.flat());
    }
    void gather_rows(Matrix values) override {
      std::vector<float> floats = floats_of(values.flat());
      const Interval own = own_rows(values.extent(0));
      const Interval mine = {own.begin * values.extent(1), own.end * values.extent(1)};
      for (index_t i = 0; i < std::ssize(floats); ++i) {
        if (!mine.holds(i)) floats[static_cast<std::size_t>(i)] = 0;
      }
      reduce(floats, [](float a, float b) { return a + b; });
      round_to(floats, values.flat());
    }
    void max(Vector values) override {
      reduce(as<float>(values), [](float a, float b) { return std::max(a, b); });
    }

   private:
    template <class Combine>
    void reduce(std::span<float> values, Combine combine) {
      shards_.parts_[index_] = values;
      shards_.barrier_.arrive_and_wait();
      std::vector<float> result(shards_.parts_[0].begin(), shards_.parts_[0].end());
      for (std::size_t part = 1; part < shards_.parts_.size(); ++part) {
        for (std::size_t i = 0; i < result.size(); ++i) {
          result[i] = combine(result[i], shards_.parts_[part][i]);
        }
      }
      shards_.barrier_.arrive_and_wait();  // all have read before any writes
      std::ranges::copy(result, values.begin());
    }

    ThreadShards& shards_;
    index_t index_;
  };

  index_t count_;
  std::vector<std::span<float>> parts_;
  std::barrier<> barrier_;
};

}  // namespace weir::test
