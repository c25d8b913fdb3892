//! The fields of an SSHSIG, read exactly: a length-prefixed string is taken whole, and nothing may
//! be left over.

use super::SshsigError;

const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;

/// What stands before, between and behind the fields of SSH's binary encoding (RFC 4251 §5).
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], SshsigError> {
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(SshsigError::Malformed)?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], SshsigError> {
        let (head, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(SshsigError::Malformed)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn number(&mut self) -> Result<u32, SshsigError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn string(&mut self) -> Result<&'a [u8], SshsigError> {
        let count = usize::try_from(self.number()?).map_err(|_| SshsigError::Malformed)?;
        self.bytes(count)
    }

    pub(super) fn end(self) -> Result<(), SshsigError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(SshsigError::TrailingBytes)
        }
    }
}

/// An SSHSIG as it lies in memory, its fixed fields checked.
pub(super) struct Sshsig<'a> {
    pub(super) public_key: &'a [u8],
    pub(super) namespace: &'a [u8],
    pub(super) signature: &'a [u8],
}

impl<'a> Sshsig<'a> {
    /// Takes the fields apart: `SSHSIG`, version, public key, namespace, reserved, hash, signature.
    pub(super) fn decode(raw: &'a [u8]) -> Result<Self, SshsigError> {
        let mut fields = Fields::new(raw);
        if fields.bytes(MAGIC.len())? != MAGIC {
            return Err(SshsigError::Malformed);
        }
        let version = fields.number()?;
        if version != VERSION {
            return Err(SshsigError::Version { version });
        }
        let public_key = fields.string()?;
        let namespace = fields.string()?;
        let reserved = fields.string()?;
        let hash = fields.string()?;
        let signature = fields.string()?;
        fields.end()?;
        if !reserved.is_empty() {
            return Err(SshsigError::Reserved);
        }
        if hash != b"sha512" {
            return Err(SshsigError::Hash);
        }
        Ok(Self {
            public_key,
            namespace,
            signature,
        })
    }
}

/// Returns the bytes that an SSHSIG's key signs for a message with this SHA-512.
pub(super) fn signed_data(namespace: &str, message_sha512: &[u8]) -> Vec<u8> {
    let mut data = MAGIC.to_vec();
    for field in [namespace.as_bytes(), b"", b"sha512", message_sha512] {
        push_string(&mut data, field);
    }
    data
}

/// Appends a length-prefixed string.
pub(super) fn push_string(out: &mut Vec<u8>, field: &[u8]) {
    // Only fields of our own making come here, and they are short.
    let count = u32::try_from(field.len()).expect("a field of an ssh signature fits 32 bits");
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(field);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_string_longer_than_the_rest_is_malformed() {
        for bytes in [&b"\0\0\0"[..], b"\0\0\0\x01", b"\xff\xff\xff\xffab"] {
            assert_eq!(Fields::new(bytes).string(), Err(SshsigError::Malformed));
        }
    }

    #[test]
    fn strings_round_trip() {
        let mut out = Vec::new();
        for field in [&b""[..], b"a", &[7; 300]] {
            push_string(&mut out, field);
        }
        let mut fields = Fields::new(&out);
        assert_eq!(fields.string(), Ok(&b""[..]));
        assert_eq!(fields.string(), Ok(&b"a"[..]));
        assert_eq!(fields.string(), Ok(&[7; 300][..]));
        assert_eq!(fields.end(), Ok(()));
    }

    #[test]
    fn signed_data_is_as_openssh_specifies() {
        let data = signed_data("n", b"hash");
        assert_eq!(
            data,
            b"SSHSIG\0\0\0\x01n\0\0\0\0\0\0\0\x06sha512\0\0\0\x04hash"
        );
    }
}
