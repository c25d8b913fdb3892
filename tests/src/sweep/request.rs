//! A request as its author places it, again after a failure of the system, and its answers.

use std::fs;
use std::path::PathBuf;

use crate::harness::{Host, Result, World};

/// If a request fails so often through the system, that is a violation.
const ATTEMPTS_MAX: u32 = 4;

/// A request and its progress.
#[derive(Debug)]
pub struct Request {
    host: Host,
    name: String,
    text: String,
    files: Vec<(String, PathBuf)>,
    /// The number of the attempt that waits for its answer.
    attempt: u32,
    is_placed: bool,
    answers: Vec<(String, String)>,
    /// The text of its acceptance.
    pub accepted: Option<String>,
    /// Its last refusal, if it is not placed again.
    pub refused: Option<String>,
}

impl Request {
    /// A request that has not been placed.
    pub fn new(host: Host, name: &str, text: String, files: Vec<(String, PathBuf)>) -> Self {
        Self {
            host,
            name: name.to_owned(),
            text,
            files,
            attempt: 1,
            is_placed: false,
            answers: Vec::new(),
            accepted: None,
            refused: None,
        }
    }

    /// Its name, without the number of its attempt.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether nothing more will happen to it.
    pub fn is_over(&self) -> bool {
        self.accepted.is_some() || self.refused.is_some()
    }

    fn placed_name(&self) -> String {
        format!("{}-{}", self.name, self.attempt)
    }

    /// Places the request, or looks for its answer. After a refusal because of the system, the next attempt follows.
    ///
    /// # Errors
    /// When the harness cannot write or read files.
    pub fn drive(&mut self, world: &World) -> Result<()> {
        if self.is_over() {
            return Ok(());
        }
        let name = self.placed_name();
        if !self.is_placed {
            let request = world.write_request(self.host, &name, &self.text, &self.files)?;
            request.open_to_daemon()?;
            request.reveal()?;
            self.is_placed = true;
        }
        let folder = world.state(self.host).join("requests");
        let answer = |end: &str| {
            let text = fs::read_to_string(folder.join(format!("{name}.{end}"))).unwrap_or_default();
            text.ends_with('\n').then(|| text.trim().to_owned())
        };
        if let Some(text) = answer("accepted") {
            self.answers
                .push((format!("{name}.accepted"), text.clone()));
            self.accepted = Some(text);
        } else if let Some(text) = answer("refused") {
            self.answers.push((format!("{name}.refused"), text.clone()));
            if self.attempt < ATTEMPTS_MAX && text.contains("system failure") {
                self.attempt += 1;
                self.is_placed = false;
            } else {
                self.refused = Some(text);
            }
        }
        Ok(())
    }

    /// Returns the faults of the answers: each attempt has exactly one answer, and it does not change.
    pub fn wrong_answers(&self, world: &World) -> Vec<String> {
        let folder = world.state(self.host).join("requests");
        let mut wrong = Vec::new();
        for (file, text) in &self.answers {
            let now = fs::read_to_string(folder.join(file)).unwrap_or_default();
            if now.trim() != text {
                wrong.push(format!(
                    "the answer {file} was {text:?} and is {:?}",
                    now.trim()
                ));
            }
            let other = match file.strip_suffix(".accepted") {
                Some(name) => format!("{name}.refused"),
                None => file.replace(".refused", ".accepted"),
            };
            if folder.join(&other).exists() {
                wrong.push(format!("beside the answer {file} is {other}"));
            }
        }
        wrong
    }
}
