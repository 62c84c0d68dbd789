/* Chooses the kernels for the highest instruction set that the machine has, and exports them. */

#include "kernels.h"

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>

extern const struct kernels kernels_v2, kernels_v3, kernels_v4;

/* Which registers the operating system saves: bits 1 and 2 are for AVX, and 5 to 7 for AVX-512. */
static uint32_t saved(void) {
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* The x86-64 level of the machine: 2, 3 (AVX2) or 4 (AVX-512). */
static int level(void) {
    uint32_t a, b, c, d, features;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 2;
    features = c;
    uint32_t registers = saved(), avx2 = bit_AVX2 | bit_BMI | bit_BMI2;
    uint32_t avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL;
    if (!(features & bit_FMA) || (registers & 6) != 6) return 2;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (b & avx2) != avx2) return 2;
    return (registers & 0xe6) == 0xe6 && (b & avx512) == avx512 ? 4 : 3;
}

static const struct kernels *chosen(int at_most) {
    int best = level();
    best = best < at_most ? best : at_most;
    return best == 4 ? &kernels_v4 : best == 3 ? &kernels_v3 : &kernels_v2;
}
#else
extern const struct kernels kernels_base;

static const struct kernels *chosen(int at_most) { return &kernels_base; }
#endif

/* The table of kernels, in the order of kernels.h. */
EXPORT const struct kernels *relaxed_dists_kernels(int at_most) { return chosen(at_most); }

/* Call a kernel with arguments from an array, whose first entry is the kernel's address. Python
 * packs the array faster than it would convert each argument. All arguments are pointers and
 * integers of 64 bits, which C passes alike, and a kernel ignores those beyond its last
 * parameter. */
typedef int64_t any_kernel(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                           int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                           int64_t);

EXPORT int64_t relaxed_dists_call(const int64_t *a) {
    return ((any_kernel *)(intptr_t)a[0])(a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9],
                                          a[10], a[11], a[12], a[13], a[14], a[15], a[16], a[17]);
}

/* A number that changes whenever the signatures change. */
EXPORT int relaxed_dists_version(void) { return 3; }
