// The kernels for any processor, with vectors of four floats: NEON on ARM, SSE on x86.

#include "head.h"
#include "linear.h"
#include "sample.h"
#include "window.h"

static bool supported() { return true; }

const Kernels portable_kernels{"portable",    supported,      false,           saved_size, forward,
                               backward,      linear_forward, linear_backward, head_size,  head_forward,
                               head_backward, VECTOR_WIDTH,   PANEL,           read_text,  write_text};
