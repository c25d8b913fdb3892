//! Gate's side of `outbox/`: containers, their geometry, and the beacon that tells transmit what gate alone knows.
//!
//! Whoever may enter the folder may read its texts; its mode says who that is.
//! The geometry stands there before its container appears, so that transmit never sees a container that it cannot cut.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use serde::Serialize;
use valise_common::host::folders::{OutboxName, Role, SenderState};
use valise_common::ids::Serial;
use valise_common::limits;
use valise_common::os::durable::{
    self, Access, FinishedFile, StagedFile, Sync, SyncBatch, add_check, read_bounded, remove_any,
    replace,
};

use super::outbox::{FecFile, SpoolBeacon, parse};
use crate::model::ledger::Cable;

/// Returns the name of a cable's files in the outbox, once it has a serial.
pub(crate) fn name_of(cable: &Cable) -> Option<OutboxName> {
    let serial = cable.serial()?;
    Some(OutboxName {
        precedence: cable.precedence,
        serial,
        not_after: cable.not_after,
    })
}

/// Returns the name under `tmp/` by which start-up finds a finished container again.
pub(crate) fn staged_name(serial: Serial) -> String {
    format!("sealed-{serial}.container")
}

fn text_of(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(value)?;
    add_check(&mut text);
    Ok(text)
}

/// The outbox, as its owner sees it.
#[derive(Debug, Clone)]
pub struct OutboxWriter {
    state: SenderState,
}

impl OutboxWriter {
    /// Creates the outbox of a host.
    pub fn new(state: &SenderState) -> Self {
        Self {
            state: state.clone(),
        }
    }

