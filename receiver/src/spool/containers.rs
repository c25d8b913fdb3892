//! Containers as files: read from the inbox or from quarantine, opened, and never kept in memory as a whole.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use valise_common::limits;

use nix::errno::Errno;
use valise_common::host::folders::InboxName;
use valise_common::ids::{BundleId, ChannelId, ContainerHash, MessageId};
use valise_common::seal::SlotSecret;
use valise_common::trust::TrustList;
use valise_common::units::UtcTime;

use crate::spool::publish::BodyFolder;
use crate::spool::regular::{is_in_the_way, open_regular};
use crate::steps::open::{Expected, Fault, NotOpened, Opened, Opening, Outcome};
use crate::steps::publish::part_files;
use crate::steps::verify::{Judged, Policy, Refused, judge};

/// A container to open, with all that this takes.
pub(crate) struct OpenTask {
    /// Its place.
    pub path: PathBuf,
    /// What its name says.
    pub name: InboxName,
    /// The channel of this host.
    pub channel: ChannelId,
    /// The bundle that holds the slot.
    pub bundle: BundleId,
    /// The slot of its serial.
    pub slot: SlotSecret,
    /// The trust list in force.
    pub list: Arc<TrustList>,
    /// The time to judge by.
    pub now: UtcTime,
    /// Where its parts go while they are out of sight.
    pub tmp: PathBuf,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum OpenedFile {
    /// Something stands in its place, or its rights are wrong: it may be read another time.
    Unreadable(io::Error),
    /// It did not open and claims nothing.
    NotOpened(NotOpened),
    /// It opened, and its package is faulty.
    Faulty {
        /// Its whole hash.
        container: ContainerHash,
        /// The cable, when its manifest could be read.
        message_id: Option<MessageId>,
        /// What is wrong with it.
        fault: Fault,
    },
    /// It opened, and its manifest was refused; no byte of its body was written.
    Refused(Opened, Refused),
    /// It opened, and nothing speaks against it so far.
    Opened(Opened, Judged, BodyFolder),
}

/// Opens a container from end to end. One that does not open is compared with its name, so that a damaged file is told
/// from a forged container.
///
/// # Errors
/// The system's; a full disk among them. What the container holds is never an error.
pub(crate) fn open_container(task: &OpenTask) -> io::Result<OpenedFile> {
    let (file, container_bytes) = match open_regular(&task.path) {
        Err(error) if is_in_the_way(&error) => return Ok(OpenedFile::Unreadable(error)),
        other => other?,
    };
    let mut file = DamagedDisk {
        file,
        failed: false,
    };
    match open_file(task, &mut file, container_bytes) {
        Err(_) if file.failed => Ok(OpenedFile::NotOpened(NotOpened::Disk)),
        Ok(OpenedFile::NotOpened(reason)) if !reason.is_damage() => {
            file.file.rewind()?;
            let reason = match hash_file(&mut file) {
                Err(_) if file.failed => NotOpened::Disk,
                Err(error) => return Err(error),
                Ok(hash) if hash.id() != task.name.container => NotOpened::Hash,
                Ok(_) => reason,
            };
            Ok(OpenedFile::NotOpened(reason))
        }
        other => other,
    }
}

/// A file that notes when the disk could not read it: a bad sector, or a checksum of the file system that does not fit.
struct DamagedDisk {
    file: File,
    failed: bool,
}

impl Read for DamagedDisk {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).inspect_err(|error| {
            let errno = error.raw_os_error().map(Errno::from_raw);
            self.failed |= matches!(errno, Some(Errno::EIO | Errno::EBADMSG | Errno::EUCLEAN));
        })
    }
}

fn open_file(
    task: &OpenTask,
    file: &mut DamagedDisk,
    container_bytes: u64,
) -> io::Result<OpenedFile> {
    let expected = Expected {
        channel: task.channel,
        serial: task.name.serial,
        bundle: task.bundle,
        container: task.name.container,
        container_bytes,
    };
    let mut prefix = [0; limits::CONTAINER_PREFIX_BYTES];
    if read_full(file, &mut prefix)? < limits::CONTAINER_PREFIX_BYTES {
        return Ok(OpenedFile::NotOpened(NotOpened::Length));
    }
    let mut opening = match Opening::start(expected, &prefix, &task.slot) {
        Ok(opening) => opening,
        Err(not_opened) => return Ok(OpenedFile::NotOpened(not_opened)),
    };
    let policy = Policy {
        channel: task.channel,
        list: &task.list,
        now: task.now,
    };
    let mut judgement: Option<Result<(Judged, BodyFolder), Refused>> = None;
    let mut segment = Vec::new();
    loop {
        let bytes = opening.next_bytes();
        if bytes == 0 {
            break;
        }
        segment.resize(bytes, 0);
        if read_full(file, &mut segment)? < bytes {
            return Ok(OpenedFile::NotOpened(NotOpened::Length));
        }
        let pieces = match opening.handle_segment(&mut segment) {
            Ok(pieces) => pieces,
            Err(not_opened) => return Ok(OpenedFile::NotOpened(not_opened)),
        };
        if let (None, Some(preamble)) = (&judgement, opening.preamble()) {
            judgement = Some(match judge(preamble, &policy) {
                Ok(judged) => {
                    let manifest = preamble.manifest();
                    let lengths = manifest.parts.iter().map(|part| part.length).collect();
                    let folder = BodyFolder::create(&task.tmp, part_files(manifest), lengths)?;
                    Ok((judged, folder))
                }
                Err(refused) => Err(refused),
            });
        }
        if let Some(Ok((_, folder))) = &mut judgement {
            for piece in pieces {
                folder.write(piece)?;
            }
        }
    }
    if let Some(Ok((_, folder))) = &mut judgement {
        folder.finish()?;
    }
    Ok(match (opening.finish(), judgement) {
        (Err(not_opened), _) => OpenedFile::NotOpened(not_opened),
        (
            Ok(Outcome::Faulty {
                container,
                message_id,
                fault,
            }),
            _,
        ) => OpenedFile::Faulty {
            container,
            message_id,
            fault,
        },
        (Ok(Outcome::Opened(opened)), Some(Ok((judged, folder)))) => {
            OpenedFile::Opened(opened, judged, folder)
        }
        (Ok(Outcome::Opened(opened)), Some(Err(refused))) => OpenedFile::Refused(opened, refused),
        // An opened package had a preamble, and a preamble was judged.
        (Ok(Outcome::Opened(_)), None) => return Err(io::Error::other("a cable was not judged")),
    })
}

/// Returns the whole hash of a container that is not opened again.
///
/// # Errors
/// The system's.
pub(crate) fn hash_container(path: &Path) -> io::Result<ContainerHash> {
    hash_file(&mut open_regular(path)?.0)
}

fn hash_file(file: &mut impl Read) -> io::Result<ContainerHash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(ContainerHash::from_bytes(*hasher.finalize().as_bytes()));
        }
        hasher.update(&buffer[..count]);
    }
}

/// Reads until the buffer is full or the file ends; returns how many bytes it got.
fn read_full(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
