// What Python sees of the compiled kernels, and what one instruction set has to offer.
//
// Arrays are float32, row-major and contiguous, ids int64. Cells are numbered as in CELLS of
// `native/__init__.py`. Functions that can fail return 0 when all is well.

#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

enum { OK = 0, NO_MEMORY = 1, BAD_ID = 2 };

// One window of one layer. B lanes, T ticks, H hidden, G gates.
struct Window {
    int64_t cell, T, B, H;
    int64_t threads;
    int64_t keep;            // whether a derivative will be asked for
    int64_t num_rows;        // rows of gates_x where ids name them
    const int64_t* ids;      // (T, B) rows of gates_x, or null: one row for each
    const float* gates_x;    // (num_rows or T*B, G*H)
    const float* weight_hh;  // (G*H, H)
    const float* bias_hh;    // (G*H,)
    const float* h0;         // (B, H)
    const float* c0;         // (B, H), lstm alone
    float* outputs;          // (T, B, H)
    float* cn;               // (B, H), lstm alone
    float* saved;            // saved_size floats; what the derivative needs, then what it makes of it
};

struct Gradients {
    const float* outputs;  // (T, B, H), or null for zero; so with the next two
    const float* hn;
    const float* cn;
    float* gates_x;  // as gates_x is
    float* weight_hh;
    float* bias_hh;
    float* h0;
    float* c0;
};

// Runs f(data, i) for i = 0 .. n-1, each on a thread of its own.
using Share = void (*)(void* data, int64_t i);
void in_parallel(int64_t n, Share f, void* data);

template <class F>
void in_parallel(int64_t n, F f) {
    in_parallel(n, [](void* data, int64_t i) { (*static_cast<F*>(data))(i); }, &f);
}

// Memory for the length of a call, on the boundary of a cache line. It stays with the thread for the next
// call: fresh memory costs a page fault every 4 KiB, which for a window's weights is as much as packing them.
class Scratch {
  public:
    explicit Scratch(int64_t floats) {
        const size_t bytes = sizeof(float) * size_t(floats) + 64;
        for (Block& block : kept_)
            if (!block.taken && (!block_ || (block_->bytes < bytes ? block.bytes > block_->bytes
                                                                    : block.bytes >= bytes && block.bytes < block_->bytes)))
                block_ = &block;
        if (!block_) return;
        if (block_->bytes < bytes) {
            free(block_->start);
            block_->start = static_cast<char*>(malloc(bytes));
            block_->bytes = block_->start ? bytes : 0;
        }
        block_->taken = block_->start != nullptr;
    }
    ~Scratch() {
        if (block_) block_->taken = false;
    }
    Scratch(const Scratch&) = delete;
    explicit operator bool() const { return block_ && block_->start; }
    float* get() const {
        return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(block_->start) + 63) & ~uintptr_t{63});
    }

  private:
    struct Block {
        char* start = nullptr;
        size_t bytes = 0;
        bool taken = false;
        ~Block() { free(start); }
    };
    static thread_local Block kept_[4];
    Block* block_ = nullptr;
};

struct Kernels {
    const char* name;
    bool (*supported)();
    int64_t (*saved_size)(int64_t cell, int64_t T, int64_t B, int64_t H, int64_t keep);
    int (*forward)(const Window&);
    int (*backward)(const Window&, const Gradients&);
};

extern const Kernels avx512_kernels, avx2_kernels, portable_kernels;
