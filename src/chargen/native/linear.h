// The product of a window with a matrix, forward and backward: y = x W^T + b.
//
// Threads divide the rows of y and of the gradient of x, and the rows of W for the gradient of W. The result of a row
// does not depend on the division.
//
// Dimensions: x is (rows, K), W is (M, K), y is (rows, M).
#pragma once

#include "product.h"

namespace {

struct LinearShape {
    int64_t rows, K, M;                        // x is (rows, K), W is (M, K)
    static constexpr int64_t NEAR = 4 * ROWS;  // rows of a product that fit into the first-level cache
    static constexpr int64_t PIECE = 256;      // rows of a gradient that fit into the cache

    // The vectors that n floats need, the valid floats of one of them, and the vectors of the panel at one of them.
    static int64_t blocks(int64_t n) { return (n + VECTOR_WIDTH - 1) / VECTOR_WIDTH; }
    static int64_t part(int64_t n, int64_t block) {
        return n - block * VECTOR_WIDTH < VECTOR_WIDTH ? n - block * VECTOR_WIDTH : VECTOR_WIDTH;
    }
    static int64_t width(int64_t n, int64_t block) { return blocks(n) - block < PANEL ? blocks(n) - block : PANEL; }
};

// Pack the panels of W^T, which are up to PANEL adjacent vectors of M over all of K, and behind them the bias. Pack
// vectors from .. to - 1.
static void pack_forward(const float* weight, const float* bias, LinearShape s, float* packed, int64_t from,
                         int64_t to) {
    float* packed_bias = packed + s.blocks(s.M) * s.K * VECTOR_WIDTH;
    for (int64_t m = from; m < to; ++m) {
        const int64_t panel = m / PANEL * PANEL, C = s.width(s.M, panel), n = s.part(s.M, m);
        float* out = packed + (panel * s.K + (m - panel)) * VECTOR_WIDTH;
        put_transposed(weight + m * VECTOR_WIDTH * s.K, n, s.K, out, C * VECTOR_WIDTH);
        store(packed_bias + m * VECTOR_WIDTH, bias ? load(bias + m * VECTOR_WIDTH, n) : Vec{});
    }
}

// Pack the panels of W, which are up to PANEL adjacent vectors of K over all of M. Pack vectors from .. to - 1.
static void pack_backward(const float* weight, LinearShape s, float* packed, int64_t from, int64_t to) {
    for (int64_t k = from; k < to; ++k) {
        const int64_t panel = k / PANEL * PANEL, C = s.width(s.K, panel);
        float* out = packed + (panel * s.M + (k - panel)) * VECTOR_WIDTH;
        for (int64_t m = 0; m < s.M; ++m)
            store(out + m * C * VECTOR_WIDTH, load(weight + m * s.K + k * VECTOR_WIDTH, s.part(s.K, k)));
    }
}

static int64_t packed_forward_size(LinearShape s) { return s.blocks(s.M) * (s.K + 1) * VECTOR_WIDTH; }
static int64_t packed_backward_size(LinearShape s) { return s.blocks(s.K) * s.M * VECTOR_WIDTH; }

// y (rows, y_stride) = x W^T + b for up to NEAR rows. y_stride is at least the whole vectors of M.
static void linear_rows(const float* x, int64_t rows, LinearShape s, const float* packed, float* y, int64_t y_stride) {
    const float* bias = packed + s.blocks(s.M) * s.K * VECTOR_WIDTH;
    for (int64_t m = 0; m < s.blocks(s.M); m += PANEL)
        product(x, rows, {s.K, VECTOR_WIDTH, 1, s.K}, packed + m * s.K * VECTOR_WIDTH, s.width(s.M, m),
                bias + m * VECTOR_WIDTH, y + m * VECTOR_WIDTH, y_stride);
}

// dx (rows, blocks(K) * VECTOR_WIDTH) = dy W for up to NEAR rows.
static void linear_rows_back(const float* dy, int64_t dy_stride, int64_t rows, LinearShape s, const float* packed,
                             float* dx) {
    for (int64_t k = 0; k < s.blocks(s.K); k += PANEL)
        product(dy, rows, {dy_stride, VECTOR_WIDTH, 1, s.M}, packed + k * s.M * VECTOR_WIDTH, s.width(s.K, k), nullptr,
                dx + k * VECTOR_WIDTH, s.blocks(s.K) * VECTOR_WIDTH);
}

// Add to a tile of dW, of up to R rows and C vectors, the sum over `num` rows of d^T x. The rows of d are VECTOR_WIDTH
// floats apart. If `first`, start from zero.
template <int R, int C>
static void add_outer(const float* d, const float* x, int64_t num, int64_t rows, int64_t columns, LinearShape s,
                      bool first, float* grad) {
    Vec sum[R][C] = {};
    if (!first)
        for (int r = 0; r < rows; ++r)
            for (int c = 0; c < C; ++c) sum[r][c] = load(grad + r * s.K + c * VECTOR_WIDTH, columns - c * VECTOR_WIDTH);
    if (!first)  // prefetch the tile to the right, which has left the cache since the previous piece
        for (int r = 0; r < R; ++r)
            for (int c = 0; c < C; ++c) __builtin_prefetch(grad + r * s.K + (C + c) * VECTOR_WIDTH, 1);
    const auto add = [&](auto size) {
        for (int64_t i = 0; i < num; ++i) {
            Vec v[C];
            for (int c = 0; c < C; ++c) v[c] = load(x + i * s.K + c * VECTOR_WIDTH, size.n - c * VECTOR_WIDTH);
            for (int r = 0; r < R; ++r)
                for (int c = 0; c < C; ++c) sum[r][c] += d[i * VECTOR_WIDTH + r] * v[c];
        }
    };
    if (columns >= C * VECTOR_WIDTH)
        add(Exactly<C * VECTOR_WIDTH>());
    else
        add(Part{columns});
    for (int r = 0; r < rows; ++r)
        for (int c = 0; c < C; ++c) store(grad + r * s.K + c * VECTOR_WIDTH, sum[r][c], columns - c * VECTOR_WIDTH);
}

// dW (M, K) = dy^T x and db (M,) = the sum of dy over rows, for vectors from .. to - 1 of M. `near` is scratch for
// PIECE vectors.
static void weight_gradient(const float* dy, int64_t dy_stride, const float* x, LinearShape s, int64_t from, int64_t to,
                            float* near, float* grad_weight, float* grad_bias) {
    for (int64_t begin = 0; begin < s.rows; begin += s.PIECE) {
        const int64_t num = s.rows - begin < s.PIECE ? s.rows - begin : s.PIECE;
        for (int64_t m = from; m < to; ++m) {
            const int64_t n = s.part(s.M, m);
            Vec sum = begin ? load(grad_bias + m * VECTOR_WIDTH, n) : Vec{};
            for (int64_t i = 0; i < num; ++i) {
                const Vec d = load(dy + (begin + i) * dy_stride + m * VECTOR_WIDTH, n);
                store(near + i * VECTOR_WIDTH, d);
                sum += d;
            }
            store(grad_bias + m * VECTOR_WIDTH, sum, n);
            for (int64_t row = 0; row < n; row += GRADIENT_ROWS)
                for (int64_t k = 0; k < s.blocks(s.K); k += GRADIENT_PANEL) {
                    const int64_t left = s.blocks(s.K) - k;
                    with_vectors<GRADIENT_PANEL>(left < GRADIENT_PANEL ? left : GRADIENT_PANEL, [&](auto C) {
                        add_outer<GRADIENT_ROWS, C.value>(
                            near + row, x + begin * s.K + k * VECTOR_WIDTH, num,
                            n - row < GRADIENT_ROWS ? n - row : GRADIENT_ROWS, s.K - k * VECTOR_WIDTH, s, begin == 0,
                            grad_weight + (m * VECTOR_WIDTH + row) * s.K + k * VECTOR_WIDTH);
                    });
                }
        }
    }
}

static void copy_rows(const float* from, int64_t from_stride, float* to, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t j = 0; j < columns; j += VECTOR_WIDTH)
            store(to + r * columns + j, load(from + r * from_stride + j), columns - j);
}

