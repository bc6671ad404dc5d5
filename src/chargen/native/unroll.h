// The loop over time of one layer over one window, forward and backward.
//
// The recurrent weights are packed once per window and read on every tick. The cell is applied after each group of
// panels, while the sums of the group are still in the first-level cache. Threads divide the work in one of two ways:
// - by lanes, which are independent: a thread takes its lanes through all ticks without waiting for other threads;
// - by units: a thread takes its units of all lanes through all ticks, and the threads wait for each other after each
//   tick. Each thread then reads only its share of the weights, and uses it for all lanes.
// No sum depends on the division.
//
// The kept vectors of a tick have the shape (num_kept, blocks, B, VECTOR_WIDTH), followed by padding that keeps
// consecutive ticks out of the same cache sets. T of them are followed by T + 1 states c, stored in the same way. The
// backward pass replaces the kept vectors by the gradients of the gates.
//
// Dimensions: T ticks, B lanes, H hidden, G gates; a block is VECTOR_WIDTH consecutive units of H.
#pragma once

#include "cells.h"
#include "weight_gradient.h"

namespace {

struct Shape {
    int64_t T, B, H;
    int64_t blocks() const { return (H + VECTOR_WIDTH - 1) / VECTOR_WIDTH; }
    int64_t tick(int64_t vectors) const { return (vectors * blocks() * B + 17) * VECTOR_WIDTH; }
    int64_t in_block(int64_t j) const {
        return H - j * VECTOR_WIDTH < VECTOR_WIDTH ? H - j * VECTOR_WIDTH : VECTOR_WIDTH;
    }
};

// Consecutive blocks, from `first` to `last` - 1, in groups of PANEL. The gates of a full group are PANEL * G vectors,
// which are G full panels.
struct Blocks {
    int64_t first, last;
    int64_t group_of(int64_t j) const { return first + (j - first) / PANEL * PANEL; }
    int64_t in_group(int64_t group) const { return last - group < PANEL ? last - group : PANEL; }
};

// What one thread computes: these blocks of lanes from .. to - 1.
struct Share {
    int64_t from, to;
    Blocks blocks;
};

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
    // the vectors (block, gate). Pack blocks from_block to to_block - 1 of `blocks`.
    void pack_forward(float* packed, float* bias, const float* bias_hh, Blocks blocks, int64_t from_block,
                      int64_t to_block) const {
        for (int64_t j = from_block; j < to_block; ++j)
            for (int g = 0; g < G; ++g) {
                const int64_t group = blocks.group_of(j), vectors = blocks.in_group(group) * G;
                const int64_t place = (j - group) * G + g, panel = place / PANEL * PANEL;
                const int64_t C = vectors - panel < PANEL ? vectors - panel : PANEL;
                F* out = reinterpret_cast<F*>(packed) +
                         ((group * G + panel) * num_factors<F>(s.H) + place - panel) * VECTOR_WIDTH;
                const int64_t n = s.in_block(j);
                put_transposed(weight + (g * s.H + j * VECTOR_WIDTH) * s.H, n, s.H, out, C * VECTOR_WIDTH);
                store(bias + (group * G + place) * VECTOR_WIDTH, load(bias_hh + g * s.H + j * VECTOR_WIDTH, n));
            }
    }

