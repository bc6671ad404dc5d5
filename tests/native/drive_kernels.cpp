// Run the kernels on problems from a file, and compare the results with those in the file.
//
// tests/native/test_aarch64.py writes the file, compiles this program together with the kernels for another processor,
// and runs it. A problem is a number for its kind and then, in the order in which this program reads them, 64-bit
// integers and arrays; an array is its size and its elements. Results that are expected carry a tolerance, relative to
// the largest of them or to 1, whichever is larger.

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels.h"

extern "C" {
const char* chargen_use(const char*);
const char* chargen_instruction_sets();
int64_t chargen_instruction_set_number();
int64_t chargen_vector_width();
int64_t chargen_panel();
int64_t chargen_saved_size(int64_t, int64_t, int64_t, int64_t, int64_t);
int64_t chargen_head_size(int64_t, int64_t);
int chargen_forward(const Window*);
int chargen_backward(const Window*, const Gradients*);
int chargen_linear_forward(const Linear*);
int chargen_linear_backward(const Linear*, const LinearGradients*);
int chargen_head_forward(const Head*);
int chargen_head_backward(const Head*, const HeadGradients*);
int chargen_read(const Network*, int64_t, int64_t, const int64_t*, float*, float*, int64_t, int64_t);
void chargen_use_kernel_threads(int);
}

static FILE* file;
static int failures = 0;

template <class T>
static T read_one() {
    T value;
    if (fread(&value, sizeof value, 1, file) != 1) {
        printf("the file ends too early\n");
        exit(2);
    }
    return value;
}
static int64_t integer() { return read_one<int64_t>(); }

template <class T>
static std::vector<T> array() {
    const auto size = size_t(integer());
    std::vector<T> values(size);
    for (T& value : values) value = read_one<T>();
    return values;
}

// Compare a result with the next array of the file, within the next tolerance.
static void expect(const char* what, const std::vector<float>& got) {
    const auto want = array<float>();
    const auto tolerance = read_one<double>();
    double largest = 1, error = want.size() == got.size() ? 0 : INFINITY;
    for (float value : want) largest = fmax(largest, fabs(double(value)));
    for (size_t i = 0; i < want.size() && i < got.size(); ++i) {
        const double difference = fabs(double(got[i]) - want[i]);
        error = !(difference <= error) ? difference : error;  // NaN stays
    }
    const bool is_equal = error <= tolerance * largest;
    failures += !is_equal;
    if (!is_equal) printf("  %s: error %g of %g, allowed %g\n", what, error, largest, tolerance * largest);
}

static void require_ok(int status) {
    if (status != OK) printf("  status %d\n", status), ++failures;
}

static void window() {
    Window w{};
    w.cell = integer(), w.T = integer(), w.B = integer(), w.H = integer(), w.num_threads = integer();
    w.bf16 = integer(), w.num_rows = integer(), w.keep = 1;
    const auto ids = array<int64_t>();
    const auto gates_x = array<float>(), weight = array<float>(), bias = array<float>(), h0 = array<float>(),
               c0 = array<float>(), grad_outputs = array<float>(), grad_hn = array<float>(), grad_cn = array<float>();
    std::vector<float> outputs(size_t(w.T * w.B * w.H)), cn(c0.size()),
        saved(size_t(chargen_saved_size(w.cell, w.T, w.B, w.H, 1))), d_gates(gates_x.size()), d_weight(weight.size()),
        d_bias(bias.size()), d_h0(h0.size()), d_c0(c0.size());
    w.ids = ids.empty() ? nullptr : ids.data();
    w.gates_x = gates_x.data(), w.weight_hh = weight.data(), w.bias_hh = bias.data(), w.h0 = h0.data();
    w.c0 = c0.data(), w.outputs = outputs.data(), w.cn = cn.data(), w.saved = saved.data();
    require_ok(chargen_forward(&w));
    Gradients g{grad_outputs.data(), grad_hn.data(), c0.empty() ? nullptr : grad_cn.data(), d_gates.data(),
                d_weight.data(), d_bias.data(), d_h0.data(), d_c0.data()};
    require_ok(chargen_backward(&w, &g));
    expect("outputs", outputs), expect("cn", cn), expect("gradient of gates_x", d_gates);
    expect("gradient of weight_hh", d_weight), expect("gradient of bias_hh", d_bias);
    expect("gradient of h0", d_h0), expect("gradient of c0", d_c0);
}

