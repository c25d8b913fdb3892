//! `check-config`: what the configuration means, or what is wrong in it.

use std::path::Path;

use serde_json::json;
use valise_common::config::{Cover, Fences, LinkKind, SenderConfig};
use valise_common::host::cli::Shown;
use valise_common::os::serial;
use valise_common::units::count_of;

use super::{CliError, print_json, print_line, read_config};

/// `check-config`
pub(super) fn check_config(path: &Path, options: &Shown) -> Result<(), CliError> {
    let config = read_config(path)?;
    let unknown: Vec<&str> = config
        .persons
        .keys()
        .map(String::as_str)
        .filter(|user| !is_known(user))
        .collect();
    if !unknown.is_empty() {
        return Err(CliError::Usage(format!(
            "[persons] names users that this system does not know: {}; correct them in {}",
            unknown.join(", "),
            path.display()
        )));
    }
    let (meaning, warnings) = (meaning(&config), warnings(&config));
    if options.json {
        let state = config.state.display().to_string();
        return print_json(&json!({
            "ok": true,
            "state": state,
            "persons": config.persons,
            "to": config.link.to.map(|to| to.to_string()),
            "kind": config.link.kind.as_str(),
            "baud": (config.link.kind == LinkKind::Serial).then_some(config.link.baud),
            "device": config.link.device.as_ref().map(|device| device.display().to_string()),
            "datagram_bytes": config.datagram_bytes(),
            "rate": (config.link.kind == LinkKind::Udp).then(|| config.link.rate.to_string()),
            "cover": config.link.cover == Cover::Constant,
            "repair_ppm": config.fec.repair.ppm(),
            "passes": config.fec.passes,
            "interleave_us": config.fec.interleave.as_us(),
            "submission_bytes_max": config.limits.submission_bytes_max.0,
            "pending_max": config.limits.pending_max,
            "retain_s": config.retain.time.as_s(),
            "retain_bytes": config.retain.bytes.0,
            "alarm_command": config.alarm.command,
            "slots_low_ppm": config.alarm.slots_low.ppm(),
            "sandbox_required": config.sandbox.required == Fences::Required,
            "log_level": config.log.level,
            "meaning": meaning,
            "warnings": warnings,
        }));
    }
    print_line(&meaning.join("\n"))?;
    for warning in warnings {
        print_line(&format!("warning: {warning}"))?;
    }
    Ok(())
}

/// Returns whether a name of `[persons]` is a user of this system. A number needs no account.
fn is_known(user: &str) -> bool {
    user.parse::<u32>().is_ok() || nix::unistd::User::from_name(user).ok().flatten().is_some()
}

fn meaning(config: &SenderConfig) -> Vec<String> {
    let link = &config.link;
    let way = match link.kind {
        LinkKind::Udp => {
            let to = link.to.map_or_else(String::new, |to| to.to_string());
            format!("UDP to {to}, at {}", link.rate)
        }
        LinkKind::Serial => {
            let device = link.device.as_deref().unwrap_or(Path::new("")).display();
            format!("the serial line {device}, at {} baud", link.baud)
        }
    };
    let cover = match link.cover {
        Cover::Constant => "with noise whenever there is nothing to send",
        Cover::None if link.kind == LinkKind::Serial => {
            "a beacon now and then when there is nothing to send"
        }
        Cover::None => "a beacon a second when there is nothing to send",
    };
    let fec = &config.fec;
    let persons: Vec<String> = config
        .persons
        .iter()
        .map(|(user, person)| format!("{user} is {person}"))
        .collect();
    let persons = if persons.is_empty() {
        "nobody".to_owned()
    } else {
        persons.join(", ")
    };
    vec![
        format!("state     below {}", config.state.display()),
        format!("persons   {persons}"),
        format!(
            "link      {way}, in datagrams of {} bytes, {cover}",
            config.datagram_bytes()
        ),
        format!(
            "fec       {}, each with {} repair symbols, spread over bursts of {}",
            count_of(fec.passes, "pass"),
            fec.repair,
            fec.interleave
        ),
        format!(
            "limits    submissions of at most {}, {} waiting at a time",
            config.limits.submission_bytes_max, config.limits.pending_max
        ),
        format!(
            "retain    sent containers for {} and at most {}",
            config.retain.time, config.retain.bytes
        ),
        format!(
            "alarm     {}, and when {} of the slots are left",
            config
                .alarm
                .command
                .first()
                .map_or("shown by status alone", |_| "runs its command"),
            config.alarm.slots_low
        ),
        format!("sandbox   {}", config.sandbox.required.meaning()),
    ]
}

fn warnings(config: &SenderConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    if let (LinkKind::Serial, Some(device)) = (config.link.kind, &config.link.device)
        && !device.exists()
    {
        warnings.push(serial::is_absent(device));
    }
    if config.persons.is_empty() {
        warnings.push("[persons] names nobody, so nobody can submit or end a cable".to_owned());
    }
    if !config.state.is_dir() {
        let shown = config.state.display();
        warnings.push(format!("{shown} is missing; valise-sender init makes it"));
    }
    if let Some(program) = config.alarm.command.first()
        && program.contains('/')
        && !Path::new(program).is_file()
    {
        warnings.push(format!("the alarm command {program} is missing"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn a_configuration_is_put_into_words_and_gaps_are_told() {
        let text = "state = '/nonexistent/valise'\n[link]\nkind = 'udp'\nto = '192.0.2.2:7000'\n";
        let config = SenderConfig::parse(text).unwrap();
        let words = meaning(&config).join("\n");
        assert!(
            words.contains("192.0.2.2:7000") && words.contains("1472"),
            "{words}"
        );
        assert!(words.contains("a beacon a second when"), "{words}");
        assert_eq!(warnings(&config).len(), 2);
    }

    #[test]
    fn a_serial_line_is_put_into_words_and_a_missing_device_is_told() {
        let text = "state = '/nonexistent/valise'\n[link]\nkind = 'serial'\ndevice = '/dev/absent'\nbaud = 9600\n";
        let config = SenderConfig::parse(text).unwrap();
        let words = meaning(&config).join("\n");
        assert!(words.contains("/dev/absent, at 9600 baud"), "{words}");
        assert!(words.contains("in datagrams of 584 bytes"), "{words}");
        assert!(warnings(&config)[0].contains("/dev/absent"));
    }
}
