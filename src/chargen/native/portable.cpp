// The kernels for any processor, with vectors of four floats: NEON on ARM, SSE on x86.

#include "table.h"

static bool supported() { return true; }

DEFINE_KERNELS(portable, false)
