// The product of a window with a matrix, forward and backward: y = x W^T + b.
//
// Threads divide the rows of y and of the gradient of x, and the rows of W for the gradient of W. The result of a row
// does not depend on the division.
//
// Dimensions: x is (rows, K), W is (M, K), y is (rows, M).
#pragma once

#include "weight_gradient.h"

namespace {

struct LinearShape {
    int64_t rows, K, M;                        // x is (rows, K), W is (M, K)
    static constexpr int64_t NEAR = 4 * ROWS;  // rows of a product that fit into the first-level cache

    // The vectors that n floats need, the valid floats of one of them, and the vectors of the panel at one of them.
    static int64_t blocks(int64_t n) { return (n + VECTOR_WIDTH - 1) / VECTOR_WIDTH; }
    static int64_t part(int64_t n, int64_t block) {
        return n - block * VECTOR_WIDTH < VECTOR_WIDTH ? n - block * VECTOR_WIDTH : VECTOR_WIDTH;
    }
    static int64_t width(int64_t n, int64_t block) { return blocks(n) - block < PANEL ? blocks(n) - block : PANEL; }
};

// Pack the panels of W^T, which are up to PANEL adjacent vectors of M over all of K, and behind them the bias. Pack
// vectors from .. to - 1.
template <class F>
static void pack_forward(const float* weight, const float* bias, LinearShape s, float* packed, int64_t from,
                         int64_t to) {
    const int64_t K = num_factors<F>(s.K);
    float* packed_bias = packed + s.blocks(s.M) * K * VECTOR_WIDTH;
    for (int64_t m = from; m < to; ++m) {
        const int64_t panel = m / PANEL * PANEL, C = s.width(s.M, panel), n = s.part(s.M, m);
        F* out = reinterpret_cast<F*>(packed) + (panel * K + (m - panel)) * VECTOR_WIDTH;
        put_transposed(weight + m * VECTOR_WIDTH * s.K, n, s.K, out, C * VECTOR_WIDTH);
        store(packed_bias + m * VECTOR_WIDTH, bias ? load(bias + m * VECTOR_WIDTH, n) : Vec{});
    }
}

// Pack the panels of W, which are up to PANEL adjacent vectors of K over all of M. Pack vectors from .. to - 1.
template <class F>
static void pack_backward(const float* weight, LinearShape s, float* packed, int64_t from, int64_t to) {
    for (int64_t k = from; k < to; ++k) {
        const int64_t panel = k / PANEL * PANEL, C = s.width(s.K, panel);
        put_rows([&](int64_t m) { return weight + m * s.K + k * VECTOR_WIDTH; }, s.M, s.part(s.K, k),
                 reinterpret_cast<F*>(packed) + (panel * num_factors<F>(s.M) + (k - panel)) * VECTOR_WIDTH,
                 C * VECTOR_WIDTH);
    }
}

// Sizes in floats; a factor takes as much memory as a float.
template <class F>
static int64_t packed_forward_size(LinearShape s) {
    return s.blocks(s.M) * (num_factors<F>(s.K) + 1) * VECTOR_WIDTH;
}
template <class F>
static int64_t packed_backward_size(LinearShape s) {
    return s.blocks(s.K) * num_factors<F>(s.M) * VECTOR_WIDTH;
}

// y (rows, y_stride) = x W^T + b for up to NEAR rows. y_stride is at least the whole vectors of M.
template <class F>
static void linear_rows(Rows<F> x, int64_t rows, LinearShape s, const float* packed, float* y, int64_t y_stride) {
    const int64_t K = num_factors<F>(s.K);
    const F* panels = reinterpret_cast<const F*>(packed);
    const float* bias = packed + s.blocks(s.M) * K * VECTOR_WIDTH;
    for (int64_t m = 0; m < s.blocks(s.M); m += PANEL)
        product(x.start, rows, {x.stride, VECTOR_WIDTH, 1, K}, panels + m * K * VECTOR_WIDTH, s.width(s.M, m),
                bias + m * VECTOR_WIDTH, y + m * VECTOR_WIDTH, y_stride);
}

// dx (rows, blocks(K) * VECTOR_WIDTH) = dy W for up to NEAR rows.
template <class F>
static void linear_rows_back(Rows<F> dy, int64_t rows, LinearShape s, const float* packed, float* dx) {
    const int64_t M = num_factors<F>(s.M);
    const F* panels = reinterpret_cast<const F*>(packed);
    for (int64_t k = 0; k < s.blocks(s.K); k += PANEL)
        product(dy.start, rows, {dy.stride, VECTOR_WIDTH, 1, M}, panels + k * M * VECTOR_WIDTH, s.width(s.K, k),
                nullptr, dx + k * VECTOR_WIDTH, s.blocks(s.K) * VECTOR_WIDTH);
}

// dW (M, K) = dy^T x and db (M,) = the sum of dy over rows, for the share of thread i. `shared` and `own` are scratch of
// the team and of the thread (weight_gradient.h).
template <class F>
static void weight_gradient(const float* dy, int64_t dy_stride, const float* x, LinearShape s, Team& team, int64_t i,
                            float* shared, float* own, float* grad_weight, float* grad_bias) {
    const int64_t from = s.blocks(s.M) * i / team.size(), to = s.blocks(s.M) * (i + 1) / team.size();
    const auto row_of_dy = [&](int64_t n) { return dy + n * dy_stride; };
    weight_gradient_of<F>(
        s.rows, s.K, [&](int64_t n) { return x + n * s.K; }, row_of_dy,
        [&](int64_t m) { return Columns{m * VECTOR_WIDTH, s.part(s.M, m), grad_weight + m * VECTOR_WIDTH * s.K}; })(
        team, i, from, to, shared, own, [&](int64_t begin, int64_t end) {
            for (int64_t m = from; m < to; ++m) {
                const int64_t n = s.part(s.M, m);
                Vec sum = begin ? load(grad_bias + m * VECTOR_WIDTH, n) : Vec{};
                for (int64_t row = begin; row < end; ++row) sum += load(row_of_dy(row) + m * VECTOR_WIDTH, n);
                store(grad_bias + m * VECTOR_WIDTH, sum, n);
            }
        });
}

static void copy_rows(const float* from, int64_t from_stride, float* to, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t j = 0; j < columns; j += VECTOR_WIDTH)
            store(to + r * columns + j, load(from + r * from_stride + j), columns - j);
}

