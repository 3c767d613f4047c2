// Runs a CUDA kernel on the host: every thread of a block is a fiber, blocks run one after another.
//
// A fiber runs until it meets a barrier or a shuffle. The order in which the fibers run is a permutation that the caller
// chooses; a kernel with a missing barrier gives different results under different orders. Shared memory starts out as
// NaN. A barrier that some threads of a block never reach, and a shuffle without the whole warp, end the launch with an
// error.

#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define __device__
#define __global__
#define __shared__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)

struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct Index {
    unsigned x;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

constexpr int SHARED_BYTES = 48 * 1024;
alignas(16) long long shared_memory[SHARED_BYTES / 8];

template <typename T>
inline T __ldcs(const T* address) {
    if (reinterpret_cast<size_t>(address) % sizeof(T)) abort();  // a device traps on a misaligned vector
    return *address;
}

// ---- Fibers

namespace host {

enum State { RUNNING, AT_BARRIER, AT_SHUFFLE, FINISHED };
struct Fiber {
    ucontext_t context;  // for the first switch only: the others jump, which needs no system call
    jmp_buf place;
    bool started;
    State state;
    double slot;  // what this lane offers to a shuffle
};

constexpr size_t STACK_BYTES = 64 * 1024;
constexpr unsigned MOST_THREADS = 512;
static Fiber fibers[MOST_THREADS];
static char stacks[MOST_THREADS][STACK_BYTES];
static unsigned made;
static jmp_buf scheduler;
static void (*entry)();

// Back to the scheduler; returns when it resumes this fiber.
__noinline__ void wait(State state) {
    Fiber& fiber = fibers[threadIdx.x];
    fiber.state = state;
    if (!_setjmp(fiber.place)) _longjmp(scheduler, 1);
}

__noinline__ void resume(unsigned thread) {
    Fiber& fiber = fibers[thread];
    threadIdx.x = thread;
    if (_setjmp(scheduler)) return;
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    setcontext(&fiber.context);
}

// A fiber lives for all launches: one run of the kernel per block.
static void run_entry() {
    for (;;) {
        entry();
        wait(FINISHED);
    }
}

inline void make_fibers(unsigned threads) {
    if (threads > MOST_THREADS) abort();
    for (; made < threads; ++made) {
        Fiber& fiber = fibers[made];
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = stacks[made];
        fiber.context.uc_stack.ss_size = STACK_BYTES;
        makecontext(&fiber.context, run_entry, 0);
    }
}

inline bool all_in(State state, unsigned first, unsigned last) {
    for (unsigned t = first; t < last; ++t)
        if (fibers[t].state != state) return false;
    return true;
}

inline void release(unsigned first, unsigned last) {
    for (unsigned t = first; t < last; ++t) fibers[t].state = RUNNING;
}

// Whether the block ran to its end.
inline bool run_block(const unsigned* order) {
    unsigned threads = blockDim.x;
    memset(shared_memory, 0xff, sizeof shared_memory);
    release(0, threads);
    while (!all_in(FINISHED, 0, threads)) {
        bool progress = false;
        for (unsigned i = 0; i < threads; ++i) {
            if (fibers[order[i]].state != RUNNING) continue;
            progress = true;
            resume(order[i]);
        }
        if (all_in(AT_BARRIER, 0, threads)) release(0, threads), progress = true;
        for (unsigned warp = 0; warp < threads; warp += 32)
            if (all_in(AT_SHUFFLE, warp, warp + 32)) release(warp, warp + 32), progress = true;
        if (!progress) return false;
    }
    return true;
}

}  // namespace host

inline void __syncthreads() { host::wait(host::AT_BARRIER); }

template <typename T>
inline T __shfl_down_sync(unsigned, T value, unsigned distance) {
    host::fibers[threadIdx.x].slot = value;
    host::wait(host::AT_SHUFFLE);
    unsigned source = threadIdx.x + distance;
    T result = source / 32 == threadIdx.x / 32 ? (T)host::fibers[source].slot : value;
    host::wait(host::AT_SHUFFLE);  // nobody offers the next value before all have read this one
    return result;
}

// One launch; 0 if all blocks ran to their end. Arguments are pointers and 64-bit integers.
extern "C" int launch(void* kernel, unsigned grid, unsigned block, const long long* arguments, int count,
                      const unsigned* order) {
    static void* function;
    static const long long* a;
    static int n;
    function = kernel, a = arguments, n = count;
    gridDim.x = grid, blockDim.x = block;
    host::make_fibers(block);
    host::entry = [] {
        typedef long long L;
        switch (n) {
            case 7: return ((void (*)(L, L, L, L, L, L, L))function)(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
            case 9:
                return ((void (*)(L, L, L, L, L, L, L, L, L))function)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7],
                                                                       a[8]);
            case 12:
                return ((void (*)(L, L, L, L, L, L, L, L, L, L, L, L))function)(
                    a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11]);
            default: abort();
        }
    };
    for (unsigned b = 0; b < grid; ++b) {
        blockIdx.x = b;
        if (!host::run_block(order)) return 1;
    }
    return 0;
}

// ---- Instructions

inline float as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
inline unsigned as_bits(float value) {
    unsigned bits;
    memcpy(&bits, &value, 4);
    return bits;
}
template <typename T>
inline T larger(T a, T b) {  // fmax of the C library lets a signalling NaN win
    return a > b || b != b ? a : b;
}
inline float reciprocal(float q) { return 1 / q; }

inline float half_to_float(unsigned short bits) {
    unsigned sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 31) return as_float(sign | 0x7f800000 | fraction << 13);
    if (exponent == 0) return as_float(sign) + (sign ? -1 : 1) * ldexpf((float)fraction, -24);
    return as_float(sign | (exponent + 112) << 23 | fraction << 13);
}

inline unsigned short float_to_half(float value) {
    unsigned bits = as_bits(value), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000) return 0x7fff;
    if (size >= 0x477ff000) return sign | 0x7c00;  // from 65520 on
    if (size < 0x38800000) return sign | (unsigned)nearbyintf(ldexpf(as_float(size), 24));  // below 2^-14
    return sign | ((size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13);
}
