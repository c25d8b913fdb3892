//! The approvals of a package, as SSHSIG blobs. Whether they verify is not asked here.

use super::PackageError;
use crate::limits::{APPROVALS_BYTES_MAX, APPROVALS_MAX};

/// Writes the approvals: their number, then each SSHSIG blob with its length.
///
/// # Errors
/// [`PackageError`] for none, too many or too long ones.
pub fn encode_approvals(signatures: &[impl AsRef<[u8]>]) -> Result<Vec<u8>, PackageError> {
    let count = signatures.len();
    if !(1..=APPROVALS_MAX).contains(&count) {
        return Err(PackageError::ApprovalCount { count });
    }
    let mut bytes = vec![u8::try_from(count).map_err(|_| PackageError::ApprovalCount { count })?];
    for signature in signatures {
        let signature = signature.as_ref();
        let length = u16::try_from(signature.len()).map_err(|_| PackageError::ApprovalLengths)?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(signature);
    }
    if bytes.len() > APPROVALS_BYTES_MAX {
        let bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        return Err(PackageError::Approvals { bytes });
    }
    Ok(bytes)
}

/// Reads the approvals as blobs.
///
/// # Errors
/// [`PackageError`] for none, too many, or bytes that are missing or left over.
pub(crate) fn decode_approvals(bytes: &[u8]) -> Result<Vec<Vec<u8>>, PackageError> {
    let (count, mut rest) = bytes.split_first().ok_or(PackageError::ApprovalLengths)?;
    let count = usize::from(*count);
    if !(1..=APPROVALS_MAX).contains(&count) {
        return Err(PackageError::ApprovalCount { count });
    }
    let mut approvals = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, behind) = rest
            .split_first_chunk()
            .ok_or(PackageError::ApprovalLengths)?;
        let (approval, behind) = behind
            .split_at_checked(u16::from_be_bytes(*length).into())
            .ok_or(PackageError::ApprovalLengths)?;
        approvals.push(approval.to_vec());
        rest = behind;
    }
    if rest.is_empty() {
        Ok(approvals)
    } else {
        Err(PackageError::ApprovalLengths)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn none_and_seventeen_are_refused() {
        let none: [&[u8]; 0] = [];
        assert_eq!(
            encode_approvals(&none),
            Err(PackageError::ApprovalCount { count: 0 })
        );
        let count = PackageError::ApprovalCount { count: 17 };
        assert_eq!(encode_approvals(&[b"x"; 17]), Err(count));
        assert_eq!(
            decode_approvals(&[0]),
            Err(PackageError::ApprovalCount { count: 0 })
        );
        assert_eq!(decode_approvals(&[17]), Err(count));
        assert!(encode_approvals(&[vec![0; 65_535], vec![0; 65_535]]).is_err());
        assert!(encode_approvals(&[vec![0; 65_536]]).is_err());
    }

    #[test]
    fn bytes_missing_or_left_over_are_refused() {
        let bytes = encode_approvals(&[&b"first"[..], b"", b"third"]).unwrap();
        assert_eq!(
            decode_approvals(&bytes).unwrap(),
            [&b"first"[..], b"", b"third"]
        );
        for length in 0..bytes.len() {
            assert!(decode_approvals(&bytes[..length]).is_err(), "{length}");
        }
        assert!(decode_approvals(&[&bytes[..], b"x"].concat()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_return(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(count) = bytes.first_mut() {
                *count %= 4;
            }
            if let Ok(approvals) = decode_approvals(&bytes) {
                prop_assert_eq!(encode_approvals(&approvals).unwrap(), bytes);
            }
        }
    }
}
