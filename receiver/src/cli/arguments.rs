//! The words of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use valise_common::host::alarms::command as alarm_command;
use valise_common::host::cli::Shown;
use valise_common::host::cli::init::Init;
use valise_common::host::cli::run::{AlarmRunner, NoteEnd, SystemdGenerator};
use valise_common::host::cli::trust::TrustFile;
use valise_common::host::status::Status;
use valise_common::ids::{BundleId, LinkKeyId, Serial};
use valise_common::limits;
use valise_common::os::{sandbox, service};

use super::audit::AuditCommand;
use crate::model::states::State;

/// Receives, verifies and releases cables from a one-way link.
#[derive(Debug, Parser)]
#[command(
    name = "valise-receiver",
    version,
    arg_required_else_help = true,
    after_help = "Example:\n  valise-receiver --config receiver.toml status"
)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/valise/receiver.toml"
    )]
    pub config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Everything that the program does.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Runs receive and release as one user, until one of them ends.
    #[command(after_help = "Example:\n  valise-receiver --config receiver.toml run")]
    Run,
    /// Runs the process that rebuilds containers from the link.
    #[command(after_help = "Example:\n  valise-receiver receive")]
    Receive,
    /// Runs the process that opens, verifies and publishes cables.
    #[command(after_help = "Example:\n  valise-receiver release")]
    Release,
    /// Makes the state of a new receiver: channel, folders, administrators, audit logs.
    #[command(
        after_help = "Example:\n  valise-receiver init --administrator admin1.pub --administrator admin2.pub"
    )]
    Init(Init),
    /// The slots and link key that the courier carries to the sender.
    #[command(
        after_help = "Example:\n  valise-receiver bundle create --slots 10000 --out courier/"
    )]
    Bundle {
        /// What to do with them.
        #[command(subcommand)]
        command: BundleCommand,
    },
    /// The keys of the link.
    #[command(after_help = "Example:\n  valise-receiver link-key retire 1")]
    LinkKey {
        /// What to do with them.
        #[command(subcommand)]
        command: LinkKeyCommand,
    },
    /// Who may draft and approve what, and for whom.
    #[command(after_help = "Example:\n  valise-receiver trust check trust.toml")]
    Trust {
        /// What to do with the list.
        #[command(subcommand)]
        command: TrustCommand,
    },
    /// Lists every serial, from the channel's first to the highest announced, with its state.
    #[command(
        after_help = "Example:\n  valise-receiver list --state missing\n  valise-receiver list --json"
    )]
    List(List),
    /// Shows one serial: its state, its reason, its container, who got it.
    #[command(after_help = "Example:\n  valise-receiver show 41")]
    Show(OneSerial),
    /// Lists the missing serials, for the sender's resend.
    #[command(after_help = "Example:\n  valise-receiver gaps")]
    Gaps(Shown),
    /// Cables that opened and may not be released.
    #[command(after_help = "Example:\n  valise-receiver quarantine list")]
    Quarantine {
        /// What to do with them.
        #[command(subcommand)]
        command: QuarantineCommand,
    },
    /// The time by which cables are judged.
    #[command(after_help = "Example:\n  valise-receiver clock accept")]
    Clock {
        /// What to do with it.
        #[command(subcommand)]
        command: ClockCommand,
    },
    /// Health at a glance.
    #[command(
        after_help = "Example:\n  valise-receiver status --follow\n  valise-receiver status --check || mail -s valise root"
    )]
    Status(Status),
    /// The audit logs: what they prove.
    #[command(after_help = "Example:\n  valise-receiver audit verify")]
    Audit {
        /// What to do with them.
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Lists the serial ports of this machine, and which one the configuration names.
    #[command(
        after_help = "Example:\n  sudo valise-receiver ports     # root also sees which program has a port open"
    )]
    Ports(Shown),
    /// Explains the configuration, or reports what is wrong in it.
    #[command(after_help = "Example:\n  valise-receiver --config receiver.toml check-config")]
    CheckConfig(Shown),
    /// Runs the alarm command for each line of standard input; release starts it by itself.
    #[command(name = alarm_command::RUNNER, hide = true, after_help = "Example:\n  valise-receiver alarm-runner -- COMMAND")]
    AlarmRunner(AlarmRunner),
    /// Notes the end of a role by a forbidden system call, for its next start; ExecStopPost= of its unit runs it.
    #[command(name = sandbox::NOTE_END, hide = true, after_help = "Example:\n  valise-receiver note-end receive")]
    NoteEnd(NoteEnd),
    /// Writes what the units take from the configuration; systemd runs it (systemd.generator(7)).
    #[command(name = service::GENERATOR, hide = true, after_help = "Example:\n  valise-receiver systemd-generator FOLDER")]
    SystemdGenerator(SystemdGenerator),
}

