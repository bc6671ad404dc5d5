// What Python sees of the compiled kernels, and what one instruction set has to offer.
//
// Arrays are float32, row-major and contiguous, ids int64. Cells are numbered as in CELLS of
// `native/__init__.py`. Functions that can fail return 0 when all is well.

#pragma once
#include <cmath>
#include <cstdint>
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

// y = x W^T + b.
struct Linear {
    int64_t rows, K, M, threads;
    const float* x;       // (rows, K)
    const float* weight;  // (M, K)
    const float* bias;    // (M,)
    float* y;             // (rows, M)
};

struct LinearGradients {
    const float* y;
    float* x;
    float* weight;
    float* bias;
};

// The head over a window, with its cross-entropy. Rows are T*B places, time-major.
struct Head {
    int64_t rows, B, H, V, threads, ignored;
    const float* outputs;    // (rows, H) of the layer below
    const float* mask;       // (B, H) that they are multiplied by, or null
    const float* weight;     // (V, H)
    const float* bias;       // (V,)
    const int64_t* targets;  // (rows,), of which `ignored` count for nothing
    float* masked;           // (rows, H), where there is a mask
    float* p;                // head_size floats: probabilities, then the gradient of the logits
    float* nats;             // (rows,)
};

struct HeadGradients {
    float nats;  // of their sum
    float* outputs;
    float* weight;
    float* bias;
};

// Runs f(data, i) for i = 0 .. n-1, each on a thread of its own.
using Share = void (*)(void* data, int64_t i);
void in_parallel(int64_t n, Share f, void* data);

template <class F>
void in_parallel(int64_t n, F f) {
    in_parallel(n, [](void* data, int64_t i) { (*static_cast<F*>(data))(i); }, &f);
}

// A matrix for sampling, in panels of whole vectors, its rows by gate and padded to vectors. In float32, element
// (k, row) stands at [row / panel][k][row % panel]; as bytes, four of k stand together.
struct Packed {
    const void* panels;
    const float* bias;      // of each row
    const float* scale;     // of each row in bytes; null for float32
    const int32_t* offset;  // -128 times the sum of each row's bytes
};

// A trained network. L layers, V vocabulary.
struct Network {
    int64_t cell, L, H, V, residual;
    int64_t lanes;         // of the kernels it was packed for
    const float* table;    // (V, G*H), the first layer's gates of every character
    const Packed* hidden;  // L of them: recurrent weights
    const Packed* input;   // L of them, the first without a meaning
    Packed head;
};

// How a character is chosen; as `Choice` of sampling.py.
struct Choosing {
    double temperature, top_p, min_p;
    int64_t top_k, num_never;
    const int64_t* never;  // ids that are not written
};

// Memory for the length of a call, on the boundary of a cache line. It stays with the thread for the next
// call: fresh memory costs a page fault every 4 KiB, which for a window's weights is as much as packing them.
//
// What the instruction sets share is compiled in kernels.cpp, for any processor: the linker keeps one copy
// of an inline function, and it must not be the one with the widest instructions.
class Scratch {
  public:
    explicit Scratch(int64_t floats);
    ~Scratch();
    Scratch(const Scratch&) = delete;
    explicit operator bool() const;
    float* get() const;

  private:
    struct Block;
    static thread_local Block kept_[4];
    Block* block_ = nullptr;
};

struct Kernels {
    const char* name;
    bool (*supported)();
    int64_t (*saved_size)(int64_t cell, int64_t T, int64_t B, int64_t H, int64_t keep);
    int (*forward)(const Window&);
    int (*backward)(const Window&, const Gradients&);
    int (*linear_forward)(const Linear&);
    int (*linear_backward)(const Linear&, const LinearGradients&);
    int64_t (*head_size)(int64_t rows, int64_t V);
    int (*head_forward)(const Head&);
    int (*head_backward)(const Head&, const HeadGradients&);
    int64_t lanes, panel;  // floats in a vector, vectors in a panel: how matrices are packed for the next two
    int (*read_text)(const Network&, int64_t N, int64_t n, const int64_t* ids, float* states, float* logits,
                     int64_t threads);
    int (*write_text)(const Network&, const Choosing&, int64_t N, int64_t n, const double* uniforms, int64_t* ids,
                      float* states, float* logits, int64_t threads);
};

extern const Kernels avx512_kernels, avx2_kernels, portable_kernels;
