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

// A window of one layer.
//
// F is the type of the factors of the products (factors.h). With bf16 pairs, the factors of h and of the gradients of
// the gates are written besides the float32 numbers, for two ticks in turns.
template <class Cell, class F>
struct Unroll {
    Shape s;
    bool keep;  // whether `backward` will run; without it, memory for two ticks is enough
    const int64_t* ids;
    const float *gates_x, *weight, *h0, *c0;
    float *outputs, *saved;
    F* factors;  // `factors_size` of them: two ticks of h, or of the gradients of the gates; unused for floats
    using Factor = F;
    static constexpr int G = Cell::num_gates;
    static constexpr bool has_pairs = FactorOf<F>::numbers == 2;

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
    // The factors of h before tick t on lane b, or those of the gradients of the gates of tick t; each gate is padded.
    F* factors_of_h(int64_t t, int64_t b) const { return factors + ((t & 1) * s.B + b) * padded_factors<F>(s.H); }
    F* factors_of_gates(int64_t t, int64_t b) const {
        return factors + ((t & 1) * s.B + b) * G * padded_factors<F>(s.H);
    }
    static int64_t factors_size(Shape s, int64_t num_gates) {
        return has_pairs ? 2 * s.B * num_gates * padded_factors<F>(s.H) : 0;
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
                F* out = reinterpret_cast<F*>(packed) +
                         ((group * G + panel) * num_factors<F>(s.H) + place - panel) * VECTOR_WIDTH;
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
        const int64_t K = num_factors<F>(s.H);
        const F* panels = reinterpret_cast<const F*>(packed);
        if constexpr (has_pairs)
            for (int64_t b = from; b < to; ++b) put_row(h0 + b * s.H, s.H, factors_of_h(0, b));
        for (int64_t t = 0; t < s.T; ++t)
            for (int64_t group = 0; group < s.blocks(); group += PANEL) {
                const int64_t vectors = blocks_in_group(s, group) * G;
                prefetch(t, group, vectors / G, from, to);
                for (int64_t p = 0; p < vectors; p += PANEL) {
                    const int64_t at = group * G + p;
                    const Rows<F> h = before_as_factors(t, from);
                    product(h.start, to - from, {h.stride, VECTOR_WIDTH, 1, K}, panels + at * K * VECTOR_WIDTH,
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

    // The state h before tick t on the lanes from `from` on, as the left operand of the product.
    Rows<F> before_as_factors(int64_t t, int64_t from) const {
        if constexpr (has_pairs)
            return {factors_of_h(t, from), padded_factors<F>(s.H)};
        else
            return {before(t) + from * s.H, s.H};
    }

    // Prefetch the kept vectors of a group while its product is computed.
    void prefetch(int64_t t, int64_t group, int64_t num_blocks, int64_t from, int64_t to) const {
        for (int i = 0; i < Cell::num_kept; ++i)
            for (int64_t j = group; j < group + num_blocks; ++j)
                for (int64_t b = from; b < to; ++b)
                    __builtin_prefetch(kept(t) + ((i * s.blocks() + j) * s.B + b) * VECTOR_WIDTH, 1);
    }

    // Call f with the number of valid floats in block j, as a constant if the block is full.
    template <class Function>
    void with_block(int64_t j, Function f) const {
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
            if constexpr (has_pairs) store_pairs(factors_of_h(t + 1, b) + j * (VECTOR_WIDTH / 2), h);
            if (Cell::has_c) store(c_after + b * VECTOR_WIDTH, c);
            for (int i = 0; i < Cell::num_kept; ++i) store(keep_here + i * kept_stride + b * VECTOR_WIDTH, k[i]);
        }
    }

    // ---------------------------------------------------------------------------- backward

    // Pack the panels of the product (gradient of the gates) U: up to PANEL adjacent vectors of H, over all rows of U.
    void pack_backward(float* packed, int64_t from_block, int64_t to_block) const {
        const int64_t K = num_factors<F>(s.H);
        for (int64_t j = from_block; j < to_block; ++j) {
            const int64_t group = j / PANEL * PANEL, C = blocks_in_group(s, group);
            for (int64_t g = 0; g < G; ++g)
                put_rows([&](int64_t k) { return weight + (g * s.H + k) * s.H + j * VECTOR_WIDTH; }, s.H, s.in_block(j),
                         reinterpret_cast<F*>(packed) + (group * G * K + g * C * K + j - group) * VECTOR_WIDTH,
                         C * VECTOR_WIDTH);
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
        const int64_t K = num_factors<F>(s.H);
        const F* panels = reinterpret_cast<const F*>(packed);
        for (int64_t t = s.T - 1; t >= -1; --t)
            for (int64_t group = 0; group < s.blocks(); group += PANEL) {
                const int64_t vectors = blocks_in_group(s, group);
                if (t >= 0) prefetch(t, group, vectors, from, to);
                if (t < s.T - 1)  // the gradient from tick t + 1 through the recurrent weights
                    product(gates_as_factors(t + 1, from), lanes, layout_of_gates(K),
                            panels + group * G * K * VECTOR_WIDTH, vectors, nullptr, sums, vectors * VECTOR_WIDTH);
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

    // The gradients of the gates of tick t on the lanes from `from` on, and their layout, as the left operand.
    const F* gates_as_factors(int64_t t, int64_t from) const {
        if constexpr (has_pairs)
            return factors_of_gates(t, from);
        else
            return kept(t) + (Cell::hidden * s.blocks() * s.B + from) * VECTOR_WIDTH;
    }
    Left layout_of_gates(int64_t K) const {
        if constexpr (has_pairs)
            return {G * padded_factors<F>(s.H), VECTOR_WIDTH, G, K};
        else
            return {VECTOR_WIDTH, s.B * VECTOR_WIDTH, G, K};
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
            if constexpr (has_pairs)
                for (int g = 0; g < G; ++g)
                    store_pairs(factors_of_gates(t, b) + g * padded_factors<F>(s.H) + j * (VECTOR_WIDTH / 2),
                                k[Cell::hidden + g]);
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

    // The ticks of a piece of the gradients, which fits into the cache.
    int64_t ticks_in_piece() const { return s.B < 256 ? 256 / s.B : 1; }

    // The size of the scratch memory of `gradients` in floats.
    int64_t gradients_size() const {
        return has_pairs ? num_factors<F>(ticks_in_piece() * s.B) * (s.blocks() + 1) * VECTOR_WIDTH : 0;
    }

    // Compute the gradients of U, of its bias and of gates_x for items from .. to - 1. An item is one block of one
    // gate; there are G * blocks of them. With ids, the gradient of gates_x is summed into the rows of the table.
    // `near` is scratch for `gradients_size` floats.
    void gradients(int64_t from, int64_t to, int64_t num_rows, float* rows, float* near, float* grad_weight,
                   float* grad_bias, float* grad_x) const {
        memset(rows, 0, sizeof(float) * (to - from) * (ids ? num_rows : 0) * VECTOR_WIDTH);
        for (int64_t begin = 0; begin < s.T; begin += ticks_in_piece()) {
            const int64_t end = begin + ticks_in_piece() < s.T ? begin + ticks_in_piece() : s.T;
            const auto near_h = reinterpret_cast<F*>(near),
                       near_d = near_h + gradients_size() / (s.blocks() + 1) * s.blocks();
            if constexpr (has_pairs) put_states(begin, end, near_h);
            for (int64_t item = from; item < to; ++item) {
                const int64_t g = item / s.blocks(), j = item % s.blocks();
                sum_inputs(begin, end, g, j, rows + (item - from) * num_rows * VECTOR_WIDTH, grad_bias, grad_x);
                if constexpr (has_pairs)
                    put_rows([&](int64_t i) { return gates(begin + i / s.B, g, j) + i % s.B * VECTOR_WIDTH; },
                             (end - begin) * s.B, VECTOR_WIDTH, near_d, VECTOR_WIDTH);
                for_tiles(s.in_block(j), s.blocks(), [&](auto C, int64_t row, int64_t column) {
                    const int64_t rows_left = s.in_block(j) - row;
                    with_tile<GRADIENT_ROWS, C.value>(
                        grad_weight + (g * s.H + j * VECTOR_WIDTH + row) * s.H + column * VECTOR_WIDTH, s.H,
                        rows_left < GRADIENT_ROWS ? rows_left : GRADIENT_ROWS, s.H - column * VECTOR_WIDTH, begin == 0,
                        [&](auto& tile, auto columns) {
                            if constexpr (has_pairs)
                                add_outer(tile, near_d + row, near_h + column * VECTOR_WIDTH, s.blocks() * VECTOR_WIDTH,
                                          num_factors<F>((end - begin) * s.B), columns);
                            else
                                for (int64_t t = begin; t < end; ++t)
                                    add_outer(tile, gates(t, g, j) + row, before(t) + column * VECTOR_WIDTH, s.H, s.B,
                                              columns);
                        });
                });
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

    // The gradients of gate g on the hidden side, block j, at tick t: a vector for each lane.
    const float* gates(int64_t t, int64_t g, int64_t j) const {
        return kept(t) + ((Cell::hidden + g) * s.blocks() + j) * s.B * VECTOR_WIDTH;
    }

    // Write the states h before ticks begin .. end - 1 as factors, with the ticks and lanes as the inner dimension.
    void put_states(int64_t begin, int64_t end, F* out) const {
        for (int64_t j = 0; j < s.blocks(); ++j)
            put_rows([&](int64_t i) { return before(begin + i / s.B) + i % s.B * s.H + j * VECTOR_WIDTH; },
                     (end - begin) * s.B, s.in_block(j), out + j * VECTOR_WIDTH, s.blocks() * VECTOR_WIDTH);
    }

    // Sum the gradients of ticks begin .. end - 1 of gate g, block j, into those of the bias and of gates_x.
    void sum_inputs(int64_t begin, int64_t end, int64_t g, int64_t j, float* rows, float* grad_bias,
                    float* grad_x) const {
        const int64_t n = s.in_block(j);
        float* bias = grad_bias + g * s.H + j * VECTOR_WIDTH;
        Vec sum = begin ? load(bias, n) : Vec{};
        for (int64_t t = begin; t < end; ++t) {
            const float* hidden = gates(t, g, j);
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
};

}  // namespace
