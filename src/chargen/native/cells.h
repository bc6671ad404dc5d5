// The equations of one tick for each cell (nn/cells.py) in vectors, and their derivatives.
//
// `step` takes the input part and the hidden part of every gate, updates (h, c), and stores in `kept` what the
// derivative needs; REPRODUCIBLE is explained in simd.h. `step_backward` takes `kept` and the gradient of (h, c). It
// replaces `kept` by the gradients of the gates, and replaces dh and dc by the part of the gradient that reaches the
// previous tick directly. The caller adds the part that goes through the recurrent weights.
//
// Each tick has `num_kept` kept vectors. After `step_backward`, those from number `hidden` on are the gradients of the
// gates on the hidden side, in the order of torch.nn, and `input(g)` is the number of gate g's gradient on the input
// side.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace {

struct Rnn {
    static constexpr int num_gates = 1, num_kept = 1, hidden = 0;
    static constexpr bool has_c = false;
    static int input(int g) { return g; }

    template <bool REPRODUCIBLE = false>
    static inline void step(const Vec* x, const Vec* s, Vec& h, Vec&, Vec* k) {
        h = tanh<REPRODUCIBLE>(x[0] + s[0]);
        k[0] = h;
    }

    static inline void step_backward(Vec* k, Vec, Vec h, Vec, Vec, Vec& dh, Vec&) {
        k[0] = dh * (1.0f - h * h);
        dh = Vec{};
    }
};

struct Lstm {
    static constexpr int num_gates = 4, num_kept = 4, hidden = 0;
    static constexpr bool has_c = true;
    static int input(int g) { return g; }

    template <bool REPRODUCIBLE = false>
    static inline void step(const Vec* x, const Vec* s, Vec& h, Vec& c, Vec* k) {
        const Vec i = sigmoid<REPRODUCIBLE>(x[0] + s[0]), f = sigmoid<REPRODUCIBLE>(x[1] + s[1]),
                  g = tanh<REPRODUCIBLE>(x[2] + s[2]), o = sigmoid<REPRODUCIBLE>(x[3] + s[3]);
        c = rounded<REPRODUCIBLE>(f * c) + rounded<REPRODUCIBLE>(i * g);
        h = o * tanh<REPRODUCIBLE>(c);
        k[0] = i, k[1] = f, k[2] = g, k[3] = o;
    }

    static inline void step_backward(Vec* k, Vec, Vec, Vec c_before, Vec c, Vec& dh, Vec& dc) {
        const Vec i = k[0], f = k[1], g = k[2], o = k[3], tanh_c = tanh(c);
        dc += dh * o * (1.0f - tanh_c * tanh_c);
        k[0] = dc * g * i * (1.0f - i);
        k[1] = dc * c_before * f * (1.0f - f);
        k[2] = dc * i * (1.0f - g * g);
        k[3] = dh * tanh_c * o * (1.0f - o);
        dc = dc * f;
        dh = Vec{};
    }
};

// The kept vectors are n, r, z, and the hidden part of n. Backward they become the gradients of n on the input side,
// and of r, z and n on the hidden side.
struct Gru {
    static constexpr int num_gates = 3, num_kept = 4, hidden = 1;
    static constexpr bool has_c = false;
    static int input(int g) { return g == 2 ? 0 : 1 + g; }

    template <bool REPRODUCIBLE = false>
    static inline void step(const Vec* x, const Vec* s, Vec& h, Vec&, Vec* k) {
        const Vec r = sigmoid<REPRODUCIBLE>(x[0] + s[0]), z = sigmoid<REPRODUCIBLE>(x[1] + s[1]),
                  n = tanh<REPRODUCIBLE>(x[2] + rounded<REPRODUCIBLE>(r * s[2]));
        h = n + rounded<REPRODUCIBLE>(z * (h - n));
        k[0] = n, k[1] = r, k[2] = z, k[3] = s[2];
    }

    static inline void step_backward(Vec* k, Vec h_before, Vec, Vec, Vec, Vec& dh, Vec&) {
        const Vec n = k[0], r = k[1], z = k[2], s_n = k[3];
        const Vec dn = dh * (1.0f - z) * (1.0f - n * n);
        k[0] = dn;
        k[1] = dn * s_n * r * (1.0f - r);
        k[2] = dh * (h_before - n) * z * (1.0f - z);
        k[3] = dn * r;
        dh = dh * z;
    }
};

// Call f(cell) with the cell of a number. Return `unknown` for a number that is none of CellNumber.
template <class T, class F>
static T with_cell(int64_t cell, T unknown, F f) {
    switch (cell) {
        case RNN:
            return f(Rnn());
        case LSTM:
            return f(Lstm());
        case GRU:
            return f(Gru());
        default:
            return unknown;
    }
}

}  // namespace
