// The group rational function: forward, backward, and the sums behind the coefficients' gradients.
//
//     y = P(x) / Q(x),   P = sum_{i=0..M} a_i x^i,   Q = 1 + sum_{j=1..N} |b_j| |x|^j,   f = P / Q
//
//     dx   = g (P' - f sgn(x) Q') / Q          P' = dP/dx,  Q' = dQ/d|x|,  g the incoming gradient
//     da_i = sum g x^i / Q
//     db_j = -sgn(b_j) sum g f |x|^j / Q       sgn(b) = -1 if b < 0 else +1;  sgn(x) is the sign bit
//
// Memory is [outer][groups][inner], with one pair (a, b) per group or a row shared by all. A vector is WIDTH neighbouring
// elements of one group, moved by one instruction of up to 16 bytes; `inner` and `total` count vectors.
//
// Two mappings of threads to vectors. In both the group of a thread never changes: its coefficients stay in registers and
// no element needs a division for its index.
//
//   flat      thread v0 = block * threads + thread takes v0, v0 + step, v0 + 2 step, ...; step is a multiple of a row of
//             groups * inner vectors. Threads with v0 >= step have nothing to do.
//   segment   for few long rows: block = slot * groups + group takes the tiles slot, slot + slots, ... of its group. A tile
//             is `threads` neighbouring vectors of one row; `step` is the number of tiles in a row, the last one cut off.
//
// The sums are made in a fixed order, without atomics: a thread adds up to 4096 elements in registers and then adds these
// to its column of shared memory; a team of lanes adds the columns of each group and power by a tree, into
// partials[power][group][row], with a row per block (flat) or slot (segment); sum_partials adds the rows in double.
//
// Elements with |x| > FAR_LIMIT, whose powers may overflow, are done one by one in double by Horner's rule in z = 1/x,
// with R and S the largest powers whose coefficient is not zero and b_0 = 1; their vectors wait until the others are done:
//
//     y = p / q x^R / |x|^S,   p = sum_k a_{R-k} z^k,   q = sum_k |b_{S-k}| |z|^k
//
// Compiled per instance, with these macros: KATOPS_M, KATOPS_N; KATOPS_X, KATOPS_Y, KATOPS_A, KATOPS_B, KATOPS_COMPUTE
// (the types of x and dx, of y and g, of a and da, of b and db, and of the arithmetic); KATOPS_WIDTH; KATOPS_SEGMENT;
// KATOPS_FAR_LIMIT; KATOPS_THREADS and KATOPS_BLOCKS (launch bounds); and either KATOPS_FORWARD or KATOPS_BACKWARD with
// KATOPS_NEEDS_X and KATOPS_NEEDS_COEFFICIENTS. Needs no header.

struct BFloat16 {
    unsigned short bits;
};
struct Float16 {
    unsigned short bits;
};

typedef KATOPS_X X;
typedef KATOPS_Y Y;
typedef KATOPS_A A;
typedef KATOPS_B B;
typedef KATOPS_COMPUTE Compute;

constexpr int M = KATOPS_M;
constexpr int N = KATOPS_N;
constexpr int WIDTH = KATOPS_WIDTH;
constexpr int SUMS = M + 1 + N;
constexpr Compute FAR_LIMIT = KATOPS_FAR_LIMIT;
constexpr unsigned WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffff;

// ---- Instructions that have no name in C++. Compiled for the host, the emulation of the tests supplies them.

#ifdef __CUDACC__

__device__ __forceinline__ float reciprocal(float q) {  // 1 ulp; q >= 1 is never denormal
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(q));
    return r;
}

// A NaN of either kind loses.
__device__ __forceinline__ float larger(float a, float b) { return fmaxf(a, b); }
__device__ __forceinline__ double larger(double a, double b) { return fmax(a, b); }

__device__ __forceinline__ float as_float(unsigned bits) { return __uint_as_float(bits); }
__device__ __forceinline__ unsigned as_bits(float value) { return __float_as_uint(value); }

