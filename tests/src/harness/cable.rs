//! Cables as the harness submits them and as they are released.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{Context, HarnessError, Result};

/// A cable to be submitted.
#[derive(Debug, Clone)]
pub struct Submission {
    /// `--label`.
    pub label: String,
    /// `--to`.
    pub to: Vec<String>,
    /// `--precedence`.
    pub precedence: String,
    /// `--subject`.
    pub subject: String,
    /// `--not-after`, unless it is the default.
    pub not_after: Option<String>,
    /// `--act-by`, if an answer is due.
    pub act_by: Option<String>,
    /// The parts.
    pub files: Vec<PathBuf>,
}

impl Submission {
    /// A ROUTINE cable to `paris-desk`.
    pub fn new(subject: &str, files: &[PathBuf]) -> Self {
        Self {
            label: "EU-RESTRICTED LIMITE".to_owned(),
            to: vec!["paris-desk".to_owned()],
            precedence: "routine".to_owned(),
            subject: subject.to_owned(),
            not_after: None,
            act_by: None,
            files: files.to_vec(),
        }
    }

    /// The command line of `submit`.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = ["submit", "--label", &self.label, "--to"]
            .iter()
            .map(|text| (*text).to_owned())
            .collect();
        arguments.push(self.to.join(","));
        for (option, value) in [
            ("--precedence", &self.precedence),
            ("--subject", &self.subject),
        ] {
            arguments.extend([option.to_owned(), value.clone()]);
        }
        for (option, time) in [("--not-after", &self.not_after), ("--act-by", &self.act_by)] {
            if let Some(time) = time {
                arguments.extend([option.to_owned(), time.clone()]);
            }
        }
        arguments.extend(self.files.iter().map(|file| file.display().to_string()));
        arguments
    }

    /// Bytes of all parts.
    ///
    /// # Errors
    /// If a part cannot be read.
    pub fn body_bytes(&self) -> Result<u64> {
        self.files
            .iter()
            .map(|file| Ok(file.metadata().context("look at", file)?.len()))
            .sum()
    }
}

/// A cable in a mailbox of the receiver.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Released {
    /// Its serial.
    pub serial: u64,
    /// The mailbox.
    pub mailbox: String,
    /// Its message-id.
    pub message_id: String,
    /// The folder that holds it.
    pub folder: PathBuf,
}

impl Released {
    /// Every cable in every mailbox below `released/`, without the staging folder.
    ///
    /// # Errors
    /// If a folder cannot be read, or a name in it is not that of a cable.
    pub fn all(released: &Path) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        let mailboxes = match std::fs::read_dir(released) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            other => other.context("read", released)?,
        };
        for mailbox in mailboxes {
            let mailbox = mailbox.context("read", released)?;
            let name = mailbox.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let folder = mailbox.path();
            for cable in std::fs::read_dir(&folder).context("read", &folder)? {
                let cable = cable.context("read", &folder)?.path();
                found.push(Self::of(&name, cable)?);
            }
        }
        found.sort();
        Ok(found)
    }

    fn of(mailbox: &str, folder: PathBuf) -> Result<Self> {
        let name = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let parsed = name
            .split_once('-')
            .and_then(|(serial, id)| Some((serial.parse().ok()?, id.to_owned())));
        let Some((serial, message_id)) = parsed else {
            let text = format!("{} is not named as a released cable is", folder.display());
            return Err(HarnessError::Wrong(text));
        };
        Ok(Self {
            serial,
            mailbox: mailbox.to_owned(),
            message_id,
            folder,
        })
    }

    /// The files of its parts, in order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn parts(&self) -> Result<Vec<PathBuf>> {
        let mut parts = Vec::new();
        for entry in std::fs::read_dir(&self.folder).context("read", &self.folder)? {
            let path = entry.context("read", &self.folder)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("part-") {
                parts.push(path);
            }
        }
        parts.sort();
        Ok(parts)
    }

    /// Compares every byte with the submission, and checks that the other files of the folder are there.
    ///
    /// # Errors
    /// [`HarnessError::Wrong`] with the difference.
    pub fn compare(&self, submission: &Submission) -> Result<()> {
        let wrong = |text: String| {
            Err(HarnessError::Wrong(format!(
                "cable {} in {}: {text}",
                self.serial, self.mailbox
            )))
        };
        let parts = self.parts()?;
        if parts.len() != submission.files.len() {
            return wrong(format!(
                "{} parts were submitted, {} released",
                submission.files.len(),
                parts.len()
            ));
        }
        for (sent, released) in submission.files.iter().zip(&parts) {
            if let Some(offset) = compare_files(sent, released)? {
                return wrong(format!("{} differs at byte {offset}", released.display()));
            }
        }
        for beside in ["manifest.txt", "release.json"] {
            if !self.folder.join(beside).is_file() {
                return wrong(format!("{beside} is not there"));
            }
        }
        let approvals = self.folder.join("approvals");
        let count = std::fs::read_dir(&approvals)
            .context("read", &approvals)?
            .count();
        if count < 2 {
            return wrong(format!("{count} approvals lie beside it"));
        }
        Ok(())
    }
}

/// The offset of the first byte that differs between two files, or `None` if they are equal.
///
/// # Errors
/// When one of them cannot be read.
pub fn compare_files(one: &Path, other: &Path) -> Result<Option<u64>> {
    let mut files = [
        File::open(one).context("open", one)?,
        File::open(other).context("open", other)?,
    ];
    let mut buffers = [vec![0; 1 << 18], vec![0; 1 << 18]];
    let mut offset: u64 = 0;
    loop {
        let mut lengths = [0; 2];
        for ((file, buffer), length) in files.iter_mut().zip(&mut buffers).zip(&mut lengths) {
            *length = fill(file, buffer).context("read", one)?;
        }
        let common = lengths[0].min(lengths[1]);
        let pairs = buffers[0][..common].iter().zip(&buffers[1][..common]);
        let position = |count: usize| offset + u64::try_from(count).unwrap_or(u64::MAX);
        if buffers[0][..common] != buffers[1][..common] {
            let equal = pairs.take_while(|(a, b)| a == b).count();
            return Ok(Some(position(equal)));
        }
        if lengths[0] != lengths[1] {
            return Ok(Some(position(common)));
        }
        if common == 0 {
            return Ok(None);
        }
        offset = position(common);
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..])? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            path
        };
        let one = write("one", &[7; 300_000]);
        assert_eq!(
            compare_files(&one, &write("same", &[7; 300_000])).expect("read"),
            None
        );
        let shorter = write("shorter", &[7; 299_999]);
        assert_eq!(compare_files(&one, &shorter).expect("read"), Some(299_999));
        let mut bytes = vec![7; 300_000];
        bytes[270_000] = 8;
        assert_eq!(
            compare_files(&one, &write("other", &bytes)).expect("read"),
            Some(270_000)
        );
    }

    #[test]
    fn a_released_folder_is_known_by_serial_and_message_id() {
        let folder = tempfile::tempdir().expect("a folder");
        let id = "00112233445566778899aabbccddeeff";
        let cable = folder.path().join("paris-desk").join(format!("7-{id}"));
        std::fs::create_dir_all(&cable).expect("made");
        std::fs::create_dir_all(folder.path().join(".stage/8-x")).expect("made");
        let all = Released::all(folder.path()).expect("readable");
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].serial, all[0].message_id.as_str()), (7, id));
        std::fs::create_dir(folder.path().join("paris-desk/junk")).expect("made");
        assert!(Released::all(folder.path()).is_err());
    }
}
