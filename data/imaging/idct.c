// libjpeg's inverse DCT of whole numbers (jidctint.c, after Loeffler, Ligtenberg and Moschytz 1989), to the same bits.
#include "vector.h"

enum {
	fraction = 13, // bits of the constants
	kept = 2,      // bits of fraction between the passes
};

// Arithmetic wraps around, which only damaged files make it do.
typedef uint32_t number;

// lines transforms eight lines of eight numbers: number i of line k lies at from[i * 8 + k], its result, rounded to
// shift bits less, at to[i * 8 + k].
static inline __attribute__((always_inline)) void lines(const int32_t *restrict from, int32_t *restrict to, int shift) {
	for (int k = 0; k < 8; k++) {
		number even[4], odd[4];
		{
			number z2 = from[2 * 8 + k], z3 = from[6 * 8 + k];
			number z1 = (z2 + z3) * 4433;                               // 0.541196100
			number t2 = z1 - z3 * 15137, t3 = z1 + z2 * 6270;           // 1.847759065, 0.765366865
			number t0 = (number)from[k] + from[4 * 8 + k], t1 = (number)from[k] - from[4 * 8 + k];
			t0 <<= fraction, t1 <<= fraction;
			even[0] = t0 + t3, even[1] = t1 + t2, even[2] = t1 - t2, even[3] = t0 - t3;
		}
		{
			number t0 = from[7 * 8 + k], t1 = from[5 * 8 + k], t2 = from[3 * 8 + k], t3 = from[1 * 8 + k];
			number z1 = t0 + t3, z2 = t1 + t2, z3 = t0 + t2, z4 = t1 + t3;
			number z5 = (z3 + z4) * 9633;                               // 1.175875602
			t0 *= 2446, t1 *= 16819;                                    // 0.298631336, 2.053119869
			t2 *= 25172, t3 *= 12299;                                   // 3.072711026, 1.501321110
			z1 *= 7373, z2 *= 20995;                                    // 0.899976223, 2.562915447
			z3 = z5 - z3 * 16069, z4 = z5 - z4 * 3196;                  // 1.961570560, 0.390180644
			odd[3] = t0 - z1 + z3, odd[2] = t1 - z2 + z4, odd[1] = t2 - z2 + z3, odd[0] = t3 - z1 + z4;
		}
		number half = (number)1 << (shift - 1);
		for (int i = 0; i < 4; i++) {
			to[i * 8 + k] = (int32_t)(even[i] + odd[i] + half) >> shift;
			to[(7 - i) * 8 + k] = (int32_t)(even[i] - odd[i] + half) >> shift;
		}
	}
}

vectors void limner_idct(const int16_t *restrict coefficients, const uint16_t *restrict quantization, long blocks,
	uint8_t *restrict to, long stride) {
	for (; blocks > 0; blocks--, coefficients += 64, to += 8) {
		int32_t a[64], b[64];
		for (int i = 0; i < 64; i++) a[i] = (int32_t)((number)coefficients[i] * quantization[i]);
		lines(a, b, fraction - kept);
		for (int i = 0; i < 8; i++)
			for (int k = 0; k < 8; k++) a[i * 8 + k] = b[k * 8 + i];
		lines(a, b, fraction + kept + 3);
		for (int i = 0; i < 8; i++)
			for (int k = 0; k < 8; k++) {
				int32_t v = b[k * 8 + i] + 128;
				to[i * stride + k] = v < 0 ? 0 : v > 255 ? 255 : v;
			}
	}
}
