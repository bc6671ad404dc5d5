// The choice of the next character: temperature, top-k, top-p, min-p.
//
// Dimensions: V vocabulary.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace {

// Zero the weights that top-k, top-p and min-p exclude, applied in this order. Return the sum of the remaining weights.
// Of equally likely ids, the lower id is kept.
static double keep_likeliest(const Stream& stream, int64_t V, double sum, float* weights, int64_t* order) {
    // A heap yields the ids from the likeliest on, so that a large vocabulary need not be sorted. Ids that have left
    // the heap are stored behind it, the likeliest one last. Logits are compared, because two of them may have the same
    // weight after rounding.
    int64_t size = V;
    const float* logits = stream.logits;
    const auto before = [&](int64_t a, int64_t b) {
        return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
    };
    const auto swap = [&](int64_t a, int64_t b) {
        const int64_t id = order[a];
        order[a] = order[b];
        order[b] = id;
    };
    const auto sink = [&](int64_t at) {
        for (int64_t child; (child = 2 * at + 1) < size; at = child) {
            if (child + 1 < size && before(order[child + 1], order[child])) ++child;
            if (!before(order[child], order[at])) return;
            swap(child, at);
        }
    };
    for (int64_t v = 0; v < V; ++v) order[v] = v;
    for (int64_t at = V / 2; at-- > 0;) sink(at);
    const auto likeliest = [&](int64_t rank) {
        while (V - size <= rank) {
            swap(0, --size);
            sink(0);
        }
        return order[V - 1 - rank];
    };

    const int64_t most = stream.top_k && stream.top_k < V ? stream.top_k : V;
    if (most < V) {
        sum = 0;
        for (int64_t rank = 0; rank < most; ++rank) sum += weights[likeliest(rank)];
    }
    const int64_t best = likeliest(0);
    const double least = log(stream.min_p);  // -infinity for min_p = 0
    double held = weights[best];
    int64_t kept = 1;
    for (; kept < most && held < stream.top_p * sum; ++kept) {
        const int64_t id = likeliest(kept);
        if ((double(logits[id]) - logits[best]) / stream.temperature < least) break;
        held += weights[id];
    }
    for (int64_t i = 0; i < V - kept; ++i) weights[order[i]] = 0;
    return held;
}

// Choose one id by inverting the cumulative distribution at `uniform`; SamplingParams.draw of sampling/params.py is the
// definition. `weights` and `order` are scratch for V elements.
static int64_t draw(const Stream& stream, int64_t V, double uniform, float* weights, int64_t* order) {
    float* logits = stream.logits;
    for (int64_t i = 0; i < stream.num_banned; ++i) logits[stream.banned[i]] = -INFINITY;
    int64_t best = 0;
    for (int64_t v = 1; v < V; ++v)
        if (logits[v] > logits[best]) best = v;
    if (stream.temperature == 0) return best;

    // Between these bounds no product below is NaN: 0 * infinity, or -infinity * 0 for a banned id.
    const Vec inverse = fill(float(fmin(fmax(1 / stream.temperature, FLT_MIN), FLT_MAX))), largest = fill(logits[best]);
    double sum = 0;
    for (int64_t v = 0; v < V; v += VECTOR_WIDTH) {
        const int64_t n = V - v < VECTOR_WIDTH ? V - v : VECTOR_WIDTH;
        const Vec scaled = (load(logits + v, n) - largest) * inverse;
        store(weights + v, scaled < fill(-80.0f) ? Vec{} : exp<true>(scaled), n);
        for (int64_t e = 0; e < n; ++e) sum += weights[v + e];
    }
    if (stream.top_k || stream.top_p < 1 || stream.min_p > 0) sum = keep_likeliest(stream, V, sum, weights, order);

    const double target = uniform * sum;
    double cumulative = 0;
    int64_t last = best;  // the answer if rounding leaves the target above the sum
    for (int64_t v = 0; v < V; ++v) {
        if (weights[v] <= 0) continue;
        cumulative += weights[v];
        last = v;
        if (cumulative > target) break;
    }
    return last;
}

}  // namespace
