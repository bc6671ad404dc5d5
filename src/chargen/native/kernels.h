// The structs and functions that Python sees, and the table of functions of one instruction set.
//
// Arrays are float32, row-major and contiguous; ids are int64. Functions that can fail return a Status.
//
// How the headers fit together: simd.h, product.h, cells.h, unroll.h, window.h, linear.h, head.h and sample.h hold the
// code of every instruction set; table.h includes all of them. avx512_bf16.cpp, avx512.cpp, avx2.cpp, neon_bf16.cpp,
// neon_dot.cpp and portable.cpp each compile them once, for their own vector width (instruction_set.h) and with their
// own compiler target. The code of these headers stands in an unnamed namespace, so each of the files has its own copy.
// A header that is opened alone takes the sizes of portable.cpp and includes what it needs, so an editor can parse it.
// This header and the standard library must be included before the compiler target changes: the linker keeps one copy
// of a shared inline function, and that copy must run on any processor.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "processor.h"
#include "scratch.h"
#include "threads.h"

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

// Increase this number whenever a struct below or the signature of an exported function changes. native/loader.py
// holds the same number and refuses a library with another one.
enum { ABI_VERSION = 4 };

enum Status { OK = 0, NO_MEMORY = 1, BAD_ID = 2, BAD_CELL = 3, BAD_INSTRUCTION_SET = 4 };

enum CellNumber { RNN, LSTM, GRU };
inline constexpr const char* CELL_NAMES[] = {"rnn", "lstm", "gru"};  // indexed by CellNumber

// ------------------------------------------------------------------------------- training

// One layer over one window. Dimensions: T ticks, B lanes, H hidden, G gates.
struct Window {
    int64_t cell;  // a CellNumber
    int64_t T, B, H;
    int64_t num_threads;
    int64_t keep;            // nonzero: keep what `backward` needs
    int64_t bf16;            // nonzero: the products round their factors to bf16 and add in float32
    int64_t num_rows;        // rows of gates_x if ids is not null
    const int64_t* ids;      // (T, B) row numbers of gates_x; null: gates_x has T*B rows in order
    const float* gates_x;    // (num_rows or T*B, G*H)
    const float* weight_hh;  // (G*H, H)
    const float* bias_hh;    // (G*H,)
    const float* h0;         // (B, H)
    const float* c0;         // (B, H); only for a cell with a state c
    float* outputs;          // (T, B, H)
    float* cn;               // (B, H); only for a cell with a state c
    float* saved;            // saved_size floats: what `backward` needs; `backward` overwrites it
};

struct Gradients {
    const float* outputs;  // input, (T, B, H); null stands for zeros
    const float* hn;       // input, (B, H); null stands for zeros
    const float* cn;       // input, (B, H); null stands for zeros
    float* gates_x;        // output, shaped like gates_x of the window
    float* weight_hh;      // output
    float* bias_hh;        // output
    float* h0;             // output
    float* c0;             // output; only for a cell with a state c
};

// y = x W^T + b.
struct Linear {
    int64_t rows, K, M, num_threads;
    int64_t bf16;         // as in Window
    const float* x;       // (rows, K)
    const float* weight;  // (M, K)
    const float* bias;    // (M,)
    float* y;             // (rows, M)
};

struct LinearGradients {
    const float* y;  // input
    float* x;        // output, like the next two
    float* weight;
    float* bias;
};

// The output layer over a window, with its cross-entropy. The T*B rows are time-major.
struct Head {
    int64_t rows, B, H, V, num_threads;
    int64_t bf16;            // as in Window
    int64_t ignored;         // the target value that marks a row without a loss
    const float* outputs;    // (rows, H), the outputs of the layer below
    const float* mask;       // (B, H), multiplies the outputs; null for no mask
    const float* weight;     // (V, H)
    const float* bias;       // (V,)
    const int64_t* targets;  // (rows,)
    float* masked;           // (rows, H), the masked outputs; unused without a mask
    float* p;                // head_size floats: the probabilities, then the gradients of the logits
    float* nats;             // (rows,), the loss of each row
};

struct HeadGradients {
    float nats;      // input: the gradient of the sum of the losses
    float* outputs;  // output, like the next two
    float* weight;
    float* bias;
};

// ------------------------------------------------------------------------------- sampling

// A matrix and its bias, packed for sampling. The rows of each gate are padded to whole vectors, and all rows to whole
// panels. In float32, element (k, row) is at [row / panel size][k][row % panel size]. In int8, four consecutive k of a
// row are adjacent.
struct PackedMatrix {
    const void* panels;
    const float* bias;      // of each row
    const float* scale;     // of each int8 row; null for float32
    const int32_t* offset;  // -128 times the sum of each int8 row; null for float32
};

// A trained network. Dimensions: L layers, V vocabulary, H hidden, G gates.
struct Network {
    int64_t cell;  // a CellNumber
    int64_t L, H, V;
    int64_t residual;            // nonzero: every layer but the first adds its input to its output
    int64_t instruction_set;     // number of the instruction set that the matrices are packed for
    const float* table;          // (V, G*H), the first layer's input gates of every character
    const PackedMatrix* hidden;  // (L,), the recurrent matrices
    const PackedMatrix* input;   // (L,), the input matrices; the first one is unused
    PackedMatrix head;
};

// One text that is being written, with its sampling parameters (SamplingParams of sampling/params.py).
struct Stream {
    double temperature, top_p, min_p;
    int64_t top_k, num_banned;
    const int64_t* banned;   // (num_banned,), ids that are never chosen
    const double* uniforms;  // (n,), one random number in [0, 1) for each character
    float* state;            // (L * states of the cell, H), read and updated
    float* logits;           // (V,), of the next character, read and updated
    int64_t* ids;            // (n,), output
};

// ------------------------------------------------------------------------------- one instruction set

struct Kernels {
    const char* name;
    bool (*supported)();  // whether this processor has the instruction set
    bool has_bf16;        // whether products in bf16 are faster than those in float32
    int64_t (*saved_size)(int64_t cell, int64_t T, int64_t B, int64_t H, int64_t keep);
    int (*forward)(const Window&);
    int (*backward)(const Window&, const Gradients&);
    int (*linear_forward)(const Linear&);
    int (*linear_backward)(const Linear&, const LinearGradients&);
    int64_t (*head_size)(int64_t rows, int64_t V);
    int (*head_forward)(const Head&);
    int (*head_backward)(const Head&, const HeadGradients&);
    int64_t vector_width, panel;  // floats in a vector, vectors in a panel
    int (*read_text)(const Network&, int64_t N, int64_t n, const int64_t* ids, float* states, float* logits,
                     int64_t every, int64_t num_threads);
    int (*write_text)(const Network&, const Stream* streams, int64_t N, int64_t n, int64_t num_threads);
};

extern const Kernels avx512_bf16_kernels, avx512_kernels, avx2_kernels, neon_bf16_kernels, neon_dot_kernels,
    portable_kernels;
