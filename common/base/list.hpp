#pragma once

#include <cassert>
#include <initializer_list>
#include <iterator>
#include <utility>
#include <vector>

#include "common/base/index.hpp"

namespace weir {

/// A std::vector whose size and positions are index_t, as all other extents are, so that neither
/// needs a cast. It is made from a std::vector and read as one implicitly: libraries and texts keep
/// theirs. A std::span looks at it as at any contiguous range.
/// Indices are checked by assert in Debug builds, not in Release.
template <class T>
class List {
  using Values = std::vector<T>;

 public:
  using value_type = T;
  using iterator = typename Values::iterator;
  using const_iterator = typename Values::const_iterator;
  using reference = typename Values::reference;
  using const_reference = typename Values::const_reference;

  List() = default;
  List(std::initializer_list<T> values) : values_(values) {}
  List(Values values) : values_(std::move(values)) {}
  explicit List(index_t count) : values_(count) {}
  List(index_t count, const T& value) : values_(count, value) {}
  template <std::input_iterator Iterator>
  List(Iterator begin, Iterator end) : values_(begin, end) {}
  operator const Values&() const { return values_; }

  index_t size() const { return std::ssize(values_); }
  bool empty() const { return values_.empty(); }
  void clear() { values_.clear(); }
  void reserve(index_t count) { values_.reserve(count); }
  void resize(index_t count) { values_.resize(count); }
  void resize(index_t count, const T& value) { values_.resize(count, value); }
  void assign(index_t count, const T& value) { values_.assign(count, value); }
  template <std::input_iterator Iterator>
  void assign(Iterator begin, Iterator end) {
    values_.assign(begin, end);
  }

  reference operator[](index_t at) {
    assert(at >= 0 && at < size());
    return values_[at];
  }
  const_reference operator[](index_t at) const {
    assert(at >= 0 && at < size());
    return values_[at];
  }
  reference front() { return values_.front(); }
  const_reference front() const { return values_.front(); }
  reference back() { return values_.back(); }
  const_reference back() const { return values_.back(); }

  void push_back(T value) { values_.push_back(std::move(value)); }
  template <class... Arguments>
  reference emplace_back(Arguments&&... arguments) {
    return values_.emplace_back(std::forward<Arguments>(arguments)...);
  }
  void pop_back() { values_.pop_back(); }
  template <class... Arguments>
  iterator insert(const_iterator at, Arguments&&... arguments) {
    return values_.insert(at, std::forward<Arguments>(arguments)...);
  }
  iterator erase(const_iterator at) { return values_.erase(at); }
  iterator erase(const_iterator begin, const_iterator end) { return values_.erase(begin, end); }

  auto data() { return values_.data(); }
  auto data() const { return values_.data(); }
  iterator begin() { return values_.begin(); }
  iterator end() { return values_.end(); }
  const_iterator begin() const { return values_.begin(); }
  const_iterator end() const { return values_.end(); }
  auto rbegin() { return values_.rbegin(); }
  auto rend() { return values_.rend(); }
  auto rbegin() const { return values_.rbegin(); }
  auto rend() const { return values_.rend(); }

  bool operator==(const List& other) const = default;
  template <class Condition>
  friend void erase_if(List& list, Condition condition) {
    std::erase_if(list.values_, condition);
  }

 private:
  Values values_;
};

}  // namespace weir
