//! What a role writes for a monitor: a file in Prometheus's text format, as node_exporter's textfile collector reads it.
//!
//! Numbers and fixed words alone: no content, subject, file name, key, person or mailbox.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::alarm::AlarmView;
use crate::os::clock::{mono_now, utc_now};
use crate::os::durable::{free_bytes, replace_beside};
use crate::role::Role;
use crate::units::{Mono, UtcTime};

/// A file is written no more often than this; Prometheus asks every 15 seconds and more.
const WRITE_US: u64 = 5_000_000;

/// The labels of one figure.
type Labels = Vec<(&'static str, String)>;

/// The file of a role.
#[derive(Debug)]
pub struct Metrics {
    role: Role,
    /// The folder, if there is one.
    folder: Option<PathBuf>,
    state: PathBuf,
    started: UtcTime,
    written: Option<Mono>,
    is_failing: bool,
}

impl Metrics {
    /// Writes into the folder that the configuration names. Without a name it writes nothing.
    pub fn new(role: Role, folder: &Path, state: &Path) -> Self {
        let folder = Some(folder).filter(|folder| !folder.as_os_str().is_empty());
        Self {
            role,
            folder: folder.map(Path::to_path_buf),
            state: state.to_path_buf(),
            started: utc_now(),
            written: None,
            is_failing: false,
        }
    }

    /// Writes the file, if one is wanted and it is time; `fill` adds the figures of the role. Nothing depends on it: a
    /// failure is logged once.
    pub fn write(&mut self, alarms: &[AlarmView], fill: impl FnOnce(&mut Sheet)) {
        let now = mono_now();
        let is_due = |written: Mono| now.since_us(written) >= WRITE_US;
        let Some(folder) = self
            .folder
            .as_ref()
            .filter(|_| self.written.is_none_or(is_due))
        else {
            return;
        };
        self.written = Some(now);
        let mut sheet = Sheet::new(self.role);
        sheet.own(self.started, free_bytes(&self.state).ok());
        sheet.alarms(alarms);
        fill(&mut sheet);
        let result = sheet.text().and_then(|text| put(folder, self.role, &text));
        if let Err(error) = &result
            && !self.is_failing
        {
            tracing::warn!(
                "the metrics cannot be written to {}: {error}",
                folder.display()
            );
        }
        self.is_failing = result.is_err();
    }
}

/// Makes the folder of the configuration where it is missing. To be called before the fences, which let a role write only to
/// what is there.
///
/// # Errors
/// If the folder is missing and cannot be made.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o755).create(folder);
    made.map_err(|error| {
        let text = format!("metrics.folder {}: {error}", folder.display());
        io::Error::new(error.kind(), text)
    })
}

/// Replaces the file. The collector reads only names that end in `.prom`, so never half a file.
fn put(folder: &Path, role: Role, text: &str) -> io::Result<()> {
    let dest = folder.join(format!("valise-{role}.prom"));
    let staged = folder.join(format!("valise-{role}.prom.new"));
    replace_beside(&staged, &dest, text.as_bytes())
}

/// The figures of one file.
#[derive(Debug)]
pub struct Sheet {
    registry: Registry,
}

impl Sheet {
    fn new(role: Role) -> Self {
        let label = ("role".into(), role.as_str().into());
        let registry = Registry::with_prefix_and_labels("valise", [label].into_iter());
        Self { registry }
    }

    /// Adds a figure that rises and falls.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.gauges(name, help, [(vec![], value)]);
    }

    /// Adds a figure for each of several labels.
    pub fn gauges(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        let family = Family::<Labels, Gauge<u64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.registry.register(name, help, family);
    }

    /// Adds a figure that only rises, while the process lives. Its name gets `_total`.
    pub fn counters(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.registry.register(name, help, family);
    }

    fn own(&mut self, started: UtcTime, disk_free_bytes: Option<u64>) {
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        self.gauges("build_info", "Version of the program", [(version, 1)]);
        self.gauge(
            "process_start_time_seconds",
            "Start of the process",
            started.as_s(),
        );
        self.gauge(
            "view_timestamp_seconds",
            "Time at which these figures were written",
            utc_now().as_s(),
        );
        if let Some(bytes) = disk_free_bytes {
            self.gauge("disk_free_bytes", "Free on the disk of the state", bytes);
        }
    }

    fn alarms(&mut self, alarms: &[AlarmView]) {
        let labels = |view: &AlarmView| {
            let about = view.role.to_string();
            vec![("alarm", view.alarm.clone()), ("about", about)]
        };
        self.gauges(
            "alarm",
            "1 for each alarm that stands",
            alarms.iter().map(|view| (labels(view), 1)),
        );
        self.gauges(
            "alarm_since_timestamp_seconds",
            "Beginning of the alarm",
            alarms
                .iter()
                .filter_map(|view| Some((labels(view), view.since?.as_s()))),
        );
    }

    fn text(&self) -> io::Result<String> {
        let mut text = String::new();
        encode(&mut text, &self.registry).map_err(io::Error::other)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_sheet_is_text_that_prometheus_reads() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = folder.path().join("metrics");
        make_folder(&wanted).unwrap();
        let mut metrics = Metrics::new(Role::Transmit, &wanted, folder.path());
        metrics.write(&[], |sheet| {
            let kind = |kind: &str| vec![("kind", kind.to_owned())];
            let sent = [(kind("symbol"), 3), (kind("beacon"), 1)];
            sheet.counters("datagrams_sent", "Datagrams that left", sent);
        });
        let path = wanted.join("valise-transmit.prom");
        let text = std::fs::read_to_string(&path).unwrap();
        for line in [
            "# TYPE valise_datagrams_sent_total counter",
            "valise_datagrams_sent_total{role=\"transmit\",kind=\"symbol\"} 3",
            "# TYPE valise_disk_free_bytes gauge",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
        assert_eq!(
            std::fs::read_dir(&wanted).unwrap().count(),
            1,
            "nothing is left beside it"
        );
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
    }

    #[test]
    fn without_a_folder_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::new(Role::Gate, Path::new(""), folder.path());
        metrics.write(&[], |_| panic!("nobody asked"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
