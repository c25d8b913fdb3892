//! The words of the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use valise_common::host::alarms::command as alarm_command;
use valise_common::host::cli::Shown;
use valise_common::host::cli::init::Init;
use valise_common::host::cli::run::{AlarmRunner, NoteEnd, SystemdGenerator};
use valise_common::host::cli::trust::TrustFile;
use valise_common::host::status::Status;
use valise_common::ids::{MailboxId, MessageId};
use valise_common::label::{Label, LabelError};
use valise_common::os::{sandbox, service};
use valise_common::precedence::{Precedence, PrecedenceError};
use valise_common::units::UtcTime;

use super::audit::AuditCommand;

/// Takes, seals and transmits approved cables over a one-way link.
#[derive(Debug, Parser)]
#[command(
    name = "valise-sender",
    version,
    arg_required_else_help = true,
    after_help = "Example:\n  valise-sender --config sender.toml status"
)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/valise/sender.toml"
    )]
    pub config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Everything that the program does.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Runs gate and transmit as one user, until one of them ends.
    #[command(after_help = "Example:\n  valise-sender --config sender.toml run")]
    Run,
    /// Runs the process that takes submissions, collects approvals and seals.
    #[command(after_help = "Example:\n  valise-sender gate")]
    Gate,
    /// Runs the process that sends sealed containers.
    #[command(after_help = "Example:\n  valise-sender transmit")]
    Transmit,
    /// Makes the state of a new sender: folders, administrators, audit logs.
    #[command(
        after_help = "Example:\n  valise-sender init --administrator admin1.pub --administrator admin2.pub"
    )]
    Init(Init),
    /// Submits a cable and prints its id when it is durable.
    #[command(
        after_help = "Example:\n  valise-sender submit --label \"EU-RESTRICTED LIMITE\" --to paris-desk \\\n    --precedence routine --subject \"Draft conclusions\" cable.txt annex.pdf:application/pdf\n  valise-sender submit --label EU-RESTRICTED --to paris-desk --precedence routine --subject-file subject.txt cable.txt"
    )]
    Submit(Submit),
    /// Lists what waits and what was sent.
    #[command(
        after_help = "Example:\n  valise-sender list --mine\n  valise-sender list --state queued --json"
    )]
    List(List),
    /// Shows one cable: its manifest, its approvals, what it still needs, why it ended.
    #[command(after_help = "Example:\n  valise-sender show 0123456789abcdef0123456789abcdef")]
    Show(Show),
    /// Shows the text of a waiting cable, escaped, between its markings.
    #[command(
        after_help = "Example:\n  valise-sender read 0123456789abcdef0123456789abcdef\n  valise-sender read 0123456789abcdef0123456789abcdef 2 annex.pdf     # copies part 2 into a new file"
    )]
    Read(Read),
    /// Copies manifest and parts of a waiting cable, for reading and signing elsewhere.
    #[command(
        after_help = "Example:\n  valise-sender export 0123456789abcdef0123456789abcdef reading/\n  ssh-keygen -Y sign -n cable-approval@valise -f ~/.ssh/id_ed25519_sk reading/manifest.txt"
    )]
    Export(Export),
    /// Approves a cable as an officer.
    #[command(
        after_help = "Example:\n  valise-sender approve 0123456789abcdef0123456789abcdef --key ~/.ssh/id_ed25519_sk\n  valise-sender approve 0123456789abcdef0123456789abcdef --key ~/.ssh/id_ed25519_sk --yes </dev/null\n  valise-sender approve 0123456789abcdef0123456789abcdef --signature manifest.txt.sig"
    )]
    Approve(Approve),
    /// Ends a submission as an officer.
    #[command(
        after_help = "Example:\n  valise-sender reject 0123456789abcdef0123456789abcdef --reason \"wrong label\""
    )]
    Reject(Reject),
    /// Ends a submission as its drafter.
    #[command(after_help = "Example:\n  valise-sender withdraw 0123456789abcdef0123456789abcdef")]
    Withdraw(OneCable),
    /// Queues retained containers again.
    #[command(after_help = "Example:\n  valise-sender resend 41-43,50")]
    Resend(Resend),
    /// The slots and link key that the courier brings.
    #[command(after_help = "Example:\n  valise-sender bundle import courier/")]
    Bundle {
        /// What to do with them.
        #[command(subcommand)]
        command: BundleCommand,
    },
    /// Who may draft and approve what, and for whom.
    #[command(after_help = "Example:\n  valise-sender trust check trust.toml")]
    Trust {
        /// What to do with the list.
        #[command(subcommand)]
        command: TrustCommand,
    },
    /// The time by which cables are judged.
    #[command(after_help = "Example:\n  valise-sender clock accept")]
    Clock {
        /// What to do with it.
        #[command(subcommand)]
        command: ClockCommand,
    },
    /// Health at a glance.
    #[command(
        after_help = "Example:\n  valise-sender status --follow\n  valise-sender status --check || mail -s valise root"
    )]
    Status(Status),
    /// The audit logs: what they prove.
    #[command(after_help = "Example:\n  valise-sender audit verify")]
    Audit {
        /// What to do with them.
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Lists the serial ports of this machine, and which one the configuration names.
    #[command(
        after_help = "Example:\n  sudo valise-sender ports     # root also sees which program has a port open"
    )]
    Ports(Shown),
    /// Explains the configuration, or reports what is wrong in it.
    #[command(after_help = "Example:\n  valise-sender --config sender.toml check-config")]
    CheckConfig(Shown),
    /// Runs the alarm command for each line of standard input; gate starts it by itself.
    #[command(name = alarm_command::RUNNER, hide = true, after_help = "Example:\n  valise-sender alarm-runner -- COMMAND")]
    AlarmRunner(AlarmRunner),
    /// Notes the end of a role by a forbidden system call, for its next start; ExecStopPost= of its unit runs it.
    #[command(name = sandbox::NOTE_END, hide = true, after_help = "Example:\n  valise-sender note-end gate")]
    NoteEnd(NoteEnd),
    /// Writes what the units take from the configuration; systemd runs it (systemd.generator(7)).
    #[command(name = service::GENERATOR, hide = true, after_help = "Example:\n  valise-sender systemd-generator FOLDER")]
    SystemdGenerator(SystemdGenerator),
}

