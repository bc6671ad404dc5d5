// The output layer and its cross-entropy over a window. Logits are computed, used and replaced while they are in the
// cache.
//
// The rows are the T*B positions of a window, time-major. The forward pass replaces the logits of a row by its
// probabilities p. The backward pass replaces p by the gradient of the logits: (p - [the target]) times the gradient of
// the loss.
//
// Dimensions: B lanes, H hidden, V vocabulary.
#pragma once

#include "linear.h"

namespace {

// Rows have an odd number of vectors, which keeps consecutive rows out of the same cache sets.
static int64_t logits_stride(int64_t V) { return (LinearShape::blocks(V) | 1) * VECTOR_WIDTH; }

// Return the size of Head.p in floats.
static int64_t head_size(int64_t rows, int64_t V) { return rows * logits_stride(V); }

// Replace the logits of a row by probabilities. Return -ln p of the target; 0 if the row does not count.
static float normalize(float* p, int64_t V, int64_t target, bool counts) {
    const int64_t blocks = LinearShape::blocks(V);
    Vec largest = fill(-INFINITY);
    for (int64_t v = 0; v < blocks; ++v) {
        Vec x = load(p + v * VECTOR_WIDTH);
        for (int64_t e = LinearShape::part(V, v); e < VECTOR_WIDTH; ++e) x[e] = -INFINITY;
        largest = x > largest ? x : largest;
    }
    float most = largest[0];
    for (int e = 1; e < VECTOR_WIDTH; ++e) most = largest[e] > most ? largest[e] : most;
    const float logit = counts ? p[target] - most : 0;
    Vec sums = {};
    for (int64_t v = 0; v < blocks; ++v) {
        Vec weight = exp(load(p + v * VECTOR_WIDTH) - most);
        for (int64_t e = LinearShape::part(V, v); e < VECTOR_WIDTH; ++e) weight[e] = 0;
        store(p + v * VECTOR_WIDTH, weight);
        sums += weight;
    }
    float sum = 0;
    for (int e = 0; e < VECTOR_WIDTH; ++e) sum += sums[e];
    for (int64_t v = 0; v < blocks; ++v) store(p + v * VECTOR_WIDTH, load(p + v * VECTOR_WIDTH) * (1.0f / sum));
    return counts ? logf(sum) - logit : 0;
}

template <class F>
static int head_forward_in(const Head& w) {
    const LinearShape s{w.rows, w.H, w.V};
    const int64_t threads = threads_for(w.rows * w.H * w.V, w.num_threads);
    for (int64_t r = 0; r < w.rows; ++r)
        if (w.targets[r] != w.ignored && uint64_t(w.targets[r]) >= uint64_t(w.V)) return BAD_ID;
    const int64_t stride = logits_stride(w.V), size = s.NEAR * padded_factors<F>(w.H);
    Scratch packed(packed_forward_size<F>(s)), near(threads * size);
    if (!packed || !near) return NO_MEMORY;
    in_team(threads, [&](Team& team, int64_t i) {
        const int64_t num = team.size();
        pack_forward<F>(w.weight, w.bias, s, packed.get(), s.blocks(w.V) * i / num, s.blocks(w.V) * (i + 1) / num);
        team.wait();
        const int64_t from = w.rows * i / num, to = w.rows * (i + 1) / num;
        for (int64_t r = from; r < to && w.mask; ++r)
            for (int64_t j = 0; j < w.H; j += VECTOR_WIDTH)
                store(w.masked + r * w.H + j,
                      load(w.outputs + r * w.H + j, w.H - j) * load(w.mask + r % w.B * w.H + j, w.H - j), w.H - j);
        const float* x = w.mask ? w.masked : w.outputs;
        for (int64_t begin = from; begin < to; begin += s.NEAR) {
            const int64_t rows = to - begin < s.NEAR ? to - begin : s.NEAR;
            linear_rows(rows_of<F>(x + begin * w.H, w.H, rows, w.H, near.get() + i * size), rows, s, packed.get(),
                        w.p + begin * stride, stride);
            for (int64_t r = begin; r < begin + rows; ++r)
                w.nats[r] = normalize(w.p + r * stride, w.V, w.targets[r], w.targets[r] != w.ignored);
        }
    });
    return OK;
}

template <class F>
static int head_backward_in(const Head& w, const HeadGradients& g) {
    const LinearShape s{w.rows, w.H, w.V};
    const int64_t threads = threads_for(w.rows * w.H * w.V, w.num_threads);
    const int64_t stride = logits_stride(w.V), wide = s.blocks(w.H) * VECTOR_WIDTH;
    const int64_t near_dx = s.NEAR * wide, near_dy = s.NEAR * padded_factors<F>(w.V);
    const int64_t size = near_dx + near_dy + AnyGradient<F>::own_size();
    Scratch packed(packed_backward_size<F>(s)), near(threads * size), shared(AnyGradient<F>::shared_size(w.H));
    if (!packed || !near || !shared) return NO_MEMORY;
    in_team(threads, [&](Team& team, int64_t i) {
        const int64_t num = team.size();
        pack_backward<F>(w.weight, s, packed.get(), s.blocks(w.H) * i / num, s.blocks(w.H) * (i + 1) / num);
        team.wait();
        float *own = near.get() + i * size, *dx = own + near_dy;
        const int64_t from = w.rows * i / num, to = w.rows * (i + 1) / num;
        for (int64_t begin = from; begin < to; begin += s.NEAR) {
            const int64_t rows = to - begin < s.NEAR ? to - begin : s.NEAR;
            for (int64_t r = begin; r < begin + rows; ++r) {
                float* p = w.p + r * stride;
                const bool counts = w.targets[r] != w.ignored;
                if (counts) p[w.targets[r]] -= 1.0f;
                for (int64_t v = 0; v < s.blocks(w.V); ++v)
                    store(p + v * VECTOR_WIDTH, counts ? load(p + v * VECTOR_WIDTH) * g.nats : Vec{});
            }
            linear_rows_back(rows_of<F>(w.p + begin * stride, stride, rows, w.V, own), rows, s, packed.get(), dx);
            for (int64_t r = begin; r < begin + rows; ++r)
                for (int64_t j = 0; j < w.H; j += VECTOR_WIDTH) {
                    Vec d = load(dx + (r - begin) * wide + j);
                    if (w.mask) d *= load(w.mask + r % w.B * w.H + j, w.H - j);
                    store(g.outputs + r * w.H + j, d, w.H - j);
                }
        }
        team.wait();
        weight_gradient<F>(w.p, stride, w.mask ? w.masked : w.outputs, s, team, i, shared.get(), dx + near_dx, g.weight,
                           g.bias);
    });
    return OK;
}

static int head_forward(const Head& w) {
    return with_factor(w.bf16, [&](auto f) { return head_forward_in<decltype(f)>(w); });
}

static int head_backward(const Head& w, const HeadGradients& g) {
    return with_factor(w.bf16, [&](auto f) { return head_backward_in<decltype(f)>(w, g); });
}

}  // namespace
