//! The parts of a body, each compared with its hash as soon as it ends.

use sha2::{Digest as _, Sha256};
use valise_common::manifest::Manifest;

use super::fault::Fault;

/// A stretch of one part's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The part's index, from 0.
    pub part_index: usize,
    /// The bytes, next in order.
    pub bytes: &'a [u8],
}

/// The parts that have not ended.
pub(super) struct PartHashes {
    /// Remaining bytes and hash of each part that has not ended, the next one last.
    open: Vec<(u64, [u8; 32])>,
    part_index: usize,
    hasher: Sha256,
}

impl PartHashes {
    pub(super) fn new(manifest: &Manifest) -> PartHashes {
        let open = manifest
            .parts
            .iter()
            .rev()
            .map(|part| (part.length, part.sha256))
            .collect();
        PartHashes {
            open,
            part_index: 0,
            hasher: Sha256::new(),
        }
    }

    /// Cuts the next bytes of the body into their parts, and compares the hash of each part that ends.
    pub(super) fn handle_body<'a>(&mut self, mut body: &'a [u8]) -> Result<Vec<Piece<'a>>, Fault> {
        let mut pieces = Vec::new();
        loop {
            let Some((left_bytes, sha256)) = self.open.last_mut() else {
                return Ok(pieces);
            };
            // A part may be longer than any slice; then the whole slice is its.
            let taken = usize::try_from(*left_bytes)
                .unwrap_or(usize::MAX)
                .min(body.len());
            let (piece, rest) = body.split_at(taken);
            if !piece.is_empty() {
                self.hasher.update(piece);
                pieces.push(Piece {
                    part_index: self.part_index,
                    bytes: piece,
                });
            }
            *left_bytes -= u64::try_from(taken).unwrap_or(*left_bytes);
            if *left_bytes > 0 {
                return Ok(pieces);
            }
            if self.hasher.finalize_reset().as_slice() != sha256.as_slice() {
                return Err(Fault::PartHash {
                    part: self.part_index.saturating_add(1),
                });
            }
            self.open.pop();
            self.part_index = self.part_index.saturating_add(1);
            body = rest;
        }
    }

    pub(super) fn finish(self) -> Result<(), Fault> {
        // The lengths were compared with the body's before; a part that is still open never ended.
        if self.open.is_empty() {
            Ok(())
        } else {
            Err(Fault::PartHash {
                part: self.part_index.saturating_add(1),
            })
        }
    }
}
