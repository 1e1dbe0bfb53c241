// Ring: a queue in one block of memory, none while it has never held anything. std::deque takes 600 bytes
// for an empty one, and a connection has six.
#ifndef RINGWALL_NETSTACK_RING_H_
#define RINGWALL_NETSTACK_RING_H_

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <type_traits>
#include <utility>

namespace ringwall::net {

// Not thread-safe. Every change but those at the front makes iterators and references invalid. When it
// becomes empty it keeps room for a few elements only.
template <typename T>
class Ring {
  template <bool kConst>
  class Iter {
   public:
    using iterator_category = std::random_access_iterator_tag;
    using value_type = T;
    using difference_type = ptrdiff_t;
    using pointer = std::conditional_t<kConst, const T*, T*>;
    using reference = std::conditional_t<kConst, const T&, T&>;
    using Owner = std::conditional_t<kConst, const Ring, Ring>;

    Iter() = default;
    Iter(Owner* ring, size_t at) : ring_(ring), at_(at) {}
    reference operator*() const { return (*ring_)[at_]; }
    pointer operator->() const { return &(*ring_)[at_]; }
    reference operator[](ptrdiff_t n) const { return *(*this + n); }
    Iter& operator+=(ptrdiff_t n) {
      at_ += static_cast<size_t>(n);
      return *this;
    }
    Iter& operator-=(ptrdiff_t n) { return *this += -n; }
    Iter& operator++() { return *this += 1; }
    Iter& operator--() { return *this += -1; }
    Iter operator++(int) { return std::exchange(*this, *this + 1); }
    Iter operator--(int) { return std::exchange(*this, *this - 1); }
    friend Iter operator+(Iter i, ptrdiff_t n) { return i += n; }
    friend Iter operator+(ptrdiff_t n, Iter i) { return i += n; }
    friend Iter operator-(Iter i, ptrdiff_t n) { return i -= n; }
    friend ptrdiff_t operator-(Iter a, Iter b) { return static_cast<ptrdiff_t>(a.at_ - b.at_); }
    friend bool operator==(Iter a, Iter b) { return a.at_ == b.at_; }
    friend auto operator<=>(Iter a, Iter b) { return a.at_ <=> b.at_; }

   private:
    Owner* ring_ = nullptr;
    size_t at_ = 0;
  };

 public:
  using iterator = Iter<false>;
  using const_iterator = Iter<true>;

  Ring() = default;
  ~Ring() { Release(); }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  // Elements there is memory for.
  size_t capacity() const { return capacity_; }
  T& operator[](size_t i) { return *Slot(i); }
  const T& operator[](size_t i) const { return *Slot(i); }
  T& front() { return *Slot(0); }
  const T& front() const { return *Slot(0); }
  T& back() { return *Slot(size_ - 1); }
  const T& back() const { return *Slot(size_ - 1); }
  iterator begin() { return {this, 0}; }
  iterator end() { return {this, size_}; }
  const_iterator begin() const { return {this, 0}; }
  const_iterator end() const { return {this, size_}; }

  template <typename... A>
  T& emplace_back(A&&... args) {
    T made(std::forward<A>(args)...);  // first: it may be made from an element
    if (size_ == capacity_) Grow();
    T* const slot = std::construct_at(Slot(size_), std::move(made));
    ++size_;
    return *slot;
  }
  void push_back(T value) { emplace_back(std::move(value)); }

  // Preconditions: not empty.
  void pop_front() {
    std::destroy_at(Slot(0));
    head_ = (head_ + 1) & (capacity_ - 1);
    if (--size_ == 0) Trim();
  }

  // Before the element at `index`, which may be size().
  void Insert(size_t index, T value) {
    emplace_back(std::move(value));
    std::rotate(begin() + static_cast<ptrdiff_t>(index), end() - 1, end());
  }

  template <typename P>
  void EraseIf(P dead) {
    const iterator kept = std::remove_if(begin(), end(), dead);
    while (kept != end()) std::destroy_at(Slot(--size_));
    if (size_ == 0) Trim();
  }

  void clear() {
    while (size_ != 0) std::destroy_at(Slot(--size_));
    Trim();
  }

 private:
  static constexpr size_t kFirst = 2;
  static constexpr size_t kKept = 4;  // with nothing in it

  // Powers of two, so that the unused part of an index beyond the end is cut off.
  T* Slot(size_t i) const { return slots_ + ((head_ + i) & (capacity_ - 1)); }

  void Grow() {
    static_assert(std::is_nothrow_move_constructible_v<T>);
    const size_t more = capacity_ == 0 ? kFirst : 2 * capacity_;
    T* const fresh = std::allocator<T>().allocate(more);
    for (size_t i = 0; i < size_; i++) {
      std::construct_at(fresh + i, std::move(*Slot(i)));
      std::destroy_at(Slot(i));
    }
    if (slots_ != nullptr) std::allocator<T>().deallocate(slots_, capacity_);
    slots_ = fresh;
    capacity_ = static_cast<uint32_t>(more);
    head_ = 0;
  }

  void Trim() {
    head_ = 0;
    if (capacity_ > kKept) Release();
  }

  void Release() {
    while (size_ != 0) std::destroy_at(Slot(--size_));
    if (slots_ != nullptr) std::allocator<T>().deallocate(slots_, capacity_);
    slots_ = nullptr;
    capacity_ = head_ = 0;
  }

  T* slots_ = nullptr;
  uint32_t capacity_ = 0;
  uint32_t head_ = 0;
  size_t size_ = 0;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_RING_H_