/// `bundle …`.
#[derive(Debug, Subcommand)]
pub(super) enum BundleCommand {
    /// Makes a bundle for the courier: new slots, and a new link key.
    #[command(
        after_help = "Example:\n  valise-receiver bundle create --slots 10000 --out courier/\n  ssh-keygen -Y sign -n bundle@valise -f admin1_sk courier/channel.bundle.statement"
    )]
    Create(BundleCreate),
    /// Destroys the unused slots of a bundle that was lost on its way.
    #[command(
        after_help = "Example:\n  valise-receiver bundle void 2 --reason \"courier's bag was lost\""
    )]
    Void(BundleVoid),
    /// Shows how many slots are left.
    #[command(after_help = "Example:\n  valise-receiver bundle status")]
    Status(Shown),
}

/// `link-key …`.
#[derive(Debug, Subcommand)]
pub(super) enum LinkKeyCommand {
    /// Ends an old link key early.
    #[command(after_help = "Example:\n  valise-receiver link-key retire 1")]
    Retire(LinkKeyRetire),
}

/// `trust …`.
#[derive(Debug, Subcommand)]
pub(super) enum TrustCommand {
    /// Explains a trust list and how it differs from the one in force, before or after it is signed.
    #[command(after_help = "Example:\n  valise-receiver trust check trust.toml")]
    Check(TrustFile),
    /// Puts a signed trust list into force.
    #[command(
        after_help = "Example:\n  valise-receiver trust import trust.toml      # with trust.toml.1.sig, trust.toml.2.sig beside it"
    )]
    Import(TrustFile),
    /// Explains the list in force.
    #[command(after_help = "Example:\n  valise-receiver trust show")]
    Show(Shown),
}

/// `quarantine …`.
#[derive(Debug, Subcommand)]
pub(super) enum QuarantineCommand {
    /// Lists what is held.
    #[command(after_help = "Example:\n  valise-receiver quarantine list --json")]
    List(Shown),
    /// Shows why a cable is held.
    #[command(after_help = "Example:\n  valise-receiver quarantine show 41")]
    Show(OneSerial),
    /// Verifies a cable again, in full, by today's trust list, and releases it if no check refuses it.
    #[command(after_help = "Example:\n  valise-receiver quarantine recheck 41")]
    Recheck(OneSerial),
    /// Destroys a cable and the slot that opens it.
    #[command(
        after_help = "Example:\n  valise-receiver quarantine discard 41 --reason \"withdrawn by its drafter\""
    )]
    Discard(Discard),
}

/// `clock …`.
#[derive(Debug, Subcommand)]
pub(super) enum ClockCommand {
    /// After a clock that ran ahead: sets "now" back to the clock.
    #[command(after_help = "Example:\n  valise-receiver clock accept")]
    Accept(Shown),
}

/// Options of `bundle create`.
#[derive(Debug, Args)]
pub(super) struct BundleCreate {
    /// How many cables the bundle is for.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::SLOTS_MAX)))]
    pub slots: u32,
    /// The folder for the courier's files; it is made if it is absent.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Makes the unused slots of this bundle void on both hosts: for a sender that was stolen or restored.
    #[arg(long, value_name = "BUNDLE")]
    pub replaces: Option<BundleId>,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Options of `bundle void`.
#[derive(Debug, Args)]
pub(super) struct BundleVoid {
    /// The bundle.
    #[arg(value_name = "ID")]
    pub bundle: BundleId,
    /// Why, for the audit log.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Options of `link-key retire`.
#[derive(Debug, Args)]
pub(super) struct LinkKeyRetire {
    /// The link key's id.
    #[arg(value_name = "ID")]
    pub link_key: LinkKeyId,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Options of `list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only serials in this state, such as missing, released, quarantined or not-sent.
    #[arg(long)]
    pub state: Option<State>,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// A command on one serial.
#[derive(Debug, Args)]
pub(super) struct OneSerial {
    /// The serial.
    pub serial: Serial,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Options of `quarantine discard`.
#[derive(Debug, Args)]
pub(super) struct Discard {
    /// The serial.
    pub serial: Serial,
    /// Why, for the audit log; without content of the cable.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_with_an_example() {
        fn visit(command: &clap::Command) {
            let example = command.get_after_help().map(ToString::to_string);
            assert!(
                example.is_some_and(|text| text.contains("valise-receiver ")),
                "{} has no example",
                command.get_name()
            );
            command
                .get_subcommands()
                .filter(|one| one.get_name() != "help")
                .for_each(visit);
        }
        visit(&Arguments::command());
    }

    #[test]
    fn what_a_person_types_is_understood() {
        let understood = |typed: &str| {
            Arguments::try_parse_from(format!("valise-receiver {typed}").split_whitespace())
        };
        for typed in [
            "bundle create --slots 10 --out courier/ --replaces 2 --config x.toml",
            "bundle void 2 --reason lost",
            "link-key retire 1",
            "list --state not-sent --json",
            "quarantine discard 4 --reason gone",
            "clock accept",
            "status --check --json",
        ] {
            assert!(understood(typed).is_ok(), "{typed}");
        }
        for typed in [
            "",
            "init",
            "bundle create --out x",
            "bundle create --slots -1 --out x",
            "bundle create --slots 0 --out x",
            "bundle create --slots 1000001 --out x",
            "list --state lost",
            "show 0",
            "quarantine discard 4",
            "status --check --follow",
        ] {
            assert!(understood(typed).is_err(), "{typed}");
        }
    }
}