    /// Begins the file of a container under `tmp/`. What an earlier, killed process left under its name is deleted.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn stage_container(&self, serial: Serial) -> io::Result<StagedFile> {
        let tmp = self.state.tmp(Role::Gate);
        let name = staged_name(serial);
        remove_any(&tmp.join(&name))?;
        let staged = StagedFile::create_named(&tmp, name.as_ref())?;
        staged.set_access(Access::Group)?;
        Ok(staged)
    }

    /// Writes the geometry of a container under `tmp/`.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn stage_geometry(&self, fec: &FecFile, batch: &mut SyncBatch) -> io::Result<FinishedFile> {
        let mut staged = StagedFile::create(&self.state.tmp(Role::Gate))?;
        staged.set_access(Access::Group)?;
        staged.write_all(&text_of(fec)?)?;
        staged.finish_in(batch)
    }

    /// Moves geometry, then container, into the outbox. Both may stand there already.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn publish(
        &self,
        name: &OutboxName,
        geometry: FinishedFile,
        container: FinishedFile,
        batch: &mut SyncBatch,
    ) -> io::Result<()> {
        geometry.replace_in(&self.state.geometry(name), batch)?;
        container.publish_in(&self.state.container(name), batch)
    }

    /// What stands beside a container, if it can be read.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn geometry(&self, name: &OutboxName) -> io::Result<Option<FecFile>> {
        match read_bounded(&self.state.geometry(name), limits::REQUEST_TEXT_BYTES_MAX) {
            Ok(text) => Ok(parse(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Rewrites a geometry durably: a resend asks for more passes.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn rewrite_geometry(&self, name: &OutboxName, fec: &FecFile) -> io::Result<()> {
        let text = text_of(fec)?;
        let tmp = self.state.tmp(Role::Gate);
        replace(
            &tmp,
            &self.state.geometry(name),
            &text,
            Access::Everyone,
            Sync::Yes,
        )
    }

    /// Returns every container that is in the outbox, and everything else there that gate did not put there.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn scan(&self) -> io::Result<(BTreeMap<Serial, OutboxName>, Vec<OutboxName>)> {
        let mut containers = BTreeMap::new();
        let mut geometries = Vec::new();
        for entry in durable::list(&self.state.outbox())? {
            let name = entry?.file_name();
            if let Some(name) = OutboxName::of_container(&name) {
                containers.insert(name.serial, name);
            } else if let Some(name) = OutboxName::of_geometry(&name) {
                geometries.push(name);
            }
        }
        geometries.retain(|name| !containers.contains_key(&name.serial));
        Ok((containers, geometries))
    }

    /// Deletes a container, its geometry and its progress. What is gone already is no error.
    ///
    /// # Errors
    /// If something stays.
    pub fn remove(&self, name: &OutboxName) -> io::Result<()> {
        // The container first: transmit sees a whole pair or no container.
        remove_any(&self.state.container(name))?;
        remove_any(&self.state.geometry(name))?;
        remove_any(&self.state.progress_of(name.serial))
    }

    /// Tells transmit what gate knows. It is rewritten at start-up and so is not synced.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn write_beacon(&self, beacon: &SpoolBeacon) -> io::Result<()> {
        let text = text_of(beacon)?;
        let tmp = self.state.tmp(Role::Gate);
        replace(
            &tmp,
            &self.state.outbox_beacon(),
            &text,
            Access::Everyone,
            Sync::No,
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use valise_common::fec::{Codec, Geometry};
    use valise_common::ids::ContainerHash;
    use valise_common::precedence::Precedence;
    use valise_common::units::UtcTime;

    use super::*;
    use crate::spool::outbox::Outbox;

    #[test]
    fn what_gate_puts_into_the_outbox_transmit_reads() {
        let folder = tempfile::tempdir().unwrap();
        let state = SenderState::new(folder.path());
        state.create_all().unwrap();
        let writer = OutboxWriter::new(&state);
        let mut batch = SyncBatch::new(folder.path()).unwrap();
        let hash = ContainerHash::from_bytes([7; 32]);
        let geometry = Geometry::new(1_264 + 1_024 + 16, Codec::Rs8, 2, 2, 1_400).unwrap();
        let fec = FecFile {
            geometry,
            passes: 2,
            container: hash.id(),
            hash,
        };
        let name = OutboxName {
            precedence: Precedence::Flash,
            serial: Serial::new(17).unwrap(),
            not_after: UtcTime::from_s(1_800_000_000),
        };
        let mut container = writer.stage_container(name.serial).unwrap();
        container.write_all(&[0; 2_304]).unwrap();
        let container = container.finish_in(&mut batch).unwrap();
        let staged = writer.stage_geometry(&fec, &mut batch).unwrap();
        batch.commit().unwrap();
        writer
            .publish(&name, staged, container, &mut batch)
            .unwrap();
        batch.commit().unwrap();
        let outbox = Outbox::new(state.clone());
        assert_eq!(outbox.containers().unwrap().len(), 1);
        assert_eq!(writer.scan().unwrap().0[&name.serial], name);
        writer
            .rewrite_geometry(&name, &FecFile { passes: 4, ..fec })
            .unwrap();
        let theirs = outbox.containers().unwrap()[&name.serial];
        assert_eq!(outbox.fec(&theirs).unwrap().unwrap().passes, 4);
        let beacon = SpoolBeacon {
            issued: 17,
            ..SpoolBeacon::default()
        };
        writer.write_beacon(&beacon).unwrap();
        assert_eq!(outbox.beacon().unwrap(), beacon);
        writer.remove(&name).unwrap();
        writer.remove(&name).unwrap();
        assert!(outbox.containers().unwrap().is_empty());
    }

    #[test]
    fn a_container_that_a_killed_process_left_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let state = SenderState::new(folder.path());
        state.create_all().unwrap();
        let writer = OutboxWriter::new(&state);
        let serial = Serial::FIRST;
        std::fs::write(state.tmp(Role::Gate).join(staged_name(serial)), "old").unwrap();
        let staged = writer.stage_container(serial).unwrap();
        assert_eq!(staged.file().metadata().unwrap().len(), 0);
    }
}