/// `bundle …`.
#[derive(Debug, Subcommand)]
pub(super) enum BundleCommand {
    /// Takes a bundle from the courier's folder.
    #[command(after_help = "Example:\n  valise-sender bundle import courier/")]
    Import(BundleImport),
    /// Shows how many slots are left.
    #[command(after_help = "Example:\n  valise-sender bundle status")]
    Status(Shown),
}

/// `trust …`.
#[derive(Debug, Subcommand)]
pub(super) enum TrustCommand {
    /// Explains a trust list and how it differs from the one in force, before or after it is signed.
    #[command(after_help = "Example:\n  valise-sender trust check trust.toml")]
    Check(TrustFile),
    /// Puts a signed trust list into force.
    #[command(
        after_help = "Example:\n  valise-sender trust import trust.toml      # with trust.toml.1.sig, trust.toml.2.sig beside it"
    )]
    Import(TrustFile),
    /// Explains the list in force.
    #[command(after_help = "Example:\n  valise-sender trust show")]
    Show(Shown),
}

/// `clock …`.
#[derive(Debug, Subcommand)]
pub(super) enum ClockCommand {
    /// After a clock that ran ahead: sets "now" back to the clock.
    #[command(after_help = "Example:\n  valise-sender clock accept")]
    Accept(Shown),
}

/// Options of `submit`.
#[derive(Debug, Args)]
pub(super) struct Submit {
    /// Classification and categories.
    #[arg(long, value_parser = parse_label)]
    pub label: Label,
    /// The mailboxes, with commas between them.
    #[arg(long, value_delimiter = ',', required = true, value_name = "MAILBOX")]
    pub to: Vec<MailboxId>,
    /// flash, immediate, priority or routine.
    #[arg(long, value_parser = parse_precedence)]
    pub precedence: Precedence,
    /// What the cable is about, at most 120 characters. Every user of this host can read it in the list of processes.
    #[arg(long, value_name = "TEXT", required_unless_present = "subject_file")]
    pub subject: Option<String>,
    /// A file whose one line is the subject, - for standard input; nobody else sees it.
    #[arg(long, value_name = "FILE", conflicts_with = "subject")]
    pub subject_file: Option<PathBuf>,
    /// The reference, at most 64 characters.
    #[arg(long, value_name = "TEXT")]
    pub reference: Option<String>,
    /// The last moment at which it may be released, as 2026-11-28T12:00:00Z; by default the longest validity of its label.
    #[arg(long, value_name = "TIME")]
    pub not_after: Option<UtcTime>,
    /// When an answer is due, or silence means consent; it hinders neither approval nor release.
    #[arg(long, value_name = "TIME")]
    pub act_by: Option<UtcTime>,
    /// The parts, in order; by default the extension gives the media type.
    #[arg(required = true, value_name = "FILE[:MEDIA-TYPE]")]
    pub files: Vec<OsString>,
    /// One JSON document instead of the bare id.
    #[arg(long)]
    pub json: bool,
}

