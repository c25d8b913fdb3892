//! What the processor does by itself.

/// How this processor computes the AES-256-GCM of the link. In either way the time tells nothing of key or text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aes {
    /// AES and carry-less multiplication are instructions.
    Instructions,
    /// By ordinary instructions, which takes many times as long.
    Software,
}

impl Aes {
    /// Asks the processor. One that this program cannot ask counts as one without the instructions.
    pub fn detect() -> Self {
        if has_instructions() {
            Self::Instructions
        } else {
            Self::Software
        }
    }

    /// Writes a warning into the log if the link is slow with this.
    pub fn log(self) {
        if let Some(warning) = self.warning() {
            tracing::warn!("{warning}");
        }
    }

    fn warning(self) -> Option<&'static str> {
        match self {
            Self::Instructions => None,
            Self::Software => Some(
                "this processor has no AES instructions (or hides them from this virtual machine): datagrams are sealed and \
                 opened slowly, though safely; a fast link needs a processor with AES and carry-less multiplication",
            ),
        }
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_instructions() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_instructions() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_instructions() -> bool {
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_processor_without_aes_is_warned_of() {
        assert_eq!(Aes::Instructions.warning(), None);
        assert!(Aes::Software.warning().unwrap().contains("no AES"));
    }

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn the_processor_is_what_the_kernel_says_of_it() {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let has = |name: &str| text.split_whitespace().any(|word| word == name);
        let expected = match has("aes") && (has("pclmulqdq") || has("pmull")) {
            true => Aes::Instructions,
            false => Aes::Software,
        };
        assert_eq!(Aes::detect(), expected);
    }
}
