// The loop over time of one layer over one window, forward and backward.
//
// Lanes are independent: a thread takes its lanes through all T ticks without waiting for other threads. The recurrent
// weights are packed once per window and read on every tick. The cell is applied after each group of panels, while the
// sums of the group are still in the first-level cache.
//
// The kept vectors of a tick have the shape (num_kept, blocks, B, VECTOR_WIDTH), followed by padding that keeps
// consecutive ticks out of the same cache sets. T of them are followed by T + 1 states c, stored in the same way. The
// backward pass replaces the kept vectors by the gradients of the gates.
//
// Dimensions: T ticks, B lanes, H hidden, G gates; a block is VECTOR_WIDTH consecutive units of H.
#pragma once

#include "cells.h"
#include "product.h"

namespace {

struct Shape {
    int64_t T, B, H;
    int64_t blocks() const { return (H + VECTOR_WIDTH - 1) / VECTOR_WIDTH; }
    int64_t tick(int64_t vectors) const { return (vectors * blocks() * B + 17) * VECTOR_WIDTH; }
    int64_t in_block(int64_t j) const {
        return H - j * VECTOR_WIDTH < VECTOR_WIDTH ? H - j * VECTOR_WIDTH : VECTOR_WIDTH;
    }
};

// Blocks are processed in groups of PANEL. The gates of a full group are PANEL * G vectors, which are G full panels.
static int64_t blocks_in_group(const Shape& s, int64_t j) { return s.blocks() - j < PANEL ? s.blocks() - j : PANEL; }

template <class Cell>
struct Unroll {
    Shape s;
    bool keep;  // whether `backward` will run; without it, memory for two ticks is enough
    const int64_t* ids;
    const float *gates_x, *weight, *h0, *c0;
    float *outputs, *saved;
    static constexpr int G = Cell::num_gates;

    // The kept vectors of tick t.
    float* kept(int64_t t) const { return saved + (keep ? t : 0) * s.tick(Cell::num_kept); }
    // The state c before tick t.
    float* cells(int64_t t) const {
        return saved + (keep ? s.T : 1) * s.tick(Cell::num_kept) + (keep ? t : t & 1) * s.tick(1);
    }
    // The state h before tick t.
    const float* before(int64_t t) const { return t ? outputs + (t - 1) * s.B * s.H : h0; }
    // The input gates of tick t on lane b.
    const float* row(int64_t t, int64_t b) const {
        const int64_t place = t * s.B + b;
        return gates_x + (ids ? ids[place] : place) * G * s.H;
    }
    static int64_t saved_size(Shape s, bool keep) {
        return (keep ? s.T : 1) * s.tick(Cell::num_kept) + (Cell::has_c ? (keep ? s.T + 1 : 2) * s.tick(1) : 0);
    }

    // ---------------------------------------------------------------------------- forward

    // Pack the panels of the product U h, in the order in which `forward` reads them: group by group, and in a group
    // the vectors (block, gate). Pack blocks from_block to to_block - 1.
    void pack_forward(float* packed, float* bias, const float* bias_hh, int64_t from_block, int64_t to_block) const {
        for (int64_t j = from_block; j < to_block; ++j)
            for (int g = 0; g < G; ++g) {
                const int64_t group = j / PANEL * PANEL, vectors = blocks_in_group(s, group) * G;
                const int64_t place = (j - group) * G + g, panel = place / PANEL * PANEL;
                const int64_t C = vectors - panel < PANEL ? vectors - panel : PANEL;
                float* out = packed + (group * G + panel) * s.H * VECTOR_WIDTH + (place - panel) * VECTOR_WIDTH;
                const int64_t n = s.in_block(j);
                put_transposed(weight + (g * s.H + j * VECTOR_WIDTH) * s.H, n, s.H, out, C * VECTOR_WIDTH);
                store(bias + (group * G + place) * VECTOR_WIDTH, load(bias_hh + g * s.H + j * VECTOR_WIDTH, n));
            }
    }

