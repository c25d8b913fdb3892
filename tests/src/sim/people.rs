//! The people who ask the hosts for something.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use crate::attack::Token;

/// The mailboxes of the trust list.
pub const MAILBOXES: [&str; 2] = ["paris-desk", "protocol"];

/// The uid of the drafter's user.
pub const DRAFTER_UID: u32 = 1;

/// An officer of the trust list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Officer {
    /// The first.
    B,
    /// The second.
    C,
    /// The third.
    D,
}

impl Officer {
    /// All of them.
    pub const ALL: [Officer; 3] = [Officer::B, Officer::C, Officer::D];

    /// The user of this officer. Debian has it everywhere, with this uid.
    pub fn user(self) -> &'static str {
        match self {
            Officer::B => "bin",
            Officer::C => "sys",
            Officer::D => "games",
        }
    }

    /// The uid of [`Officer::user`].
    pub fn uid(self) -> u32 {
        match self {
            Officer::B => 2,
            Officer::C => 3,
            Officer::D => 5,
        }
    }

    /// The person of the trust list.
    pub fn person(self) -> &'static str {
        match self {
            Officer::B => "b.officer",
            Officer::C => "c.officer",
            Officer::D => "d.officer",
        }
    }

    /// The officer's security key.
    pub fn token(self) -> Token {
        Token::new(match self {
            Officer::B => 11,
            Officer::C => 12,
            Officer::D => 13,
        })
    }
}

/// A key that no trust list names.
pub fn stranger() -> Token {
    Token::new(99)
}

/// Places a request as a command does: everything synced, then one rename.
///
/// # Errors
/// The disk's.
pub fn place(
    requests: &Path,
    name: &str,
    text: &str,
    files: &[(String, Vec<u8>)],
) -> io::Result<()> {
    let hidden = requests.join(format!(".{name}"));
    DirBuilder::new().mode(0o770).create(&hidden)?;
    let text = ("request.toml".to_owned(), text.as_bytes().to_vec());
    for (file, bytes) in files.iter().chain([&text]) {
        let mut file = File::create_new(hidden.join(file))?;
        file.write_all(bytes)?;
        file.sync_all()?;
    }
    File::open(&hidden)?.sync_all()?;
    fs::rename(&hidden, requests.join(name))?;
    File::open(requests)?.sync_all()
}

/// Returns the answer to a request; `None` while the request waits.
///
/// # Errors
/// The disk's.
pub fn answer(requests: &Path, name: &str) -> io::Result<Option<Result<String, String>>> {
    for (end, is_accepted) in [("accepted", true), ("refused", false)] {
        match fs::read_to_string(requests.join(format!("{name}.{end}"))) {
            Ok(text) => {
                let Some(text) = text.strip_suffix('\n') else {
                    continue;
                };
                let text = text.to_owned();
                return Ok(Some(if is_accepted { Ok(text) } else { Err(text) }));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
