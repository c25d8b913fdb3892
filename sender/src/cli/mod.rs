//! What a person types. Commands own nothing: they place requests and read views; only `gate` changes a cable.

mod arguments;
mod audit;
mod cables;
mod commission;
mod explain;
mod export;
mod health;
mod look;
mod reading;
mod request;
mod sign;
mod units;
mod waiting;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use valise_common::config::SenderConfig;
use valise_common::host::cli::audit as audit_log;
use valise_common::host::cli::init::init;
use valise_common::host::cli::run::{self, begin, note_end};
use valise_common::host::cli::{
    CliError, config_text, list_ports, print_done, print_done_json, print_failure, print_json,
    print_line, run_alarm_commands, trust,
};
use valise_common::host::folders::{Role, SenderState};

use arguments::{Arguments, BundleCommand, ClockCommand, Command, TrustCommand};
use audit::AuditCommand;

use crate::gate::GateError;

/// Returns the words of the command line, for completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    // clap ends the process itself: with 2 after a wrong usage, with 0 after help.
    let arguments = Arguments::parse();
    match dispatch(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => print_failure("valise-sender", &error),
    }
}

fn dispatch(arguments: Arguments) -> Result<(), CliError> {
    let path = arguments.config;
    let config = || read_config(&path);
    let state = || Ok(SenderState::new(config()?.state));
    match arguments.command {
        Command::Run => {
            let config = config()?;
            run::run(&SenderState::new(&config.state), &path, &config.log.level)
        }
        Command::Gate => {
            let config = config()?;
            begin(
                &SenderState::new(&config.state),
                Role::Gate,
                &config.log.level,
            )?;
            Ok(crate::gate::run(&config)?)
        }
        Command::Transmit => {
            let config = config()?;
            begin(
                &SenderState::new(&config.state),
                Role::Transmit,
                &config.log.level,
            )?;
            crate::transmit::run(&config).map_err(transmit_error)
        }
        Command::Init(options) => {
            let next = "bundle import DIR, then trust import";
            init(&SenderState::new(config()?.state), None, &options, next)
        }
        Command::Submit(options) => cables::submit(&config()?, &options),
        Command::List(options) => look::list(&config()?, &options),
        Command::Show(options) => look::show(&config()?, &options),
        Command::Read(options) => reading::read(&config()?, &options),
        Command::Export(options) => export::export(&config()?, &options),
        Command::Approve(options) => cables::approve(&config()?, &options),
        Command::Reject(options) => cables::reject(&config()?, &options),
        Command::Withdraw(options) => cables::withdraw(&config()?, &options),
        Command::Resend(options) => cables::resend(&config()?, &options),
        Command::Bundle {
            command: BundleCommand::Import(options),
        } => commission::bundle_import(&config()?, &options),
        Command::Bundle {
            command: BundleCommand::Status(options),
        } => look::bundle_status(&config()?, &options),
        Command::Trust {
            command: TrustCommand::Check(options),
        } => {
            let config = config()?;
            // The first import fixes it, of a list or of a bundle.
            let view = look::look_at_gate(&config).ok().and_then(|gate| gate.view);
            let channel = view.and_then(|view| view.host.channel);
            trust::check(&SenderState::new(&config.state), channel, &options)
        }
        Command::Trust {
            command: TrustCommand::Import(options),
        } => commission::trust_import(&config()?, &options),
        Command::Trust {
            command: TrustCommand::Show(options),
        } => trust::show(&SenderState::new(config()?.state), &options),
        Command::Clock {
            command: ClockCommand::Accept(options),
        } => commission::clock_accept(&config()?, &options),
        Command::Status(options) => health::status(&config()?, options),
        Command::Audit {
            command: AuditCommand::Verify(options),
        } => audit_log::verify(state, &options),
        Command::Ports(options) => {
            let device_of = |text: &str| SenderConfig::parse(text).map(|config| config.link.device);
            list_ports("valise-sender", &path, device_of, options.json)
        }
        Command::CheckConfig(options) => explain::check_config(&path, &options),
        Command::AlarmRunner(options) => run_alarm_commands(&options.command),
        Command::NoteEnd(options) => note_end(state, &options),
        Command::SystemdGenerator(options) => units::generate(&path, &options),
    }
}

impl From<GateError> for CliError {
    fn from(error: GateError) -> CliError {
        match error {
            GateError::Host(error) => error.into(),
            _ => CliError::system(error),
        }
    }
}

/// What starting again would not mend is wrong configuration; the supervisor then ends too.
fn transmit_error(error: crate::transmit::TransmitError) -> CliError {
    if error.is_configuration() {
        CliError::usage(error)
    } else {
        CliError::system(error)
    }
}

/// Reads and checks the configuration; whatever is wrong with it is wrong usage.
fn read_config(path: &Path) -> Result<SenderConfig, CliError> {
    SenderConfig::parse(&config_text(path)?)
        .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))
}