/// Options of `list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only cables in this state, such as submitted, approved, transmitted, retained or expired.
    #[arg(long)]
    pub state: Option<String>,
    /// Only what still needs my approval.
    #[arg(long)]
    pub mine: bool,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Options of `show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The cable's id.
    pub id: MessageId,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// A command on one cable.
#[derive(Debug, Args)]
pub(super) struct OneCable {
    /// The cable's id.
    pub id: MessageId,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Options of `read`.
#[derive(Debug, Args)]
pub(super) struct Read {
    /// The cable's id.
    pub id: MessageId,
    /// The number of one part; by default every part is shown in order.
    #[arg(value_name = "PART", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub part: Option<u8>,
    /// A new file that the part is copied into, for a program that opens it.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Options of `export`.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// The cable's id.
    pub id: MessageId,
    /// The folder to make.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Options of `approve`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("approval").required(true).args(["key", "signature"])))]
pub(super) struct Approve {
    /// The cable's id.
    pub id: MessageId,
    /// Sign here, with this key, through ssh-keygen.
    #[arg(long, value_name = "KEYFILE")]
    pub key: Option<PathBuf>,
    /// Take a signature that was made elsewhere.
    #[arg(long, value_name = "FILE.sig")]
    pub signature: Option<PathBuf>,
    /// Sign without a question; needed where standard input is not a terminal.
    #[arg(long, conflicts_with = "signature")]
    pub yes: bool,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Options of `reject`.
#[derive(Debug, Args)]
pub(super) struct Reject {
    /// The cable's id.
    pub id: MessageId,
    /// Why, for the drafter; it is kept in the audit log, so without content of the cable.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Options of `resend`.
#[derive(Debug, Args)]
pub(super) struct Resend {
    /// Serials and ranges, with commas between them.
    #[arg(value_name = "SERIALS")]
    pub serials: String,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Options of `bundle import`.
#[derive(Debug, Args)]
pub(super) struct BundleImport {
    /// The courier's folder.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// One JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

fn parse_label(text: &str) -> Result<Label, LabelError> {
    Label::parse_relaxed(text)
}

fn parse_precedence(text: &str) -> Result<Precedence, PrecedenceError> {
    Precedence::parse_relaxed(text)
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
                example.is_some_and(|text| text.contains("valise-sender ")),
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
        let typed = "valise-sender submit --label EU --to a,b --precedence Flash --subject S x.txt \
                     --config here.toml";
        let arguments = Arguments::try_parse_from(typed.split_whitespace()).unwrap();
        assert_eq!(arguments.config, PathBuf::from("here.toml"));
        let Command::Submit(submit) = arguments.command else {
            panic!("not a submit")
        };
        assert_eq!((submit.to.len(), submit.precedence), (2, Precedence::Flash));
        for wrong in [
            "valise-sender submit --label EU --to a --precedence soon --subject S x.txt",
            "valise-sender approve 0123456789abcdef0123456789abcdef",
            "valise-sender approve xyz --key k",
            "valise-sender approve 0123456789abcdef0123456789abcdef --key k --signature s",
            "valise-sender approve 0123456789abcdef0123456789abcdef --signature s --yes",
        ] {
            assert!(
                Arguments::try_parse_from(wrong.split_whitespace()).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn an_approval_without_key_and_signature_names_both() {
        let typed = "valise-sender approve 0123456789abcdef0123456789abcdef";
        let told = Arguments::try_parse_from(typed.split_whitespace())
            .unwrap_err()
            .to_string();
        for wanted in ["--key <KEYFILE>", "--signature <FILE.sig>"] {
            assert!(told.contains(wanted), "{told}");
        }
    }
}
