//! The command that repairs an alarm, on this installation.

use super::table::Alarm;
use crate::limits;
use crate::role::Role;

/// The host that an alarm is repaired on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// How its roles run.
    pub runs: Runs,
    /// Its state folder.
    pub state: String,
}

/// How the roles of a host run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// Each as a unit of the service manager, under its own user.
    AsUnits,
    /// All as children of `run`.
    UnderRun,
}

impl Runs {
    /// Returns the command that starts a role.
    pub fn start(self, role: Role) -> String {
        let host = role.host();
        match self {
            Self::AsUnits => format!("sudo systemctl start valise-{host}-{role}"),
            Self::UnderRun => format!("valise-{host} run"),
        }
    }

    /// Returns the command that restarts a role.
    pub fn restart(self, role: Role) -> String {
        let host = role.host();
        match self {
            Self::AsUnits => format!("sudo systemctl restart valise-{host}-{role}"),
            Self::UnderRun => format!("valise-{host} run, after the one that runs has ended"),
        }
    }
}

impl Alarm {
    /// Returns the command that repairs it. A command that a role proposes is taken only if it has the form of one in the
    /// table: somebody who has taken over a role must not choose what an operator types.
    pub fn repair(self, role: Role, on: &Installation, proposed: Option<&str>) -> String {
        let templates = self.templates().iter();
        let general = self.templates().first().copied().unwrap_or_default();
        let proposed = proposed.filter(|text| {
            let mut known = templates.map(|template| fill(template, role, on));
            known.any(|template| is_instance(text, &template))
        });
        match proposed {
            Some(text) => text.to_owned(),
            None => fill(general, role, on).replace(['{', '}'], ""),
        }
    }
}

/// Puts in what depends on the host and on how its roles run.
fn fill(template: &str, role: Role, on: &Installation) -> String {
    let Installation { runs, state } = on;
    let mut text = template.replace("{host}", role.host());
    for other in Role::ALL {
        text = text.replace(&format!("{{start {other}}}"), &runs.start(other));
        text = text.replace(&format!("{{restart {other}}}"), &runs.restart(other));
    }
    text.replace("{restart}", &runs.restart(role))
        .replace("{STATE}", state)
}

/// Returns whether a text is the template with arguments in the places of its words in braces.
fn is_instance(text: &str, template: &str) -> bool {
    let is_plain = |one: char| one.is_ascii_alphanumeric() || "-_.,:/%@…".contains(one);
    let Some((before, rest)) = template.split_once('{') else {
        return text == template;
    };
    let (Some(text), Some((_, after))) = (text.strip_prefix(before), rest.split_once('}')) else {
        return false;
    };
    // The argument ends where what is plain ends; commands have a space after it, or end.
    let next = after.chars().next();
    let end = text.find(|one| Some(one) == next || !is_plain(one));
    let (argument, text) = text.split_at(end.unwrap_or(text.len()));
    !argument.is_empty()
        && argument.chars().count() <= limits::ALARM_ARGUMENT_CHARS_MAX
        && is_instance(text, after)
}
