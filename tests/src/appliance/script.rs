//! The documents as a script: code blocks with the host and the persons who type them.
//!
//! A block that begins with ```` ```sh HOST PERSON… ```` is run, and so are the comments `<!-- appliance: … -->`. A
//! block of plain ```` ```sh ```` must be marked `elsewhere` (another machine, a PC). Otherwise the whole page is
//! refused, so that every documented step is tested.

use std::path::Path;

use super::Result;
use crate::harness::HarnessError;

/// One of the two hosts, with its name in the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The host that sends.
    Sender,
    /// The isolated host.
    Receiver,
}

impl Side {
    /// Both hosts.
    pub const BOTH: [Self; 2] = [Self::Receiver, Self::Sender];

    /// The host's word in documents and unit names.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|side| side.word() == word)
    }
}

/// A code block and the persons who type it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The document and the line of the block's first command.
    pub place: String,
    /// The host on which it is typed.
    pub side: Side,
    /// The persons who type it, one after the other.
    pub persons: Vec<String>,
    /// The words after the persons: `count`, `id`, or a name.
    pub marks: Vec<String>,
    /// The commands.
    pub text: String,
}

impl Block {
    /// Returns whether the block has this mark.
    pub fn is(&self, mark: &str) -> bool {
        self.marks.iter().any(|one| one == mark)
    }

    /// The number of commands: every line that begins one, and every command after `&&`, `||` or `;`.
    pub fn commands(&self) -> usize {
        let mut count = 0;
        let mut heredoc: Option<String> = None;
        let mut continued = false;
        for line in self.text.lines() {
            if let Some(end) = &heredoc {
                if line == end {
                    heredoc = None;
                }
                continue;
            }
            let code = line.split(" #").next().unwrap_or_default();
            if !continued && !code.trim().is_empty() && !code.starts_with('#') {
                count += 1;
            }
            count += [" && ", " || ", "; "]
                .iter()
                .map(|between| code.matches(between).count())
                .sum::<usize>();
            continued = line.ends_with('\\');
            heredoc = line
                .split_once("<<'")
                .and_then(|(_, rest)| rest.split_once('\''))
                .map(|(end, _)| end.to_owned());
        }
        count
    }
}

/// A step of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Commands.
    Run(Block),
    /// A medium is carried.
    Carry {
        /// Its folder.
        folder: String,
        /// The host it comes from.
        from: Side,
        /// The host it goes to.
        to: Side,
    },
}

/// Reads the steps of a document.
///
/// # Errors
/// [`HarnessError::Wrong`] for a shell block without a person, and for an unknown comment.
pub fn read(document: &Path) -> Result<Vec<Step>> {
    let text = std::fs::read_to_string(document)
        .map_err(|error| HarnessError::io("read", document, error))?;
    let name = document
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    parse(&name, &text)
}

fn parse(name: &str, text: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let place = format!("{name}:{}", index + 2);
        if let Some(comment) = line.strip_prefix("<!-- appliance: ") {
            let words: Vec<&str> = comment.trim_end_matches("-->").split_whitespace().collect();
            steps.push(directive(&words, &steps).ok_or_else(|| {
                HarnessError::Wrong(format!("{place}: the comment is not understood: {comment}"))
            })?);
        } else if let Some(info) = line.strip_prefix("```sh") {
            let mut body = String::new();
            for (_, line) in lines.by_ref().take_while(|(_, line)| *line != "```") {
                body.push_str(line);
                body.push('\n');
            }
            let words: Vec<&str> = info.split_whitespace().collect();
            match words.split_first() {
                Some((&"elsewhere", _)) => {}
                Some((side, rest)) if Side::parse(side).is_some() && !rest.is_empty() => {
                    let (marks, persons): (Vec<_>, Vec<_>) =
                        rest.iter().partition(|word| !is_person(word));
                    let owned =
                        |words: Vec<&&str>| words.iter().map(|w| (**w).to_owned()).collect();
                    steps.push(Step::Run(Block {
                        place,
                        side: Side::parse(side).unwrap_or(Side::Sender),
                        persons: owned(persons),
                        marks: owned(marks),
                        text: body,
                    }));
                }
                _ => {
                    return Err(HarnessError::Wrong(format!(
                        "{place}: nobody is named who types this block (```sh HOST PERSON, or ```sh elsewhere)"
                    )));
                }
            }
        }
    }
    Ok(steps)
}

/// The persons of README.md.
pub const PERSONS: [&str; 8] = [
    "admin", "ada", "otto", "anna", "ben", "carla", "olga", "rosa",
];

fn is_person(word: &str) -> bool {
    PERSONS.contains(&word)
}

fn directive(words: &[&str], before: &[Step]) -> Option<Step> {
    match words {
        ["carry", folder, from, to] => Some(Step::Carry {
            folder: (*folder).to_owned(),
            from: Side::parse(from)?,
            to: Side::parse(to)?,
        }),
        ["run", "that", "block", "on", side, "as", persons @ ..] => match before.last()? {
            Step::Run(block) => Some(Step::Run(Block {
                side: Side::parse(side)?,
                persons: persons.iter().map(|word| (*word).to_owned()).collect(),
                ..block.clone()
            })),
            Step::Carry { .. } => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn documents() -> Vec<Vec<Step>> {
        let root = crate::harness::source_root().unwrap();
        ["README.md", "docs/operations.md"]
            .iter()
            .map(|name| read(&root.join(name)).unwrap())
            .collect()
    }

    #[test]
    fn every_block_of_the_documents_has_somebody_who_types_it() {
        assert!(documents().iter().all(|steps| !steps.is_empty()));
    }

    #[test]
    fn the_first_cable_takes_at_most_25_commands() {
        let counted = documents()[0]
            .iter()
            .map(|step| match step {
                Step::Run(block) if block.is("count") => block.commands(),
                _ => 0,
            })
            .sum::<usize>();
        assert!((10..=25).contains(&counted), "{counted} commands");
    }

    #[test]
    fn commands_are_counted_where_they_begin() {
        let text = "```sh sender admin\n# no command\na && b; c\nd \\\n  e\ntee x <<'EOF'\nno command\nEOF\n```\n";
        let Step::Run(block) = parse("x", text).unwrap().remove(0) else {
            panic!("a block")
        };
        assert_eq!(block.commands(), 5);
    }

    #[test]
    fn a_block_of_nobody_is_refused() {
        assert!(parse("x", "```sh\ntrue\n```\n").is_err());
        assert!(parse("x", "<!-- appliance: dance -->\n").is_err());
        assert_eq!(parse("x", "```sh elsewhere\ntrue\n```\n").unwrap(), vec![]);
    }
}
