//! A disk in memory that loses its power.
//!
//! The kernel mounts the disk through FUSE, so unchanged code runs on it. The disk knows what is durable: the content of a
//! synced file, the names in a synced directory. A power cut leaves one of the states that a disk may then be in:
//!
//! | changed, not synced | after the cut |
//! |---|---|
//! | bytes | each write kept, lost, or torn between two sectors; zeros where a length was kept without its bytes |
//! | length, room, mode, owner, attributes | the first so many changes of the inode |
//! | names | those that were drawn, each with the earlier changes of the same names; a rename as a whole |
//!
//! A synced file may lose its name until its directory is synced. An inode that no name reaches is gone.
//!
//! The kernel does not pass `syncfs` on: [`SYNC_ALL`] stands for it. It handles SQLite's shared memory, the files `*-shm`, by
//! itself: what they hold is in no image. Nothing else on the disk may be mapped for writing by the process that has it.

mod body;
mod content;
mod cut;
mod faults;
mod image;
mod inode;
mod names;
mod reply;
mod serve;
mod state;
mod store;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use fuser::{BackgroundSession, Config, Session, SessionACL};
use nix::mount::{MntFlags, MsFlags, mount, umount, umount2};

pub use self::cut::Cut;
pub use self::faults::{Failing, Failure, Operation};
pub use self::image::Image;
use self::serve::Server;
use self::state::Shared;
use self::store::Store;
use crate::wire::Prng;

/// The extended attribute that syncs everything when it is set on anything. It is never stored.
pub const SYNC_ALL: &str = "user.valise.syncfs";

/// A mounted disk. Dropped, it is unmounted; files that are still open keep its content in memory.
///
/// A process that is killed while one of its threads waits for the disk may never end: `umount -f` on the folder frees it.
#[derive(Debug)]
pub struct Disk {
    shared: Shared,
    folder: PathBuf,
    session: Option<BackgroundSession>,
    is_mounted: bool,
}

impl Disk {
    /// Mounts a disk on a folder.
    ///
    /// # Errors
    /// If this process may not mount, or the system has no FUSE.
    pub fn mount(image: &Image, folder: &Path) -> io::Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let device = device.map_err(|error| {
            let text = format!("the simulation needs /dev/fuse (modprobe fuse) and root: {error}");
            io::Error::new(error.kind(), text)
        })?;
        let folder = folder.canonicalize()?;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
            device.as_raw_fd()
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
        mount(
            Some("valise"),
            &folder,
            Some("fuse"),
            flags,
            Some(options.as_str()),
        )?;
        let shared = Shared::new(Store::new(image));
        let mut disk = Self {
            shared: shared.clone(),
            folder,
            session: None,
            is_mounted: true,
        };
        let device = OwnedFd::from(device);
        let session = Session::from_fd(Server(shared), device, SessionACL::All, Config::default())?;
        disk.session = Some(session.spawn()?);
        Ok(disk)
    }

    /// Returns the folder that the disk is mounted on.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Unmounts the disk.
    ///
    /// # Errors
    /// If a file on it is open.
    pub fn unmount(mut self) -> io::Result<Image> {
        umount(&self.folder)?;
        self.is_mounted = false;
        if let Some(session) = self.session.take() {
            session.join()?;
        }
        Ok(self.image())
    }

    /// Returns the disk as if everything were synced.
    pub fn image(&self) -> Image {
        self.shared.lock().store.image()
    }

    /// Draws a state that the disk may be in when its power goes now. The disk itself goes on.
    pub fn power_cut(&self, prng: &mut Prng) -> Image {
        let kind = Cut::draw(prng);
        self.power_cut_of(kind, prng)
    }

    /// Like [`Disk::power_cut`], with a kind that is given.
    pub fn power_cut_of(&self, kind: Cut, prng: &mut Prng) -> Image {
        cut::cut(&self.shared.lock().store, kind, prng)
    }

    /// Makes whatever is created from now on this user's and this group's.
    pub fn set_actor(&self, uid: u32, gid: u32) {
        self.shared.lock().store.actor = (uid, gid);
    }

    /// Leaves so much room from now on; none restores what an unfilled disk has.
    pub fn set_free(&self, free_bytes: Option<u64>) {
        self.shared.lock().store.set_free(free_bytes);
    }

    /// Forgets what was counted, and every fault.
    pub fn reset(&self) {
        self.shared.lock().faults.reset();
    }

    /// Returns the counted operations since the last reset, in order.
    pub fn operations(&self) -> Vec<Operation> {
        self.shared.lock().faults.done().to_vec()
    }

    /// Lets the process die at a counted operation since the last reset, the first being 1: that one and everything after it
    /// fails with `EIO` and changes nothing, until [`Disk::thaw`].
    pub fn kill_at(&self, number: usize) {
        self.shared.lock().faults.kill_at(number);
    }

    /// Returns whether the process has died.
    pub fn is_killed(&self) -> bool {
        self.shared.lock().faults.is_killed()
    }

    /// Lets another process begin.
    pub fn thaw(&self) {
        self.shared.lock().faults.thaw();
    }

    /// Lets one operation fail: that with this number among those to come, the first being 1. Reads go
    /// on failing until [`Disk::reset`].
    ///
    /// A failed sync of a file loses what it was to write: later syncs succeed, and the bytes may or may not be on the disk.
    pub fn fail_at(&self, failing: Failing, number: u64, failure: Failure) {
        self.shared.lock().faults.fail_at(failing, number, failure);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted && umount2(&self.folder, MntFlags::MNT_DETACH).is_err() {
            eprintln!("cannot unmount {}", self.folder.display());
        }
    }
}