__device__ __forceinline__ float half_to_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ unsigned short float_to_half(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

#endif

// Round to nearest even; the integer form is for devices and hosts without the instruction.
__device__ __forceinline__ unsigned short float_to_bfloat(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#else
    unsigned bits = as_bits(value);
    bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
    return is_nan ? 0x7fff : (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
#endif
}

// ---- Scalars

__device__ __forceinline__ float magnitude(float x) { return fabsf(x); }
__device__ __forceinline__ double magnitude(double x) { return fabs(x); }
__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) { return fma(a, b, c); }
__device__ __forceinline__ float with_sign_of(float size, float x) { return copysignf(size, x); }
__device__ __forceinline__ double with_sign_of(double size, double x) { return copysign(size, x); }

__device__ __forceinline__ Compute to_compute(float value) { return value; }
__device__ __forceinline__ Compute to_compute(double value) { return (Compute)value; }
__device__ __forceinline__ Compute to_compute(BFloat16 value) { return as_float((unsigned)value.bits << 16); }
__device__ __forceinline__ Compute to_compute(Float16 value) { return half_to_float(value.bits); }

// A double is rounded to float on the way to 16 bits, as if the arithmetic had been done in float.
__device__ __forceinline__ void convert(double value, float& result) { result = (float)value; }
__device__ __forceinline__ void convert(double value, double& result) { result = value; }
__device__ __forceinline__ void convert(double value, BFloat16& result) { result.bits = float_to_bfloat((float)value); }
__device__ __forceinline__ void convert(double value, Float16& result) { result.bits = float_to_half((float)value); }
__device__ __forceinline__ void convert(float value, float& result) { result = value; }
__device__ __forceinline__ void convert(float value, double& result) { result = value; }
__device__ __forceinline__ void convert(float value, BFloat16& result) { result.bits = float_to_bfloat(value); }
__device__ __forceinline__ void convert(float value, Float16& result) { result.bits = float_to_half(value); }

// ---- Vectors

template <int bytes>
struct Register;
template <>
struct Register<2> {
    typedef unsigned short Type;
};
template <>
struct Register<4> {
    typedef unsigned Type;
};
template <>
struct Register<8> {
    typedef uint2 Type;
};
template <>
struct Register<16> {
    typedef uint4 Type;
};

template <typename T>
union Vector {
    typename Register<sizeof(T) * WIDTH>::Type whole;
    T element[WIDTH];
    unsigned pair[(sizeof(T) * WIDTH + 3) / 4];
};

// Streaming: what is read once should not push out of the cache what the next operation reads.
template <typename T>
__device__ __forceinline__ Vector<T> load(const T* source, long long index) {
    Vector<T> vector;
    typedef typename Register<sizeof(T) * WIDTH>::Type Whole;
    vector.whole = __ldcs((const Whole*)source + index);
    return vector;
}

template <typename T>
__device__ __forceinline__ void store(T* target, long long index, const Vector<T>& vector) {
    typedef typename Register<sizeof(T) * WIDTH>::Type Whole;
    ((Whole*)target)[index] = vector.whole;
}

template <typename T>
__device__ __forceinline__ void unpack(const Vector<T>& vector, Compute (&value)[WIDTH]) {
#pragma unroll
    for (int e = 0; e < WIDTH; ++e) value[e] = to_compute(vector.element[e]);
}

template <typename T>
__device__ __forceinline__ void pack(const Compute (&value)[WIDTH], Vector<T>& vector) {
#pragma unroll
    for (int e = 0; e < WIDTH; ++e) convert(value[e], vector.element[e]);
}

__device__ __forceinline__ void unpack(const Vector<BFloat16>& vector, Compute (&value)[WIDTH]) {
    if (WIDTH == 1) {
        value[0] = to_compute(vector.element[0]);
        return;
    }
#pragma unroll
    for (int e = 0; e + 1 < WIDTH; e += 2) {
        value[e] = as_float(vector.pair[e / 2] << 16);
        value[e + 1] = as_float(vector.pair[e / 2] & 0xffff0000);
    }
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
// One instruction rounds two numbers and packs them.
__device__ __forceinline__ void pack(const Compute (&value)[WIDTH], Vector<BFloat16>& vector) {
    if (WIDTH == 1) convert(value[0], vector.element[0]);
#pragma unroll
    for (int e = 0; e + 1 < WIDTH; e += 2)
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;"
            : "=r"(vector.pair[e / 2])
            : "f"((float)value[e + 1]), "f"((float)value[e]));
}

__device__ __forceinline__ void pack(const Compute (&value)[WIDTH], Vector<Float16>& vector) {
    if (WIDTH == 1) convert(value[0], vector.element[0]);
#pragma unroll
    for (int e = 0; e + 1 < WIDTH; e += 2)
        asm("cvt.rn.f16x2.f32 %0, %1, %2;"
            : "=r"(vector.pair[e / 2])
            : "f"((float)value[e + 1]), "f"((float)value[e]));
}
#endif

__device__ __forceinline__ bool is_far(Compute x) { return magnitude(x) > FAR_LIMIT; }

__device__ __forceinline__ bool any_far(const Compute (&x)[WIDTH]) {
    Compute largest = magnitude(x[0]);
#pragma unroll
    for (int e = 1; e < WIDTH; ++e) largest = larger(largest, magnitude(x[e]));
    return largest > FAR_LIMIT;
}

__device__ __forceinline__ bool far_vector(const X* x, long long index) {
    Compute value[WIDTH];
    unpack(load(x, index), value);
    return any_far(value);
}

// ---- Which vectors a thread visits

struct Walk {
    long long index;  // of the current vector in the tensor; past the end of the tensor the walk is over
    int group;
#if KATOPS_SEGMENT
    unsigned tile, tiles, tile_step;  // within the row
    bool beyond;                      // whether this lane lies behind the end of the row in the last tile
    long long index_step, next_row;

    __device__ __forceinline__ Walk(long long groups, long long inner, long long tiles_in_row) {
        unsigned threads = blockDim.x, slots = gridDim.x / (unsigned)groups, slot = blockIdx.x / (unsigned)groups;
        long long row = groups * inner;
        tiles = (unsigned)tiles_in_row;
        group = blockIdx.x % (unsigned)groups;
        tile = slot % tiles;
        tile_step = slots % tiles;
        beyond = (tiles - 1) * (long long)threads + threadIdx.x >= inner;
        index = slot / tiles * row + group * inner + tile * (long long)threads + threadIdx.x;
        index_step = slots / tiles * row + tile_step * (long long)threads;
        next_row = row - tiles * (long long)threads;
    }

    __device__ __forceinline__ void next() {
        tile += tile_step;
        index += index_step;
        if (tile >= tiles) {
            tile -= tiles;
            index += next_row;
        }
    }

    __device__ __forceinline__ bool here() const { return !beyond || tile != tiles - 1; }
#else
    long long step;

    __device__ __forceinline__ Walk(long long groups, long long inner, long long multiple_of_row) {
        unsigned first = blockIdx.x * blockDim.x + threadIdx.x;
        step = multiple_of_row;
        group = first % (unsigned)(groups * inner) / (unsigned)inner;
        index = first < step ? first : 0x7fffffffffffffff;
    }

    __device__ __forceinline__ void next() { index += step; }
    __device__ __forceinline__ bool here() const { return true; }
#endif
};

// ---- The coefficients of one group

constexpr long long SHARED_NUMERATOR = 1, SHARED_DENOMINATOR = 2;

__device__ __forceinline__ const A* numerator_row(const A* numerator, long long shared, int group) {
    return numerator + (shared & SHARED_NUMERATOR ? 0 : group * (long long)(M + 1));
}

__device__ __forceinline__ const B* denominator_row(const B* denominator, long long shared, int group) {
    return denominator + (shared & SHARED_DENOMINATOR ? 0 : group * (long long)N);
}

struct Coefficients {
    Compute a[M + 1];
    Compute b[N + 1];  // |b_j|, and b_0 = 1

    __device__ __forceinline__ Coefficients(const A* numerator, const B* denominator) {
        b[0] = 1;
#pragma unroll
        for (int i = 0; i <= M; ++i) a[i] = to_compute(numerator[i]);
#pragma unroll
        for (int j = 1; j <= N; ++j) b[j] = magnitude(to_compute(denominator[j - 1]));
    }
};

__device__ __forceinline__ float divide(float value, float, float inverse) { return value * inverse; }
__device__ __forceinline__ double divide(double value, double q, double) { return value / q; }
__device__ __forceinline__ double reciprocal(double q) { return 1 / q; }

// ---- Far elements, in double. Rare: kept out of line and apart from the loops over the vectors, so that these stay fast.

extern __shared__ long long shared_memory[];

struct FarElement {
    double p, q;              // the polynomials in z
    double slope_p, slope_q;  // the same with each term times its power of x, from x d/dx
    double size;              // |x|
    bool negative;
    int top_p, top_q;

    __device__ FarElement(double x, const A* numerator, const B* denominator) {
        size = fabs(x);
        negative = x < 0;
        double z = 1 / x, size_z = 1 / size;
        top_p = top_q = 0;
#pragma unroll 1
        for (int i = 1; i <= M; ++i)
            if (to_compute(numerator[i]) != 0) top_p = i;
#pragma unroll 1
        for (int j = 1; j <= N; ++j)
            if (to_compute(denominator[j - 1]) != 0) top_q = j;
        p = slope_p = slope_q = 0;
        q = 1;
#pragma unroll 1
        for (int i = 0; i <= top_p; ++i) {
            double a = to_compute(numerator[i]);
            p = fma(p, z, a);
            slope_p = fma(slope_p, z, i * a);
        }
#pragma unroll 1
        for (int j = 1; j <= top_q; ++j) {
            double b = fabs((double)to_compute(denominator[j - 1]));
            q = fma(q, size_z, b);
            slope_q = fma(slope_q, size_z, j * b);
        }
    }

    // sgn(x)^odd |x|^power factor, where zero times infinity is zero: what the loss does not see leaves no NaN.
    __device__ double times_power(double factor, int power, int odd) const {
        if (negative && odd % 2) factor = -factor;
#pragma unroll 1
        for (; power > 0 && factor != 0; --power) factor *= size;
#pragma unroll 1
        for (; power < 0; ++power) factor /= size;
        return factor;
    }
};

// A vector with a far element waits until the thread's loop over its vectors is done, which therefore keeps nothing for
// it in registers: the indices of the first and the last such vector are in shared memory, two numbers per thread.
struct FarVectors {
    __device__ __forceinline__ static long long& first() { return shared_memory[threadIdx.x]; }
    __device__ __forceinline__ static long long& last() { return shared_memory[blockDim.x + threadIdx.x]; }
    __device__ __forceinline__ static void clear() { last() = -1; }
    __device__ __forceinline__ static bool none() { return last() < 0; }
    __device__ __forceinline__ static void remember(long long index) {
        if (none()) first() = index;
        last() = index;
    }
};

#ifdef KATOPS_FORWARD

// ---- Forward

constexpr int VECTORS_PER_PASS = 2;

__device__ __forceinline__ Compute near_value(Compute x, const Coefficients& c) {
    Compute p = c.a[M], q = c.b[N], size = magnitude(x);
#pragma unroll
    for (int i = M - 1; i >= 0; --i) p = multiply_add(p, x, c.a[i]);
#pragma unroll
    for (int j = N - 1; j >= 0; --j) q = multiply_add(q, size, c.b[j]);
    return divide(p, q, reciprocal(q));
}

// The vectors that hold a far element, element by element.
__device__ __noinline__ void far_values(const X* x, const A* numerator, const B* denominator, Y* y, long long groups,
                                        long long inner, long long step, long long shared) {
    Walk walk(groups, inner, step);
    numerator = numerator_row(numerator, shared, walk.group);
    denominator = denominator_row(denominator, shared, walk.group);
#pragma unroll 1
    for (; walk.index <= FarVectors::last(); walk.next()) {
        if (walk.index < FarVectors::first() || !walk.here() || !far_vector(x, walk.index)) continue;
#pragma unroll 1
        for (int e = 0; e < WIDTH; ++e) {
            long long i = walk.index * WIDTH + e;
            Compute value = to_compute(x[i]);
            if (is_far(value)) {
                FarElement far(value, numerator, denominator);
                convert(far.times_power(far.p / far.q, far.top_p - far.top_q, far.top_p), y[i]);
            } else {
                convert(near_value(value, Coefficients(numerator, denominator)), y[i]);
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(KATOPS_THREADS, KATOPS_BLOCKS)
    rational_forward(const X* x, const A* numerator, const B* denominator, Y* y, long long total, long long groups,
                     long long inner, long long step, long long shared) {
    Walk walk(groups, inner, step);
    if (walk.index >= total) return;
    const Coefficients coefficients(numerator_row(numerator, shared, walk.group),
                                    denominator_row(denominator, shared, walk.group));
    FarVectors::clear();
    while (walk.index < total) {
        // all loads before the first use, so that they are under way together
        Vector<X> loaded[VECTORS_PER_PASS];
        long long index[VECTORS_PER_PASS];
        bool here[VECTORS_PER_PASS];
#pragma unroll
        for (int u = 0; u < VECTORS_PER_PASS; ++u) {
            index[u] = walk.index;
            here[u] = walk.index < total && walk.here();
            if (here[u]) loaded[u] = load(x, index[u]);
            walk.next();
        }
#pragma unroll
        for (int u = 0; u < VECTORS_PER_PASS; ++u) {
            if (!here[u]) continue;
            Compute value[WIDTH], result[WIDTH];
            unpack(loaded[u], value);
            if (any_far(value)) {
                FarVectors::remember(index[u]);
                continue;
            }
#pragma unroll
            for (int e = 0; e < WIDTH; ++e) result[e] = near_value(value[e], coefficients);
            Vector<Y> stored;
            pack(result, stored);
            store(y, index[u], stored);
        }
    }
    if (!FarVectors::none()) far_values(x, numerator, denominator, y, groups, inner, step, shared);
}

#endif

#ifdef KATOPS_BACKWARD

// sums[power][thread], behind the places of the far vectors
__device__ __forceinline__ Compute* sums_of_block() { return (Compute*)(shared_memory + 2 * blockDim.x); }
__device__ __forceinline__ Compute* column_of_thread() { return sums_of_block() + threadIdx.x; }

// ---- Backward

struct Sums {
    Compute a[M + 1];  // sum g x^i / Q
    Compute b[N + 1];  // sum g f |x|^j / Q from j = 1 on

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i <= M; ++i) a[i] = 0;
#pragma unroll
        for (int j = 1; j <= N; ++j) b[j] = 0;
    }

    // weight = g / Q, f = P / Q; with one product for each even power of x
    __device__ __forceinline__ void add(Compute x, Compute weight, Compute f) {
        Compute even = 1, square = x * x;
        Compute odd_weight = weight * x, weight_f = weight * f, odd_weight_f = weight_f * magnitude(x);
#pragma unroll
        for (int k = 0; k <= (M > N ? M : N); k += 2) {
            if (k == 2) even = square;
            if (k > 2) even *= square;
            if (k <= M) a[k] = k == 0 ? a[k] + weight : multiply_add(weight, even, a[k]);
            if (k + 1 <= M) a[k + 1] = k == 0 ? a[k + 1] + odd_weight : multiply_add(odd_weight, even, a[k + 1]);
            if (k >= 1 && k <= N) b[k] = multiply_add(weight_f, even, b[k]);
            if (k + 1 <= N) b[k + 1] = k == 0 ? b[k + 1] + odd_weight_f : multiply_add(odd_weight_f, even, b[k + 1]);
        }
    }

    __device__ __forceinline__ void add_to(Compute* column) const {
#pragma unroll
        for (int i = 0; i <= M; ++i) column[i * blockDim.x] += a[i];
#pragma unroll
        for (int j = 1; j <= N; ++j) column[(M + j) * blockDim.x] += b[j];
    }
};

// Values and slopes together by Horner's rule, in |x| for the denominator.
__device__ __forceinline__ Compute near_gradient(Compute x, Compute incoming, const Coefficients& c, Sums& sums) {
    Compute p = c.a[M], slope_p = 0, q = c.b[N], slope_q = 0, size = magnitude(x);
#pragma unroll
    for (int i = M - 1; i >= 0; --i) {
        slope_p = i == M - 1 ? p : multiply_add(slope_p, x, p);
        p = multiply_add(p, x, c.a[i]);
    }
#pragma unroll
    for (int j = N - 1; j >= 0; --j) {
        slope_q = j == N - 1 ? q : multiply_add(slope_q, size, q);
        q = multiply_add(q, size, c.b[j]);
    }
    Compute inverse = reciprocal(q), weight = divide(incoming, q, inverse), f = divide(p, q, inverse);
    if (KATOPS_NEEDS_COEFFICIENTS) sums.add(x, weight, f);
    return weight * multiply_add(-f, with_sign_of(slope_q, x), slope_p);
}

__device__ __noinline__ Compute near_gradient_alone(Compute x, Compute incoming, const A* numerator,
                                                    const B* denominator) {
    Sums sums;
    sums.clear();
    Compute result = near_gradient(x, incoming, Coefficients(numerator, denominator), sums);
    if (KATOPS_NEEDS_COEFFICIENTS) sums.add_to(column_of_thread());
    return result;
}

// The vectors that hold a far element, element by element.
__device__ __noinline__ void far_gradients(const X* x, const Y* gradient, const A* numerator, const B* denominator,
                                           X* grad_x, long long groups, long long inner, long long step,
                                           long long shared) {
    Walk walk(groups, inner, step);
    Compute* column = column_of_thread();
    numerator = numerator_row(numerator, shared, walk.group);
    denominator = denominator_row(denominator, shared, walk.group);
#pragma unroll 1
    for (; walk.index <= FarVectors::last(); walk.next()) {
        if (walk.index < FarVectors::first() || !walk.here() || !far_vector(x, walk.index)) continue;
#pragma unroll 1
        for (int e = 0; e < WIDTH; ++e) {
            long long place = walk.index * WIDTH + e;
            Compute value = to_compute(x[place]), incoming = to_compute(gradient[place]);
            if (!is_far(value)) {
                Compute result = near_gradient_alone(value, incoming, numerator, denominator);
                if (KATOPS_NEEDS_X) convert(result, grad_x[place]);
                continue;
            }
            FarElement far(value, numerator, denominator);
            double f = far.p / far.q, weight = incoming / far.q;
            int degree = far.top_p - far.top_q;
            double slope = far.slope_p - f * far.slope_q;
            if (KATOPS_NEEDS_X) convert(far.times_power(weight * slope, degree - 1, far.top_p + 1), grad_x[place]);
            if (!KATOPS_NEEDS_COEFFICIENTS) continue;
#pragma unroll 1
            for (int i = 0; i <= M; ++i) column[i * blockDim.x] += (Compute)far.times_power(weight, i - far.top_q, i);
#pragma unroll 1
            for (int j = 1; j <= N; ++j)
                column[(M + j) * blockDim.x] += (Compute)far.times_power(weight * f, degree + j - far.top_q, far.top_p);
        }
    }
}

// The sum of the columns of each group and power, by `team` lanes each, into partials[power][group][row].
__device__ __forceinline__ void write_partials(Compute* partials, long long groups, long long inner, int team) {
    const Compute* sums = sums_of_block();
    int threads = blockDim.x, lane = threadIdx.x % (unsigned)team;
#if KATOPS_SEGMENT
    // all threads belong to one group
    int groups_here = 1, first_group = blockIdx.x % (unsigned)groups, columns = threads, period = threads, offset = 0;
    long long row = blockIdx.x / (unsigned)groups, rows = gridDim.x / (unsigned)groups;
#else
    // thread t belongs to group (offset + t) % period / columns
    int groups_here = (int)groups, first_group = 0, columns = (int)inner, period = (int)(groups * inner);
    int offset = blockIdx.x * blockDim.x % (unsigned)period;
    long long row = blockIdx.x, rows = gridDim.x;
#endif
    int pairs = SUMS * groups_here, teams = threads / team;
    // the trip count is the same for all threads, because a shuffle needs the whole warp
    for (int first = 0; first < pairs; first += teams) {
        int pair = first + (int)(threadIdx.x / (unsigned)team);
        int power = pair / groups_here, group = pair % groups_here;
        Compute sum = 0;
        if (pair < pairs)
            for (int start = group * columns - offset; start < threads; start += period) {
                int end = start + columns < threads ? start + columns : threads;
                for (int t = (start > 0 ? start : 0) + lane; t < end; t += team) sum += sums[power * threads + t];
            }
        for (int distance = team / 2; distance > 0; distance /= 2) sum += __shfl_down_sync(ALL_LANES, sum, distance);
        if (pair < pairs && lane == 0) partials[(power * groups + first_group + group) * rows + row] = sum;
    }
}

extern "C" __global__ void __launch_bounds__(KATOPS_THREADS, KATOPS_BLOCKS)
    rational_backward(const X* x, const Y* gradient, const A* numerator, const B* denominator, X* grad_x,
                      Compute* partials, long long total, long long groups, long long inner, long long step,
                      long long shared, long long team) {
    constexpr int VECTORS_PER_FLUSH = 4096 / WIDTH;
    Walk walk(groups, inner, step);
    FarVectors::clear();
    if (KATOPS_NEEDS_COEFFICIENTS)
        for (int k = 0; k < SUMS; ++k) column_of_thread()[k * blockDim.x] = 0;
    const Coefficients coefficients(numerator_row(numerator, shared, walk.group),
                                    denominator_row(denominator, shared, walk.group));
    while (walk.index < total) {
        Sums sums;
        sums.clear();
#pragma unroll 1
        for (int left = VECTORS_PER_FLUSH; left > 0 && walk.index < total; --left, walk.next()) {
            if (!walk.here()) continue;
            Compute value[WIDTH], incoming[WIDTH], result[WIDTH];
            Vector<X> loaded = load(x, walk.index);
            Vector<Y> loaded_gradient = load(gradient, walk.index);
            unpack(loaded, value);
            unpack(loaded_gradient, incoming);
            if (any_far(value)) {
                FarVectors::remember(walk.index);
                continue;
            }
#pragma unroll
            for (int e = 0; e < WIDTH; ++e) result[e] = near_gradient(value[e], incoming[e], coefficients, sums);
            if (KATOPS_NEEDS_X) {
                Vector<X> stored;
                pack(result, stored);
                store(grad_x, walk.index, stored);
            }
        }
        if (KATOPS_NEEDS_COEFFICIENTS) sums.add_to(column_of_thread());
    }
    if (!FarVectors::none()) 
        far_gradients(x, gradient, numerator, denominator, grad_x, groups, inner, step, shared);
    if (KATOPS_NEEDS_COEFFICIENTS) {
        __syncthreads();  // until here each thread has touched its own column only; from here on they are only read
        write_partials(partials, groups, inner, (int)team);
    }
}

// One block per coefficient: the sum over rows, and over groups where they share it.
extern "C" __global__ void __launch_bounds__(256)
    sum_partials(const Compute* partials, const B* denominator, A* grad_numerator, B* grad_denominator, long long rows,
                 long long groups, long long shared) {
    long long numerators = (shared & SHARED_NUMERATOR ? 1 : groups) * (M + 1);
    bool in_numerator = blockIdx.x < numerators;
    long long place = in_numerator ? blockIdx.x : blockIdx.x - numerators;
    int columns = in_numerator ? M + 1 : N;
    long long group = place / columns, power = place % columns + (in_numerator ? 0 : M + 1);
    bool all_groups = shared & (in_numerator ? SHARED_NUMERATOR : SHARED_DENOMINATOR);
    const Compute* first = partials + (power * groups + group) * rows;
    long long count = all_groups ? groups * rows : rows;
    double* warp_sums = (double*)shared_memory;
    double sum = 0;
    for (long long i = threadIdx.x; i < count; i += blockDim.x) sum += first[i];
    for (int distance = WARP / 2; distance > 0; distance /= 2) sum += __shfl_down_sync(ALL_LANES, sum, distance);
    if (threadIdx.x % WARP == 0) warp_sums[threadIdx.x / WARP] = sum;
    __syncthreads();  // the first thread reads what the first lane of every warp wrote
    if (threadIdx.x != 0) return;
    for (unsigned warp = 1; warp < blockDim.x / WARP; ++warp) sum += warp_sums[warp];
    if (in_numerator)
        convert(sum, grad_numerator[place]);
    else
        convert(to_compute(denominator[place]) < 0 ? sum : -sum, grad_denominator[place]);
}

#endif