static void linear() {
    Linear l{};
    l.rows = integer(), l.K = integer(), l.M = integer(), l.num_threads = integer(), l.bf16 = integer();
    const auto x = array<float>(), weight = array<float>(), bias = array<float>(), grad = array<float>();
    std::vector<float> y(grad.size()), d_x(x.size()), d_weight(weight.size()), d_bias(bias.size());
    l.x = x.data(), l.weight = weight.data(), l.bias = bias.data(), l.y = y.data();
    require_ok(chargen_linear_forward(&l));
    const LinearGradients g{grad.data(), d_x.data(), d_weight.data(), d_bias.data()};
    require_ok(chargen_linear_backward(&l, &g));
    expect("y", y), expect("gradient of x", d_x), expect("gradient of W", d_weight), expect("gradient of b", d_bias);
}

static void head() {
    Head h{};
    h.rows = integer(), h.B = integer(), h.H = integer(), h.V = integer(), h.num_threads = integer();
    h.bf16 = integer(), h.ignored = integer();
    const auto outputs = array<float>(), mask = array<float>(), weight = array<float>(), bias = array<float>();
    const auto targets = array<int64_t>();
    std::vector<float> masked(outputs.size()), p(size_t(chargen_head_size(h.rows, h.V))), nats(size_t(h.rows)),
        d_outputs(outputs.size()), d_weight(weight.size()), d_bias(bias.size());
    h.outputs = outputs.data(), h.mask = mask.empty() ? nullptr : mask.data(), h.weight = weight.data();
    h.bias = bias.data(), h.targets = targets.data(), h.masked = masked.data(), h.p = p.data(), h.nats = nats.data();
    require_ok(chargen_head_forward(&h));
    const HeadGradients g{1.0f / 3, d_outputs.data(), d_weight.data(), d_bias.data()};
    require_ok(chargen_head_backward(&h, &g));
    expect("nats", nats), expect("gradient of outputs", d_outputs), expect("gradient of W", d_weight);
    expect("gradient of b", d_bias);
}

// The packed arrays of a matrix are kept in `memory`.
static PackedMatrix packed_matrix(std::vector<std::vector<uint8_t>>& memory) {
    const void* parts[4];
    for (const void*& part : parts) {
        memory.push_back(array<uint8_t>());
        part = memory.back().empty() ? nullptr : memory.back().data();
    }
    return {parts[0], static_cast<const float*>(parts[1]), static_cast<const float*>(parts[2]),
            static_cast<const int32_t*>(parts[3])};
}

static void network() {
    Network net{};
    net.cell = integer(), net.L = integer(), net.H = integer(), net.V = integer(), net.residual = integer();
    net.instruction_set = chargen_instruction_set_number();
    const auto table = array<float>();
    std::vector<std::vector<uint8_t>> memory;
    memory.reserve(size_t(8 * net.L + 4));
    std::vector<PackedMatrix> hidden, input;
    for (int64_t layer = 0; layer < net.L; ++layer) {
        hidden.push_back(packed_matrix(memory));
        input.push_back(packed_matrix(memory));
    }
    net.head = packed_matrix(memory);
    net.table = table.data(), net.hidden = hidden.data(), net.input = input.data();
    const int64_t N = integer(), n = integer();
    const auto ids = array<int64_t>();
    auto states = array<float>();
    std::vector<float> logits(size_t(N * n * net.V));
    require_ok(chargen_read(&net, N, n, ids.data(), states.data(), logits.data(), 1, 2));
    expect("logits", logits), expect("states", states);
}

static void run_all(const char* path) {
    file = fopen(path, "rb");
    if (!file) printf("%s cannot be opened\n", path), exit(2);
    for (int64_t number = 0, kind = integer(); kind; kind = integer(), ++number) {
        const int before = failures;
        kind == 1 ? window() : kind == 2 ? linear() : kind == 3 ? head() : network();
        if (failures > before) printf("  in problem %lld, of kind %lld\n", (long long)number, (long long)kind);
    }
    fclose(file);
}

// Without a path, print "VECTOR_WIDTH PANEL" of each instruction set.
int main(int count, char** words) {
    chargen_use_kernel_threads(1);
    std::string names = chargen_instruction_sets();
    for (size_t at = 0; at < names.size();) {
        const size_t end = names.find(' ', at) == std::string::npos ? names.size() : names.find(' ', at);
        const std::string name = names.substr(at, end - at);
        at = end + 1;
        chargen_use(name.c_str());
        printf("%s %lld %lld\n", name.c_str(), (long long)chargen_vector_width(), (long long)chargen_panel());
        if (count > 1) run_all(words[1]);
    }
    if (count > 1) printf("%d failures\n", failures);
    return failures ? 1 : 0;
}
