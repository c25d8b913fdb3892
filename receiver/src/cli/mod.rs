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
use valise_common::host::cli::init::init;
use valise_common::host::cli::trust::{check, show};
use valise_common::host::cli::{
    CliError, check_start, config_text, list_ports, print_done, print_done_json, print_failure,
    print_json, print_line, run_alarm_commands,
};
use valise_common::host::folders::{ReceiverState, Role};
use valise_common::host::supervise;
use valise_common::ids::ChannelId;
use valise_common::os::{entropy, sandbox, service};

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
    match arguments.command {
        Command::Run => run_both(&path),
        Command::Receive => {
            let config = begin_role(&config()?, Role::Receive)?;
            Ok(crate::receive::run(&config)?)
        }
        Command::Release => {
            let config = begin_role(&config()?, Role::Release)?;
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
            TrustCommand::Check(options) => check(&ReceiverState::new(config()?.state), &options),
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
            AuditCommand::Verify(options) => audit::verify(config, &options),
            AuditCommand::Reconcile(options) => audit::reconcile(config, &options),
        },
        Command::Ports(options) => {
            let device_of =
                |text: &str| ReceiverConfig::parse(text).map(|config| config.link.device);
            list_ports("valise-receiver", &path, device_of, options.json)
        }
        Command::CheckConfig(options) => config::check(&config()?, &options),
        Command::AlarmRunner(options) => run_alarm_commands(&options.command),
        Command::NoteEnd(options) if sandbox::ended_by_breach() => {
            note_end(&ReceiverState::new(&config()?.state), &options.role)
        }
        Command::NoteEnd(_) => Ok(()),
        Command::SystemdGenerator(options) => units::generate(&path, &options),
    }
}

fn note_end(state: &ReceiverState, ended: &str) -> Result<(), CliError> {
    let roles = [Role::Receive, Role::Release].into_iter();
    for role in roles.filter(|role| role.as_str() == ended) {
        sandbox::note_breach(&state.forbidden_call(role)).map_err(CliError::system)?;
    }
    Ok(())
}

/// Checks what roles need before they touch anything.
fn check_roles(config: &ReceiverConfig, roles: &[Role]) -> Result<(), CliError> {
    let state = ReceiverState::new(&config.state);
    roles
        .iter()
        .try_for_each(|role| check_start(state.root(), &state.tmp(*role)))
}

/// Both processes, as children of this one.
fn run_both(path: &Path) -> Result<(), CliError> {
    let config = read_config(path)?;
    service::init_logging("run", &config.log.level).map_err(CliError::system)?;
    // What both would stumble over is better told once.
    check_roles(&config, &[Role::Receive, Role::Release])?;
    let state = ReceiverState::new(&config.state);
    state.read_host()?;
    let program = std::env::current_exe().map_err(CliError::system)?;
    let path = path.canonicalize().map_err(CliError::system)?;
    let arguments = ["--config".into(), path.into_os_string()];
    let roles = [Role::Receive, Role::Release].map(|role| (role, state.forbidden_call(role)));
    supervise::supervise(&program, &roles, &arguments).map_err(|error| match error {
        supervise::SuperviseError::Configuration { .. } => CliError::usage(error),
        other => CliError::system(other),
    })
}

/// What a daemon does before anything else.
fn begin_role(config: &ReceiverConfig, role: Role) -> Result<ReceiverConfig, CliError> {
    supervise::follow_supervisor().map_err(CliError::system)?;
    service::init_logging(role.as_str(), &config.log.level).map_err(CliError::system)?;
    check_roles(config, &[role])?;
    Ok(config.clone())
}

/// Reads and checks the configuration; whatever is wrong with it is wrong usage.
fn read_config(path: &Path) -> Result<ReceiverConfig, CliError> {
    ReceiverConfig::parse(&config_text(path)?)
        .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))
}