    // Run lanes from .. to - 1 through all ticks.
    void forward(const float* packed, const float* bias, float* sums, int64_t from, int64_t to, float* cn) const {
        if (Cell::has_c)
            for (int64_t j = 0; j < s.blocks(); ++j)
                for (int64_t b = from; b < to; ++b)
                    store(cells(0) + (j * s.B + b) * VECTOR_WIDTH,
                          load(c0 + b * s.H + j * VECTOR_WIDTH, s.in_block(j)));
        const Left left{s.H, VECTOR_WIDTH, 1, s.H};
        for (int64_t t = 0; t < s.T; ++t)
            for (int64_t group = 0; group < s.blocks(); group += PANEL) {
                const int64_t vectors = blocks_in_group(s, group) * G;
                prefetch(t, group, vectors / G, from, to);
                for (int64_t p = 0; p < vectors; p += PANEL) {
                    const int64_t at = group * G + p;
                    product(before(t) + from * s.H, to - from, left, packed + at * s.H * VECTOR_WIDTH,
                            vectors - p < PANEL ? vectors - p : PANEL, bias + at * VECTOR_WIDTH,
                            sums + p * VECTOR_WIDTH, vectors * VECTOR_WIDTH);
                }
                for (int64_t j = group; j < group + vectors / G; ++j)
                    with_block(j, [&](auto size) {
                        steps(t, j, size, from, to, sums + (j - group) * G * VECTOR_WIDTH, vectors * VECTOR_WIDTH);
                    });
            }
        if (Cell::has_c)
            for (int64_t j = 0; j < s.blocks(); ++j)
                for (int64_t b = from; b < to; ++b)
                    store(cn + b * s.H + j * VECTOR_WIDTH, load(cells(s.T) + (j * s.B + b) * VECTOR_WIDTH),
                          s.in_block(j));
    }

    // Prefetch the kept vectors of a group while its product is computed.
    void prefetch(int64_t t, int64_t group, int64_t num_blocks, int64_t from, int64_t to) const {
        for (int i = 0; i < Cell::num_kept; ++i)
            for (int64_t j = group; j < group + num_blocks; ++j)
                for (int64_t b = from; b < to; ++b)
                    __builtin_prefetch(kept(t) + ((i * s.blocks() + j) * s.B + b) * VECTOR_WIDTH, 1);
    }

    // Call f with the number of valid floats in block j, as a constant if the block is full.
    template <class F>
    void with_block(int64_t j, F f) const {
        if (s.in_block(j) == VECTOR_WIDTH)
            f(Whole());
        else
            f(Part{s.in_block(j)});
    }

    // Apply the cell to block j of each lane at tick t. The sums of neighbouring lanes are `stride` floats apart.
    template <class Size>
    void steps(int64_t t, int64_t j, Size size, int64_t from, int64_t to, const float* sums, int64_t stride) const {
        const float *h_before = before(t) + j * VECTOR_WIDTH, *c_before = cells(t) + j * s.B * VECTOR_WIDTH;
        float *h_after = outputs + t * s.B * s.H + j * VECTOR_WIDTH, *c_after = cells(t + 1) + j * s.B * VECTOR_WIDTH;
        float* keep_here = kept(t) + j * s.B * VECTOR_WIDTH;
        const int64_t kept_stride = s.blocks() * s.B * VECTOR_WIDTH;
        for (int64_t b = from; b < to; ++b, sums += stride) {
            const float* x_here = row(t, b) + j * VECTOR_WIDTH;
            Vec x[G], hidden[G], k[Cell::num_kept], h = load(h_before + b * s.H, size.n), c{};
            for (int g = 0; g < G; ++g) {
                x[g] = load(x_here + g * s.H, size.n);
                hidden[g] = load(sums + g * VECTOR_WIDTH);
            }
            if (Cell::has_c) c = load(c_before + b * VECTOR_WIDTH);
            Cell::step(x, hidden, h, c, k);
            store(h_after + b * s.H, h, size.n);
            if (Cell::has_c) store(c_after + b * VECTOR_WIDTH, c);
            for (int i = 0; i < Cell::num_kept; ++i) store(keep_here + i * kept_stride + b * VECTOR_WIDTH, k[i]);
        }
    }