    // Run a share of the window through all ticks. Threads that divide the blocks are a team. `sums` has room for the
    // gates of a group on all lanes.
    void forward(const float* packed, const float* bias, float* sums, const Share& share, Team& team, float* cn) const {
        const auto [from, to, blocks] = share;
        const bool divides_blocks = blocks.last - blocks.first < s.blocks();
        if (Cell::has_c)
            for (int64_t j = blocks.first; j < blocks.last; ++j)
                for (int64_t b = from; b < to; ++b)
                    store(cells(0) + (j * s.B + b) * VECTOR_WIDTH,
                          load(c0 + b * s.H + j * VECTOR_WIDTH, s.in_block(j)));
        const int64_t K = num_factors<F>(s.H);
        const F* panels = reinterpret_cast<const F*>(packed);
        if constexpr (has_pairs)
            for (int64_t j = blocks.first; j < blocks.last; ++j)
                for (int64_t b = from; b < to; ++b)
                    store_pairs(factors_of_h(0, b) + j * (VECTOR_WIDTH / 2),
                                load(h0 + b * s.H + j * VECTOR_WIDTH, s.in_block(j)));
        for (int64_t t = 0; t < s.T; ++t) {
            if (divides_blocks) team.wait();
            for (int64_t group = blocks.first; group < blocks.last; group += PANEL) {
                const int64_t vectors = blocks.in_group(group) * G;
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
        }
        if (Cell::has_c)
            for (int64_t j = blocks.first; j < blocks.last; ++j)
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
    // Pack blocks from_block to to_block - 1 of `blocks`.
    void pack_backward(float* packed, Blocks blocks, int64_t from_block, int64_t to_block) const {
        const int64_t K = num_factors<F>(s.H);
        for (int64_t j = from_block; j < to_block; ++j) {
            const int64_t group = blocks.group_of(j), C = blocks.in_group(group);
            for (int64_t g = 0; g < G; ++g)
                put_rows([&](int64_t k) { return weight + (g * s.H + k) * s.H + j * VECTOR_WIDTH; }, s.H, s.in_block(j),
                         reinterpret_cast<F*>(packed) + (group * G * K + g * C * K + j - group) * VECTOR_WIDTH,
                         C * VECTOR_WIDTH);
        }
    }

    // Run a share of the window backward through all ticks. Threads that divide the blocks are a team. `dh` and `dc`
    // have room for a state, `sums` for a group on all lanes. Null gradients stand for zeros.
    void backward(const float* packed, float* dh, float* dc, float* sums, const Share& share, Team& team,
                  const Gradients& g) const {
        const auto [from, to, blocks] = share;
        const bool divides_blocks = blocks.last - blocks.first < s.blocks();
        for (int64_t j = blocks.first; j < blocks.last; ++j)
            for (int64_t b = from; b < to; ++b) {
                const int64_t at = (j * s.B + b) * VECTOR_WIDTH, there = b * s.H + j * VECTOR_WIDTH;
                store(dh + at, g.hn ? load(g.hn + there, s.in_block(j)) : Vec{});
                store(dc + at, g.cn ? load(g.cn + there, s.in_block(j)) : Vec{});
            }
        const int64_t K = num_factors<F>(s.H);
        const F* panels = reinterpret_cast<const F*>(packed);
        for (int64_t t = s.T - 1; t >= -1; --t) {
            if (divides_blocks && t < s.T - 1) team.wait();
            for (int64_t group = blocks.first; group < blocks.last; group += PANEL) {
                const int64_t vectors = blocks.in_group(group);
                if (t >= 0) prefetch(t, group, vectors, from, to);
                if (t < s.T - 1)  // the gradient from tick t + 1 through the recurrent weights
                    product(gates_as_factors(t + 1, from), to - from, layout_of_gates(K),
                            panels + group * G * K * VECTOR_WIDTH, vectors, nullptr, sums, vectors * VECTOR_WIDTH);
                for (int64_t j = group; j < group + vectors; ++j)
                    with_block(j, [&](auto size) {
                        const float* recurrent = t < s.T - 1 ? sums + (j - group) * VECTOR_WIDTH : nullptr;
                        const int64_t here = (j * s.B + from) * VECTOR_WIDTH;
                        if (t >= 0)
                            steps_backward(t, j, size, from, to, recurrent, vectors * VECTOR_WIDTH, g.outputs,
                                           dh + here, dc + here);
                        else
                            first_state(j, size, from, to, recurrent, vectors * VECTOR_WIDTH, dh + here, dc + here,
                                        g.h0, g.c0);
                    });
            }
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

    // Compute the gradients of U, of its bias and of gates_x for items from .. to - 1. An item is one block of one
    // gate; there are G * blocks of them. With ids, the gradient of gates_x is summed into the rows of the table, of
    // which `rows` holds `num_rows` for each item. Every thread of the team calls this function; `shared` and `own` are
    // scratch of the team and of the thread (weight_gradient.h).
    void gradients(Team& team, int64_t i, int64_t from, int64_t to, int64_t num_rows, float* rows, float* shared,
                   float* own, const Gradients& g) const {
        memset(rows, 0, sizeof(float) * (to - from) * (ids ? num_rows : 0) * VECTOR_WIDTH);
        const auto gate = [&](int64_t item) { return item / s.blocks(); };
        const auto block = [&](int64_t item) { return item % s.blocks(); };
        const auto weight_gradient = weight_gradient_of<F>(
            s.T * s.B, s.H, [&](int64_t n) { return before(n / s.B) + n % s.B * s.H; },
            [&](int64_t n) { return gates(n / s.B, 0, 0) + n % s.B * VECTOR_WIDTH; },
            [&](int64_t item) {
                const int64_t row = gate(item) * s.H + block(item) * VECTOR_WIDTH;
                return Columns{item * s.B * VECTOR_WIDTH, s.in_block(block(item)), g.weight_hh + row * s.H};
            });
        weight_gradient(team, i, from, to, shared, own, [&](int64_t begin, int64_t end) {
            for (int64_t item = from; item < to; ++item)
                sum_inputs(begin, end, gate(item), block(item), rows + (item - from) * num_rows * VECTOR_WIDTH,
                           g.bias_hh, g.gates_x);
        });
        if (ids)
            for (int64_t item = from; item < to; ++item)
                for (int64_t r = 0; r < num_rows; ++r)
                    store(g.gates_x + r * G * s.H + gate(item) * s.H + block(item) * VECTOR_WIDTH,
                          load(rows + ((item - from) * num_rows + r) * VECTOR_WIDTH), s.in_block(block(item)));
    }

    // The gradients of gate g on the hidden side, block j, at tick t: a vector for each lane.
    const float* gates(int64_t t, int64_t g, int64_t j) const {
        return kept(t) + ((Cell::hidden + g) * s.blocks() + j) * s.B * VECTOR_WIDTH;
    }

    // Sum the gradients at positions begin .. end - 1 of gate g, block j, into those of the bias and of gates_x.
    void sum_inputs(int64_t begin, int64_t end, int64_t g, int64_t j, float* rows, float* grad_bias,
                    float* grad_x) const {
        const int64_t n = s.in_block(j);
        float* bias = grad_bias + g * s.H + j * VECTOR_WIDTH;
        Vec sum = begin ? load(bias, n) : Vec{};
        for (int64_t place = begin; place < end;) {
            const int64_t t = place / s.B, last = (t + 1) * s.B < end ? (t + 1) * s.B : end;
            const float* hidden = gates(t, g, j);
            const float* input = kept(t) + (Cell::input(g) * s.blocks() + j) * s.B * VECTOR_WIDTH;
            for (int64_t b = place % s.B; place < last; ++place, ++b) {
                sum += load(hidden + b * VECTOR_WIDTH);
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
