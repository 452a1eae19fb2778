//! The digest of a stream, and of the parts of it that are files, in one pass.

use sha2::block_api::compress256;

use super::{Algorithm, Digest, Hasher};

/// Advances two SHA-256 states over the same blocks; what they are is for the processor to say, and so not known on this floor.
pub type Twin = fn(&mut [u32; 8], &mut [u32; 8], &[[u8; 64]]);

/// Bytes of a block.
const BLOCK: usize = 64;
/// *Source:* FIPS 180-4, 5.3.3.
const START: [u32; 8] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// A SHA-256 in the making whose state can be lent out.
#[derive(Clone)]
struct Sum {
    state: [u32; 8],
    /// The first bytes of a block that is not full yet.
    tail: [u8; BLOCK],
    filled: usize,
    count: u64,
}

impl Sum {
    fn new() -> Self {
        Sum { state: START, tail: [0; BLOCK], filled: 0, count: 0 }
    }

    fn update(&mut self, bytes: &[u8]) {
        let rest = self.top_up(bytes);
        let (blocks, tail) = rest.as_chunks::<BLOCK>();
        compress256(&mut self.state, blocks);
        self.count += (blocks.len() * BLOCK) as u64;
        self.top_up(tail);
    }

    /// Takes bytes until the block at hand is full; answers those that it did not take: all of them when there is no such block and
    /// they are a block or more.
    fn top_up<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.filled == 0 && bytes.len() >= BLOCK {
            return bytes;
        }
        let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
        self.tail[self.filled..][..now.len()].copy_from_slice(now);
        self.filled += now.len();
        self.count += now.len() as u64;
        if self.filled == BLOCK {
            compress256(&mut self.state, &[self.tail]);
            self.filled = 0;
        }
        rest
    }

    fn finish(mut self) -> [u8; 32] {
        let bits = self.count * 8;
        self.top_up(&[0x80]);
        if self.filled > BLOCK - 8 {
            self.top_up(&[0; BLOCK][self.filled..]);
        }
        self.tail[self.filled..].fill(0);
        self.tail[BLOCK - 8..].copy_from_slice(&bits.to_be_bytes());
        compress256(&mut self.state, &[self.tail]);
        let mut digest = [0; 32];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        digest
    }
}

/// The digest of a whole stream, and one after another those of files in it.
///
/// In a tar the content of a file starts at a multiple of 512 bytes, so that its blocks are blocks of the tar too. A stream that is to
/// be digested with SHA-512 shares nothing with its files, which are digested with SHA-256 all the same.
pub struct TwoDigests {
    whole: Sum,
    /// Instead of `whole`, and the bytes that it took.
    other: Option<(Hasher, u64)>,
    file: Option<File>,
}

struct File {
    sum: Sum,
    left: u64,
    twin: Twin,
}

impl TwoDigests {
    /// Of nothing, the whole by `algorithm`.
    pub fn new(algorithm: Algorithm) -> Self {
        let other = (algorithm != Algorithm::Sha256).then(|| (Hasher::new(algorithm), 0));
        TwoDigests { whole: Sum::new(), other, file: None }
    }

    /// The next `size` bytes are a file; what was left of the file before is not waited for. Answers the digest of an empty file.
    pub fn start_file(&mut self, size: u64, twin: Twin) -> Option<[u8; 32]> {
        self.file = Some(File { sum: Sum::new(), left: size, twin });
        self.ended_file()
    }

    /// Takes the first of `bytes`, to the end of the file at most; answers how many, and the digest of a file that ended there.
    pub fn update(&mut self, bytes: &[u8]) -> (usize, Option<[u8; 32]>) {
        let Some(file) = &mut self.file else {
            self.update_whole(bytes);
            return (bytes.len(), None);
        };
        let count = bytes.len().min(usize::try_from(file.left).unwrap_or(usize::MAX));
        let bytes = &bytes[..count];
        file.left -= count as u64;
        if self.other.is_some() {
            file.sum.update(bytes);
            self.update_whole(bytes);
        } else if file.sum.filled == self.whole.filled {
            let rest = self.whole.top_up(bytes);
            file.sum.top_up(bytes);
            let (blocks, tail) = rest.as_chunks::<BLOCK>();
            (file.twin)(&mut self.whole.state, &mut file.sum.state, blocks);
            for sum in [&mut self.whole, &mut file.sum] {
                sum.count += (blocks.len() * BLOCK) as u64;
                sum.top_up(tail);
            }
        } else {
            self.whole.update(bytes);
            file.sum.update(bytes);
        }
        (count, self.ended_file())
    }

    fn update_whole(&mut self, bytes: &[u8]) {
        match &mut self.other {
            None => self.whole.update(bytes),
            Some((hasher, count)) => {
                hasher.update(bytes);
                *count += bytes.len() as u64;
            }
        }
    }

    fn ended_file(&mut self) -> Option<[u8; 32]> {
        self.file.take_if(|file| file.left == 0).map(|file| file.sum.finish())
    }

    /// The digest of the whole stream, and how many bytes it had.
    pub fn finish(self) -> (Digest, u64) {
        if let Some((hasher, count)) = self.other {
            return (hasher.finish(), count);
        }
        let count = self.whole.count;
        (Digest::from_hash(&self.whole.finish()), count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    fn one_by_one(one: &mut [u32; 8], other: &mut [u32; 8], blocks: &[[u8; 64]]) {
        compress256(one, blocks);
        compress256(other, blocks);
    }

    /// Digests `bytes`, in pieces of `piece`, with files at these places.
    fn digest(algorithm: Algorithm, bytes: &[u8], piece: usize, files: &[(usize, usize)]) -> (Vec<[u8; 32]>, Digest) {
        let (mut sums, mut found, mut at) = (TwoDigests::new(algorithm), Vec::new(), 0);
        let mut starts = files.iter().peekable();
        while at < bytes.len() {
            while let Some((_, size)) = starts.next_if(|(start, _)| *start == at) {
                found.extend(sums.start_file(*size as u64, one_by_one));
            }
            let next = starts.peek().map_or(bytes.len(), |(start, _)| *start);
            let (count, ended) = sums.update(&bytes[at..next.min(at + piece)]);
            found.extend(ended);
            at += count;
        }
        let (whole, count) = sums.finish();
        assert_eq!(count, bytes.len() as u64);
        (found, whole)
    }

    #[test]
    fn both_are_right_for_files_of_any_size_anywhere() {
        let bytes: Vec<u8> = (0..4096_u32).map(|n| (n * n / 7) as u8).collect();
        for piece in [1, 7, 64, 100, 4096] {
            for size in (0..300).chain([1024, 2000]) {
                for start in [512, 513, 575] {
                    let files = [(0, 0), (64, 55), (start, size), (3000, 1096)];
                    let algorithm = Algorithm::ALL[size % 2];
                    let (found, whole) = digest(algorithm, &bytes, piece, &files);
                    assert_eq!(whole, Digest::by(algorithm, &bytes));
                    for (found, (start, size)) in found.iter().zip(files) {
                        assert_eq!(*found, <[u8; 32]>::from(Sha256::digest(&bytes[start..start + size])), "{size} bytes at {start}");
                    }
                    assert_eq!(found.len(), files.len());
                }
            }
        }
    }
}