    // ---------------------------------------------------------------------------- backward

    // Pack the panels of the product (gradient of the gates) U: up to PANEL adjacent vectors of H, over all rows of U.
    void pack_backward(float* packed, int64_t from_block, int64_t to_block) const {
        for (int64_t j = from_block; j < to_block; ++j) {
            const int64_t group = j / PANEL * PANEL, C = blocks_in_group(s, group);
            float* out = packed + group * G * s.H * VECTOR_WIDTH + (j - group) * VECTOR_WIDTH;
            for (int64_t k = 0; k < G * s.H; ++k)
                store(out + k * C * VECTOR_WIDTH, load(weight + k * s.H + j * VECTOR_WIDTH, s.in_block(j)));
        }
    }

    // Run lanes from .. to - 1 backward through all ticks. Null gradients stand for zeros.
    void backward(const float* packed, float* work, int64_t from, int64_t to, const float* grad_outputs,
                  const float* grad_hn, const float* grad_cn, float* grad_h0, float* grad_c0) const {
        const int64_t lanes = to - from, state = s.blocks() * lanes * VECTOR_WIDTH;
        float *dh = work, *dc = work + state, *sums = work + 2 * state;
        for (int64_t j = 0; j < s.blocks(); ++j)
            for (int64_t b = 0; b < lanes; ++b) {
                const int64_t at = (j * lanes + b) * VECTOR_WIDTH, there = (from + b) * s.H + j * VECTOR_WIDTH;
                store(dh + at, grad_hn ? load(grad_hn + there, s.in_block(j)) : Vec{});
                store(dc + at, grad_cn ? load(grad_cn + there, s.in_block(j)) : Vec{});
            }
        const Left left{VECTOR_WIDTH, s.B * VECTOR_WIDTH, G, s.H};
        for (int64_t t = s.T - 1; t >= -1; --t)
            for (int64_t group = 0; group < s.blocks(); group += PANEL) {
                const int64_t vectors = blocks_in_group(s, group);
                if (t >= 0) prefetch(t, group, vectors, from, to);
                if (t < s.T - 1)  // the gradient from tick t + 1 through the recurrent weights
                    product(kept(t + 1) + (Cell::hidden * s.blocks() * s.B + from) * VECTOR_WIDTH, lanes, left,
                            packed + group * G * s.H * VECTOR_WIDTH, vectors, nullptr, sums, vectors * VECTOR_WIDTH);
                for (int64_t j = group; j < group + vectors; ++j)
                    with_block(j, [&](auto size) {
                        const float* recurrent = t < s.T - 1 ? sums + (j - group) * VECTOR_WIDTH : nullptr;
                        float *dh_here = dh + j * lanes * VECTOR_WIDTH, *dc_here = dc + j * lanes * VECTOR_WIDTH;
                        if (t >= 0)
                            steps_backward(t, j, size, from, to, recurrent, vectors * VECTOR_WIDTH, grad_outputs,
                                           dh_here, dc_here);
                        else
                            first_state(j, size, from, to, recurrent, vectors * VECTOR_WIDTH, dh_here, dc_here, grad_h0,
                                        grad_c0);
                    });
            }
    }

