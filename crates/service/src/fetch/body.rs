//! A body as it comes: counted on the wire and unpacked, and ended at the first byte too many.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

use super::FetchError;

/// What has come so far.
#[derive(Debug)]
pub(super) struct Body {
    kind: Kind,
    wire: usize,
    max: usize,
}

#[derive(Debug)]
enum Kind {
    Plain(Kept),
    Gzip(Box<MultiGzDecoder<Kept>>),
}

/// Unpacked bytes, up to a number.
#[derive(Debug)]
struct Kept {
    bytes: Vec<u8>,
    max: usize,
    is_full: bool,
}

impl Write for Kept {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len().saturating_add(more.len()) > self.max {
            self.is_full = true;
            return Err(io::Error::other("full"));
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Body {
    /// Begins a body that is packed as its headers say.
    pub(super) fn new(packed: &str, max: usize) -> Result<Self, FetchError> {
        let kept = Kept {
            bytes: Vec::new(),
            max,
            is_full: false,
        };
        let kind = match packed.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Kind::Plain(kept),
            "gzip" | "x-gzip" => Kind::Gzip(Box::new(MultiGzDecoder::new(kept))),
            _ => return Err(FetchError::Encoding(packed.to_owned())),
        };
        Ok(Self { kind, wire: 0, max })
    }

    /// How many bytes came over the wire.
    pub(super) fn wire(&self) -> usize {
        self.wire
    }

    /// Takes in what came.
    pub(super) fn take(&mut self, chunk: &[u8]) -> Result<(), FetchError> {
        self.wire = self.wire.saturating_add(chunk.len());
        let max = self.max;
        // A stream of empty gzip members unpacks to nothing, for ever.
        if self.wire > max {
            return Err(FetchError::TooLarge { max });
        }
        match &mut self.kind {
            Kind::Plain(kept) => kept
                .write_all(chunk)
                .map_err(|_| FetchError::TooLarge { max }),
            Kind::Gzip(decoder) => {
                let written = decoder.write_all(chunk);
                written.map_err(|_| of(decoder.get_ref(), max))
            }
        }
    }

    /// Returns the whole of it.
    pub(super) fn finish(self) -> Result<Vec<u8>, FetchError> {
        match self.kind {
            Kind::Plain(kept) => Ok(kept.bytes),
            Kind::Gzip(mut decoder) => match decoder.try_finish() {
                Ok(()) => decoder
                    .finish()
                    .map(|kept| kept.bytes)
                    .map_err(|_| FetchError::Broken),
                Err(_) => Err(of(decoder.get_ref(), self.max)),
            },
        }
    }
}

fn of(kept: &Kept, max: usize) -> FetchError {
    if kept.is_full {
        FetchError::TooLarge { max }
    } else {
        FetchError::Broken
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const MAX: usize = 1 << 20;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(how: &str, wire: &[u8]) -> Result<Vec<u8>, FetchError> {
        let mut body = Body::new(how, MAX)?;
        for chunk in wire.chunks(700) {
            body.take(chunk)?;
        }
        body.finish()
    }

    #[test]
    fn a_body_is_the_same_packed_or_not() {
        let text = b"a wave rises ".repeat(1000);
        assert_eq!(read("", &text).unwrap(), text);
        assert_eq!(read("GZIP", &packed(&text)).unwrap(), text);
    }

    #[test]
    fn a_bomb_is_left_at_the_first_byte_too_many() {
        let bomb = packed(&vec![0; 200 << 20]);
        assert!(bomb.len() < MAX, "it is small on the wire");
        assert_eq!(read("gzip", &bomb), Err(FetchError::TooLarge { max: MAX }));
        let of_bombs = packed(&bomb);
        assert!(
            read("gzip", &of_bombs).unwrap().len() < MAX,
            "unpacked once, and no more"
        );
        let empty = packed(b"").repeat(MAX);
        assert_eq!(read("gzip", &empty), Err(FetchError::TooLarge { max: MAX }));
    }

    #[test]
    fn what_is_cut_or_packed_otherwise_is_refused() {
        let whole = packed(&b"a wave rises ".repeat(1000));
        assert_eq!(
            read("gzip", &whole[..whole.len() / 2]),
            Err(FetchError::Broken)
        );
        assert_eq!(
            read("gzip", b"no gzip at all, and long enough for its head"),
            Err(FetchError::Broken)
        );
        for how in ["br", "gzip, gzip", "deflate"] {
            assert_eq!(read(how, &whole), Err(FetchError::Encoding(how.to_owned())));
        }
        assert_eq!(
            read("", &vec![0; MAX + 1]),
            Err(FetchError::TooLarge { max: MAX })
        );
    }
}