template <class F>
static int linear_forward_in(const Linear& w) {
    const LinearShape s{w.rows, w.K, w.M};
    const int64_t threads = threads_for(w.rows * w.K * w.M, w.num_threads), stride = s.blocks(w.M) * VECTOR_WIDTH;
    const int64_t near_y = s.NEAR * (stride == w.M ? 0 : stride), near_x = s.NEAR * padded_factors<F>(w.K);
    Scratch packed(packed_forward_size<F>(s)), near(threads * (near_y + near_x));
    if (!packed || !near) return NO_MEMORY;
    in_team(threads, [&](Team& team, int64_t i) {
        const int64_t num = team.size();
        pack_forward<F>(w.weight, w.bias, s, packed.get(), s.blocks(w.M) * i / num, s.blocks(w.M) * (i + 1) / num);
        team.wait();
        float* own = near.get() + i * (near_y + near_x);
        const int64_t from = w.rows * i / num, to = w.rows * (i + 1) / num;
        for (int64_t begin = from; begin < to; begin += s.NEAR) {
            const int64_t rows = to - begin < s.NEAR ? to - begin : s.NEAR;
            float* y = stride == w.M ? w.y + begin * w.M : own + near_x;
            linear_rows(rows_of<F>(w.x + begin * w.K, w.K, rows, w.K, own), rows, s, packed.get(), y, stride);
            if (stride != w.M) copy_rows(y, stride, w.y + begin * w.M, rows, w.M);
        }
    });
    return OK;
}

template <class F>
static int linear_backward_in(const Linear& w, const LinearGradients& g) {
    const LinearShape s{w.rows, w.K, w.M};
    const int64_t threads = threads_for(w.rows * w.K * w.M, w.num_threads), stride = s.blocks(w.K) * VECTOR_WIDTH;
    const int64_t near_dx = s.NEAR * stride, near_dy = s.NEAR * padded_factors<F>(w.M);
    const int64_t size = near_dx + near_dy + AnyGradient<F>::own_size();
    Scratch packed(packed_backward_size<F>(s)), near(threads * size), shared(AnyGradient<F>::shared_size(w.K));
    if (!packed || !near || !shared) return NO_MEMORY;
    in_team(threads, [&](Team& team, int64_t i) {
        const int64_t num = team.size();
        pack_backward<F>(w.weight, s, packed.get(), s.blocks(w.K) * i / num, s.blocks(w.K) * (i + 1) / num);
        team.wait();
        float* own = near.get() + i * size;
        const int64_t from = w.rows * i / num, to = w.rows * (i + 1) / num;
        for (int64_t begin = from; begin < to; begin += s.NEAR) {
            const int64_t rows = to - begin < s.NEAR ? to - begin : s.NEAR;
            float* dx = stride == w.K ? g.x + begin * w.K : own + near_dy;
            linear_rows_back(rows_of<F>(g.y + begin * w.M, w.M, rows, w.M, own), rows, s, packed.get(), dx);
            if (stride != w.K) copy_rows(dx, stride, g.x + begin * w.K, rows, w.K);
        }
        weight_gradient<F>(g.y, w.M, w.x, s, team, i, shared.get(), own + near_dx + near_dy, g.weight, g.bias);
    });
    return OK;
}

static int linear_forward(const Linear& w) {
    return with_factor(w.bf16, [&](auto f) { return linear_forward_in<decltype(f)>(w); });
}

static int linear_backward(const Linear& w, const LinearGradients& g) {
    return with_factor(w.bf16, [&](auto f) { return linear_backward_in<decltype(f)>(w, g); });
}

}  // namespace