    // Apply the cell's derivative to block j of each lane at tick t. `recurrent` is the gradient through the recurrent
    // weights, with lanes `stride` floats apart; null at the last tick. dh and dc are the gradient that arrives
    // directly.
    template <class Size>
    void steps_backward(int64_t t, int64_t j, Size size, int64_t from, int64_t to, const float* recurrent,
                        int64_t stride, const float* grad_outputs, float* dh, float* dc) const {
        const int64_t kept_stride = s.blocks() * s.B * VECTOR_WIDTH;
        for (int64_t b = from; b < to; ++b, dh += VECTOR_WIDTH, dc += VECTOR_WIDTH) {
            const int64_t at = (j * s.B + b) * VECTOR_WIDTH, there = b * s.H + j * VECTOR_WIDTH,
                          now = t * s.B * s.H + there;
            Vec grad = load(dh), grad_c{}, c_before{}, c{}, k[Cell::num_kept];
            if (recurrent) grad += load(recurrent + (b - from) * stride);
            if (grad_outputs) grad += load(grad_outputs + now, size.n);
            for (int i = 0; i < Cell::num_kept; ++i) k[i] = load(kept(t) + i * kept_stride + at);
            if (Cell::has_c) c_before = load(cells(t) + at), c = load(cells(t + 1) + at), grad_c = load(dc);
            Cell::step_backward(k, load(before(t) + there, size.n), load(outputs + now, size.n), c_before, c, grad,
                                grad_c);
            for (int i = 0; i < Cell::num_kept; ++i) store(kept(t) + i * kept_stride + at, k[i]);
            store(dh, grad);
            if (Cell::has_c) store(dc, grad_c);
        }
    }

    // Write the gradient of the state before the window for block j of each lane.
    template <class Size>
    void first_state(int64_t j, Size size, int64_t from, int64_t to, const float* recurrent, int64_t stride,
                     const float* dh, const float* dc, float* grad_h0, float* grad_c0) const {
        for (int64_t b = from; b < to; ++b, dh += VECTOR_WIDTH, dc += VECTOR_WIDTH) {
            store(grad_h0 + b * s.H + j * VECTOR_WIDTH, load(dh) + load(recurrent + (b - from) * stride), size.n);
            if (Cell::has_c) store(grad_c0 + b * s.H + j * VECTOR_WIDTH, load(dc), size.n);
        }
    }

    // ---------------------------------------------------------------------------- gradients of the weights

    // Compute the gradients of U, of its bias and of gates_x for items from .. to - 1. An item is one block of one
    // gate; there are G * blocks of them. With ids, the gradient of gates_x is summed into the rows of the table. Ticks
    // are processed in pieces that fit into the cache.
    void gradients(int64_t from, int64_t to, int64_t num_rows, float* rows, float* grad_weight, float* grad_bias,
                   float* grad_x) const {
        const int64_t ticks = s.B < 256 ? 256 / s.B : 1;
        memset(rows, 0, sizeof(float) * (to - from) * (ids ? num_rows : 0) * VECTOR_WIDTH);
        for (int64_t begin = 0; begin < s.T; begin += ticks) {
            const int64_t end = begin + ticks < s.T ? begin + ticks : s.T;
            for (int64_t item = from; item < to; ++item) {
                const int64_t g = item / s.blocks(), j = item % s.blocks();
                sum_inputs(begin, end, g, j, rows + (item - from) * num_rows * VECTOR_WIDTH, grad_bias, grad_x);
                for (int64_t row = 0; row < s.in_block(j); row += GRADIENT_ROWS)
                    for (int64_t column = 0; column < s.blocks(); column += GRADIENT_PANEL)
                        with_vectors<GRADIENT_PANEL>(
                            s.blocks() - column < GRADIENT_PANEL ? s.blocks() - column : GRADIENT_PANEL,
                            [&](auto C) { outer<C.value>(begin, end, g, j, row, column, grad_weight); });
            }
        }
        if (ids)
            for (int64_t item = from; item < to; ++item) {
                const int64_t g = item / s.blocks(), j = item % s.blocks();
                for (int64_t r = 0; r < num_rows; ++r)
                    store(grad_x + r * G * s.H + g * s.H + j * VECTOR_WIDTH,
                          load(rows + ((item - from) * num_rows + r) * VECTOR_WIDTH), s.in_block(j));
            }
    }

