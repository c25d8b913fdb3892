//! `[alarm] command`: run once for each new alarm, with its sentence, which holds no content, as the last argument.

use std::collections::VecDeque;
use std::process::{Child, Command, Stdio};

use super::signals::spawn_unmasked;

/// How many alarm commands run at a time; the others wait.
const RUNNING_MAX: usize = 4;

/// How many alarms wait for their command at most; beyond it log and `status` still tell.
const WAITING_MAX: usize = 64;

/// Alarms on their way to the operator's command.
///
/// What is told here must be in the audit log before it is run: an alarm is visible from then on.
#[derive(Debug, Default)]
pub struct AlarmCommands {
    waiting: VecDeque<String>,
    running: Vec<Child>,
}

impl AlarmCommands {
    /// Takes a new alarm, for the next [`AlarmCommands::run`].
    pub fn tell(&mut self, line: String) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(line);
        }
    }

    /// Starts the commands of new alarms as far as there is room, and buries those that ended.
    pub fn run(&mut self, command: &[String]) {
        self.running
            .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let Some((program, arguments)) = command.split_first() else {
            self.waiting.clear();
            return;
        };
        while self.running.len() < RUNNING_MAX {
            let Some(line) = self.waiting.pop_front() else {
                return;
            };
            let mut command = Command::new(program);
            command
                .args(arguments)
                .arg(line)
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            match spawn_unmasked(&mut command) {
                Ok(child) => self.running.push(child),
                Err(error) => tracing::error!("the alarm command cannot be run: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_command_gets_each_alarm_as_its_last_argument() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let script = format!("printf '%s\\n' \"$1\" >> {}", out.display());
        let command = ["/bin/sh", "-c", &script, "sh"].map(str::to_owned);
        let mut commands = AlarmCommands::default();
        commands.run(&command);
        assert!(!out.exists(), "there is nothing to tell");
        commands.tell("disk: almost full".to_owned());
        commands.run(&command);
        assert!(commands.running.pop().unwrap().wait().unwrap().success());
        commands.run(&command);
        let told = std::fs::read_to_string(&out).unwrap();
        assert_eq!(told, "disk: almost full\n");
    }

    #[test]
    fn a_flood_of_alarms_waits_and_is_bounded() {
        let mut commands = AlarmCommands::default();
        for number in 0..1_000 {
            commands.tell(number.to_string());
        }
        assert_eq!(commands.waiting.len(), WAITING_MAX);
        commands.run(&["/bin/cat".to_owned()]);
        assert_eq!(commands.running.len(), RUNNING_MAX);
        for child in &mut commands.running {
            child.wait().unwrap();
        }
        commands.run(&[]);
        assert!(commands.waiting.is_empty() && commands.running.is_empty());
    }
}
