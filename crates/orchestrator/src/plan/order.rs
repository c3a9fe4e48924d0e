//! The order of people inside a selection: murmur3 x86-32 of `salt:id`.
//!
//! Source of the algorithm: Austin Appleby's MurmurHash3 (public domain). The hash only orders; the
//! frozen roster decides.

/// The version of the rules around the hash that stands in every plan.
pub(super) const VERSION: u32 = 1;

const C1: u32 = 0xcc9e_2d51;
const C2: u32 = 0x1b87_3593;

/// Returns the hash of a directory id under a salt, with seed 0.
#[must_use]
pub fn hash(salt: &str, key: &str) -> u32 {
    let mut hasher = Murmur3::default();
    hasher.write(salt.as_bytes());
    hasher.write(b":");
    hasher.write(key.as_bytes());
    hasher.finish()
}

/// Returns the bucket of a hash, from 0 to 999,999.
#[must_use]
pub fn bucket(hash: u32) -> u32 {
    // A 32-bit number times a million, shifted by 32 bits, is below a million.
    u32::try_from((u64::from(hash) * 1_000_000) >> 32).unwrap_or(0)
}

/// Takes bytes in pieces, so that `salt:id` is never put together in memory.
#[derive(Debug, Clone, Copy, Default)]
struct Murmur3 {
    state: u32,
    tail: u32,
    tail_bytes: u32,
    length: u32,
}

impl Murmur3 {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.tail |= u32::from(*byte) << (8 * self.tail_bytes);
            self.tail_bytes += 1;
            if self.tail_bytes == 4 {
                self.state = (self.state ^ mix(self.tail))
                    .rotate_left(13)
                    .wrapping_mul(5)
                    .wrapping_add(0xe654_6b64);
                self.tail = 0;
                self.tail_bytes = 0;
            }
        }
        self.length = self
            .length
            .wrapping_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    }

    const fn finish(self) -> u32 {
        let mut hash = self.state ^ mix(self.tail) ^ self.length;
        hash ^= hash >> 16;
        hash = hash.wrapping_mul(0x85eb_ca6b);
        hash ^= hash >> 13;
        hash = hash.wrapping_mul(0xc2b2_ae35);
        hash ^ (hash >> 16)
    }
}

const fn mix(block: u32) -> u32 {
    block.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_design_come_out() {
        for (key, expected, place) in [
            ("user-1", 0x335d_c8a5, 200_649),
            ("user-2", 0xa183_f37c, 630_919),
            ("zoë@example.com", 0xbfe2_6b2c, 749_548),
        ] {
            let found = hash("wave-salt-1", key);
            assert_eq!((found, bucket(found)), (expected, place), "{key}");
        }
    }

    #[test]
    fn buckets_span_the_whole_million() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u32::MAX), 999_999);
    }
}