    // Sum the gradients of ticks begin .. end - 1 of gate g, block j, into those of the bias and of gates_x.
    void sum_inputs(int64_t begin, int64_t end, int64_t g, int64_t j, float* rows, float* grad_bias,
                    float* grad_x) const {
        const int64_t n = s.in_block(j);
        float* bias = grad_bias + g * s.H + j * VECTOR_WIDTH;
        Vec sum = begin ? load(bias, n) : Vec{};
        for (int64_t t = begin; t < end; ++t) {
            const float* hidden = kept(t) + ((Cell::hidden + g) * s.blocks() + j) * s.B * VECTOR_WIDTH;
            const float* input = kept(t) + (Cell::input(g) * s.blocks() + j) * s.B * VECTOR_WIDTH;
            for (int64_t b = 0; b < s.B; ++b) {
                sum += load(hidden + b * VECTOR_WIDTH);
                const int64_t place = t * s.B + b;
                if (ids) {
                    float* r = rows + ids[place] * VECTOR_WIDTH;
                    store(r, load(r) + load(input + b * VECTOR_WIDTH));
                } else {
                    store(grad_x + (place * G + g) * s.H + j * VECTOR_WIDTH, load(input + b * VECTOR_WIDTH), n);
                }
            }
        }
        store(bias, sum, n);
    }

    // Add ticks begin .. end - 1 to a tile of the gradient of U: GRADIENT_ROWS rows and C vectors of the sum over ticks
    // and lanes of (gradient of the gates) (h before the tick)^T.
    template <int C>
    void outer(int64_t begin, int64_t end, int64_t g, int64_t j, int64_t row, int64_t column,
               float* grad_weight) const {
        constexpr int R = GRADIENT_ROWS;
        const int64_t rows = s.in_block(j) - row < R ? s.in_block(j) - row : R, n = s.H - column * VECTOR_WIDTH;
        float* out = grad_weight + (g * s.H + j * VECTOR_WIDTH + row) * s.H + column * VECTOR_WIDTH;
        Vec sum[R][C] = {};
        if (begin)
            for (int r = 0; r < rows; ++r)
                for (int c = 0; c < C; ++c) sum[r][c] = load(out + r * s.H + c * VECTOR_WIDTH, n - c * VECTOR_WIDTH);
        if (begin)  // prefetch the tile to the right, which has left the cache since the previous piece
            for (int r = 0; r < R; ++r)
                for (int c = 0; c < C; ++c) __builtin_prefetch(out + r * s.H + (C + c) * VECTOR_WIDTH, 1);
        const auto add = [&](auto size) {
            for (int64_t t = begin; t < end; ++t) {
                const float* d = kept(t) + ((Cell::hidden + g) * s.blocks() + j) * s.B * VECTOR_WIDTH + row;
                const float* h = before(t) + column * VECTOR_WIDTH;
                for (int64_t b = 0; b < s.B; ++b, d += VECTOR_WIDTH, h += s.H) {
                    Vec w[C];
                    for (int c = 0; c < C; ++c) w[c] = load(h + c * VECTOR_WIDTH, size.n - c * VECTOR_WIDTH);
                    for (int r = 0; r < R; ++r)
                        for (int c = 0; c < C; ++c) sum[r][c] += d[r] * w[c];
                }
            }
        };
        if (n >= C * VECTOR_WIDTH)
            add(Exactly<C * VECTOR_WIDTH>());
        else
            add(Part{n});
        for (int r = 0; r < rows; ++r)
            for (int c = 0; c < C; ++c) store(out + r * s.H + c * VECTOR_WIDTH, sum[r][c], n - c * VECTOR_WIDTH);
    }
};

}  // namespace
