// Scratch memory that a thread keeps from one call to the next.

#include "scratch.h"

#include <cstddef>
#include <cstdlib>

struct Scratch::Block {
    char* start = nullptr;
    size_t bytes = 0;
    bool taken = false;
    ~Block() { free(start); }
};

thread_local Scratch::Block Scratch::kept_[4];

// Take the smallest free block that is large enough. If there is none, enlarge the largest free block.
Scratch::Scratch(int64_t floats) {
    const size_t bytes = sizeof(float) * size_t(floats) + 64;
    for (Block& block : kept_) {
        if (block.taken) continue;
        const bool fits = block.bytes >= bytes, best_fits = block_ && block_->bytes >= bytes;
        if (!block_ || (best_fits ? fits && block.bytes < block_->bytes : block.bytes > block_->bytes)) block_ = &block;
    }
    if (block_ && block_->bytes < bytes) {
        free(block_->start);
        block_->start = static_cast<char*>(malloc(bytes));
        block_->bytes = block_->start ? bytes : 0;
    }
    if (block_) block_->taken = true;
}

Scratch::~Scratch() {
    if (block_) block_->taken = false;
}

Scratch::operator bool() const { return block_ && block_->start; }

float* Scratch::get() const {
    return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(block_->start) + 63) & ~uintptr_t{63});
}