// Return how many threads a product takes: one if it is too small to gain from more.
static int64_t threads_for(const Linear& w) { return w.rows * w.K * w.M < int64_t(1) << 22 ? 1 : w.num_threads; }

static int linear_forward(const Linear& w) {
    const LinearShape s{w.rows, w.K, w.M};
    const int64_t threads = threads_for(w);
    const int64_t stride = s.blocks(w.M) * VECTOR_WIDTH;
    Scratch packed(packed_forward_size(s)), near(stride == w.M ? 0 : threads * s.NEAR * stride);
    if (!packed || !near) return NO_MEMORY;
    in_parallel(threads, [&](int64_t i) {
        pack_forward(w.weight, w.bias, s, packed.get(), s.blocks(w.M) * i / threads, s.blocks(w.M) * (i + 1) / threads);
    });
    in_parallel(threads, [&](int64_t i) {
        const int64_t from = w.rows * i / threads, to = w.rows * (i + 1) / threads;
        for (int64_t begin = from; begin < to; begin += s.NEAR) {
            const int64_t rows = to - begin < s.NEAR ? to - begin : s.NEAR;
            float* y = stride == w.M ? w.y + begin * w.M : near.get() + i * s.NEAR * stride;
            linear_rows(w.x + begin * w.K, rows, s, packed.get(), y, stride);
            if (stride != w.M) copy_rows(y, stride, w.y + begin * w.M, rows, w.M);
        }
    });
    return OK;
}

static int linear_backward(const Linear& w, const LinearGradients& g) {
    const LinearShape s{w.rows, w.K, w.M};
    const int64_t threads = threads_for(w);
    const int64_t stride = s.blocks(w.K) * VECTOR_WIDTH;
    Scratch packed(packed_backward_size(s)), near(threads * (s.NEAR * stride + s.PIECE * VECTOR_WIDTH));
    if (!packed || !near) return NO_MEMORY;
    const auto own = [&](int64_t i) { return near.get() + i * (s.NEAR * stride + s.PIECE * VECTOR_WIDTH); };
    in_parallel(threads, [&](int64_t i) {
        pack_backward(w.weight, s, packed.get(), s.blocks(w.K) * i / threads, s.blocks(w.K) * (i + 1) / threads);
    });
    in_parallel(threads, [&](int64_t i) {
        const int64_t from = w.rows * i / threads, to = w.rows * (i + 1) / threads;
        for (int64_t begin = from; begin < to; begin += s.NEAR) {
            const int64_t rows = to - begin < s.NEAR ? to - begin : s.NEAR;
            float* dx = stride == w.K ? g.x + begin * w.K : own(i);
            linear_rows_back(g.y + begin * w.M, w.M, rows, s, packed.get(), dx);
            if (stride != w.K) copy_rows(dx, stride, g.x + begin * w.K, rows, w.K);
        }
    });
    in_parallel(threads, [&](int64_t i) {
        weight_gradient(g.y, w.M, w.x, s, s.blocks(w.M) * i / threads, s.blocks(w.M) * (i + 1) / threads, own(i),
                        g.weight, g.bias);
    });
    return OK;
}

}  // namespace
