//! What a person types on the isolated host.

mod arguments;
mod audit;
mod cables;
mod commission;
mod config;
mod error;
mod request;
mod status;
mod trust;
mod units;
pub mod verify;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use valise_common::config::ReceiverConfig;
use valise_common::host::cli::audit as audit_log;
use valise_common::host::cli::init::init;
use valise_common::host::cli::run::{self, begin, note_end};
use valise_common::host::cli::trust::{check, show};
use valise_common::host::cli::{
    CliError, config_text, list_ports, print_done, print_done_json, print_failure, print_json,
    print_line, run_alarm_commands,
};
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::ids::ChannelId;
use valise_common::os::entropy;

use arguments::{
    Arguments, BundleCommand, ClockCommand, Command, LinkKeyCommand, QuarantineCommand,
    TrustCommand,
};
use audit::AuditCommand;

/// Returns the words of the command line, for completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    // Wrong usage ends here, with the exit status 2 that clap uses by itself.
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => print_failure("valise-receiver", &error),
    }
}

fn run(arguments: Arguments) -> Result<(), CliError> {
    let path = arguments.config;
    let config = || read_config(&path);
    let state = || Ok(ReceiverState::new(config()?.state));
    match arguments.command {
        Command::Run => {
            let config = config()?;
            run::run(&ReceiverState::new(&config.state), &path, &config.log.level)
        }
        Command::Receive => {
            let config = config()?;
            begin(
                &ReceiverState::new(&config.state),
                Role::Receive,
                &config.log.level,
            )?;
            Ok(crate::receive::run(&config)?)
        }
        Command::Release => {
            let config = config()?;
            begin(
                &ReceiverState::new(&config.state),
                Role::Release,
                &config.log.level,
            )?;
            Ok(crate::release::run(&config)?)
        }
        Command::Init(options) => {
            let channel = ChannelId::from_bytes(entropy::bytes().map_err(CliError::system)?);
            let next = "bundle create --slots N --out DIR, then trust import";
            let state = ReceiverState::new(config()?.state);
            init(&state, channel, &options, next)
        }
        Command::Bundle { command } => match command {
            BundleCommand::Create(options) => commission::bundle_create(&config()?, &options),
            BundleCommand::Void(options) => commission::bundle_void(&config()?, &options),
            BundleCommand::Status(options) => commission::bundle_status(&config()?, &options),
        },
        Command::LinkKey {
            command: LinkKeyCommand::Retire(options),
        } => commission::link_key_retire(&config()?, &options),
        Command::Trust { command } => match command {
            TrustCommand::Check(options) => {
                check(&ReceiverState::new(config()?.state), None, &options)
            }
            TrustCommand::Import(options) => trust::import(&config()?, &options),
            TrustCommand::Show(options) => show(&ReceiverState::new(config()?.state), &options),
        },
        Command::List(options) => cables::list(&config()?, &options),
        Command::Show(options) => cables::show(&config()?, &options),
        Command::Gaps(options) => cables::gaps(&config()?, &options),
        Command::Quarantine { command } => match command {
            QuarantineCommand::List(options) => cables::quarantine_list(&config()?, &options),
            QuarantineCommand::Show(options) => cables::quarantine_show(&config()?, &options),
            QuarantineCommand::Recheck(options) => cables::recheck(&config()?, &options),
            QuarantineCommand::Discard(options) => cables::discard(&config()?, &options),
        },
        Command::Clock {
            command: ClockCommand::Accept(options),
        } => commission::clock_accept(&config()?, &options),
        Command::Status(options) => status::status(&config()?, options),
        Command::Audit { command } => match command {
            AuditCommand::Verify(options) => audit_log::verify(state, &options),
            AuditCommand::Reconcile(options) => audit::reconcile(config, &options),
        },
        Command::Ports(options) => {
            let device_of =
                |text: &str| ReceiverConfig::parse(text).map(|config| config.link.device);
            list_ports("valise-receiver", &path, device_of, options.json)
        }
        Command::CheckConfig(options) => config::check(&config()?, &options),
        Command::AlarmRunner(options) => run_alarm_commands(&options.command),
        Command::NoteEnd(options) => note_end(state, &options),
        Command::SystemdGenerator(options) => units::generate(&path, &options),
    }
}

/// Reads and checks the configuration; whatever is wrong with it is wrong usage.
fn read_config(path: &Path) -> Result<ReceiverConfig, CliError> {
    ReceiverConfig::parse(&config_text(path)?)
        .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))
}
