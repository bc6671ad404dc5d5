// Scratch memory that a thread keeps from one call to the next.
#pragma once

#include <cstdint>

// A block of floats, aligned to a cache line, valid until the object is destroyed.
//
// The thread keeps the block for its next request. Fresh memory costs a page fault every 4 KiB, which for the packed
// weights of a window takes as long as packing them.
class Scratch {
  public:
    explicit Scratch(int64_t floats);
    ~Scratch();
    Scratch(const Scratch&) = delete;
    explicit operator bool() const;  // false if the memory could not be allocated
    float* get() const;

  private:
    struct Block;
    static thread_local Block kept_[4];
    Block* block_ = nullptr;
};
