//! Two SHA-256 states over the same blocks at little more than the price of one.
//!
//! The digest of a layer's tar and that of a file in it go over the same bytes. The words of a block are scheduled once, and the
//! rounds of one state fill the waits of the other's: each instruction of a round needs the result of the one before.

use sha2::block_api::compress256;

/// Advances both states over `blocks`.
#[allow(unsafe_code)]
pub fn compress(one: &mut [u32; 8], other: &mut [u32; 8], blocks: &[[u8; 64]]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sha") && std::arch::is_x86_feature_detected!("sse4.1") {
        // SAFETY: this processor has the instructions.
        unsafe { x86::compress(one, other, blocks) };
        return;
    }
    compress256(one, blocks);
    compress256(other, blocks);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_loadu_si128, _mm_set_epi32, _mm_set_epi64x, _mm_sha256msg1_epu32,
        _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
    };

    /// Four to an instruction. *Source:* FIPS 180-4, 4.2.2.
    const ROUNDS: [[u32; 4]; 16] = [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
        [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
        [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
        [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
        [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
        [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
        [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
        [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
        [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ];

    /// A state as the instructions want it, its words from the highest lane down: a, b, e, f and c, d, g, h.
    #[derive(Clone, Copy)]
    struct State(__m128i, __m128i);

    #[inline]
    #[target_feature(enable = "sha,sse4.1")]
    fn load_state(words: &[u32; 8]) -> State {
        let word = |nth: usize| words[nth].cast_signed();
        State(_mm_set_epi32(word(0), word(1), word(4), word(5)), _mm_set_epi32(word(2), word(3), word(6), word(7)))
    }

    #[inline]
    #[target_feature(enable = "sha,sse4.1")]
    fn store_state(State(abef, cdgh): State, words: &mut [u32; 8]) {
        words[0] = _mm_extract_epi32::<3>(abef).cast_unsigned();
        words[1] = _mm_extract_epi32::<2>(abef).cast_unsigned();
        words[2] = _mm_extract_epi32::<3>(cdgh).cast_unsigned();
        words[3] = _mm_extract_epi32::<2>(cdgh).cast_unsigned();
        words[4] = _mm_extract_epi32::<1>(abef).cast_unsigned();
        words[5] = _mm_extract_epi32::<0>(abef).cast_unsigned();
        words[6] = _mm_extract_epi32::<1>(cdgh).cast_unsigned();
        words[7] = _mm_extract_epi32::<0>(cdgh).cast_unsigned();
    }

    /// Bytes `at` to `at + 16` of a block, as four of its words.
    #[inline]
    #[allow(unsafe_code)]
    #[target_feature(enable = "sha,sse4.1")]
    fn load_words(block: &[u8; 64], at: usize) -> __m128i {
        let bytes = &block[at..at + 16];
        // SAFETY: these are 16 bytes, and the load wants no alignment.
        let words = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
        _mm_shuffle_epi8(words, _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203))
    }

    #[inline]
    #[allow(unsafe_code)]
    #[target_feature(enable = "sha,sse4.1")]
    fn load_constants(nth: usize) -> __m128i {
        let constants: &[u32; 4] = &ROUNDS[nth];
        // SAFETY: these are 16 bytes, and the load wants no alignment.
        unsafe { _mm_loadu_si128(constants.as_ptr().cast()) }
    }

    /// Four rounds of a state.
    #[inline]
    #[target_feature(enable = "sha,sse4.1")]
    fn advance(State(abef, cdgh): &mut State, two: __m128i, two_more: __m128i) {
        *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, two);
        *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, two_more);
    }

    /// Four rounds of both, and in `words[0]` the words for those sixteen rounds later.
    #[inline]
    #[target_feature(enable = "sha,sse4.1")]
    fn rounds(nth: usize, one: &mut State, other: &mut State, words: (&mut __m128i, __m128i, __m128i, __m128i)) {
        let two = _mm_add_epi32(*words.0, load_constants(nth));
        let two_more = _mm_shuffle_epi32::<0x0e>(two);
        advance(one, two, two_more);
        advance(other, two, two_more);
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(*words.0, words.1), _mm_alignr_epi8::<4>(words.3, words.2));
        *words.0 = _mm_sha256msg2_epu32(sum, words.3);
    }

    #[inline]
    #[target_feature(enable = "sha,sse4.1")]
    fn add(to: &mut State, before: State) {
        to.0 = _mm_add_epi32(to.0, before.0);
        to.1 = _mm_add_epi32(to.1, before.1);
    }

    /// Advances both states over `blocks`.
    #[target_feature(enable = "sha,sse4.1")]
    pub fn compress(one: &mut [u32; 8], other: &mut [u32; 8], blocks: &[[u8; 64]]) {
        let (mut left, mut right) = (load_state(one), load_state(other));
        for block in blocks {
            let before = (left, right);
            let (mut w0, mut w1) = (load_words(block, 0), load_words(block, 16));
            let (mut w2, mut w3) = (load_words(block, 32), load_words(block, 48));
            for nth in [0, 4, 8, 12] {
                rounds(nth, &mut left, &mut right, (&mut w0, w1, w2, w3));
                rounds(nth + 1, &mut left, &mut right, (&mut w1, w2, w3, w0));
                rounds(nth + 2, &mut left, &mut right, (&mut w2, w3, w0, w1));
                rounds(nth + 3, &mut left, &mut right, (&mut w3, w0, w1, w2));
            }
            add(&mut left, before.0);
            add(&mut right, before.1);
        }
        store_state(left, one);
        store_state(right, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_states_advance_as_one_by_one() {
        let bytes: Vec<u8> = (0..64 * 33_u32).map(|n| (n * n / 5) as u8).collect();
        let (blocks, _) = bytes.as_chunks::<64>();
        let start = |salt: u32| [1, 2, 3, 4, 5, 6, 7, 8].map(|word: u32| word.wrapping_mul(0x9e37_79b9) ^ salt);
        for count in 0..blocks.len() {
            let (mut one, mut other) = (start(0), start(u32::MAX));
            let mut expected = (one, other);
            compress(&mut one, &mut other, &blocks[..count]);
            compress256(&mut expected.0, &blocks[..count]);
            compress256(&mut expected.1, &blocks[..count]);
            assert_eq!((one, other), expected, "{count} blocks");
        }
    }
}
