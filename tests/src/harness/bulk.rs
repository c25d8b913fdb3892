//! Many requests at once, placed by hand as other programs may do it: a process for each request would measure the
//! shell.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::cable::Submission;
use super::error::{Context, HarnessError, Result};
use super::keys::KeyPair;
use super::world::{Host, World};

/// A request folder that is written but not yet visible.
#[derive(Debug)]
pub struct HiddenRequest {
    name: String,
    hidden: PathBuf,
    visible: PathBuf,
}

impl HiddenRequest {
    /// Lets the daemon overwrite the files, as the commands do.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn open_to_daemon(&self) -> Result<()> {
        for entry in fs::read_dir(&self.hidden).context("read", &self.hidden)? {
            let file = entry.context("read", &self.hidden)?.path();
            let mode = fs::Permissions::from_mode(0o660);
            fs::set_permissions(&file, mode).context("open to the daemon", &file)?;
        }
        Ok(())
    }

    /// Makes the request visible, by one rename.
    ///
    /// # Errors
    /// When the rename fails.
    pub fn reveal(&self) -> Result<()> {
        fs::rename(&self.hidden, &self.visible).context("reveal", &self.visible)
    }
}

impl World {
    /// Writes a request on a host: its text and its files under their new names.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_request(
        &self,
        host: Host,
        name: &str,
        text: &str,
        files: &[(String, PathBuf)],
    ) -> Result<HiddenRequest> {
        let requests = self.state(host).join("requests");
        let hidden = requests.join(format!(".{name}"));
        fs::create_dir(&hidden).context("make", &hidden)?;
        for (file, source) in files {
            fs::copy(source, hidden.join(file)).context("copy", source)?;
        }
        let request = hidden.join("request.toml");
        fs::write(&request, text).context("write", &request)?;
        Ok(HiddenRequest {
            name: name.to_owned(),
            hidden,
            visible: requests.join(name),
        })
    }

    /// Waits for the answers of requests; each must be "accepted". Returns their texts.
    ///
    /// # Errors
    /// When one is refused or not answered in time.
    pub fn await_accepted(
        &mut self,
        host: Host,
        requests: &[HiddenRequest],
        limit: Duration,
    ) -> Result<Vec<String>> {
        let folder = self.state(host).join("requests");
        let mut answers = Vec::with_capacity(requests.len());
        self.await_alive(
            "the answers to requests",
            limit,
            std::slice::from_ref(&folder),
            |_| {
                while let Some(request) = requests.get(answers.len()) {
                    let refused = folder.join(format!("{}.refused", request.name));
                    if let Ok(reason) = fs::read_to_string(&refused) {
                        let text = format!("request {} was refused: {reason}", request.name);
                        return Err(HarnessError::Wrong(text));
                    }
                    let accepted = folder.join(format!("{}.accepted", request.name));
                    match fs::read_to_string(&accepted) {
                        Ok(answer) if answer.ends_with('\n') => {
                            answers.push(answer.trim().to_owned())
                        }
                        _ => return Ok(None),
                    }
                }
                Ok(Some(()))
            },
        )?;
        Ok(answers)
    }

    /// Submits many cables, each of one file, through `requests/`; returns their message-ids.
    ///
    /// # Errors
    /// When one is refused.
    pub fn submit_many(&mut self, submissions: &[Submission], prefix: &str) -> Result<Vec<String>> {
        let mut requests = Vec::with_capacity(submissions.len());
        for (index, submission) in submissions.iter().enumerate() {
            let text = format!(
                "request = \"submit\"\nlabel = {:?}\nto = {:?}\nprecedence = {:?}\nsubject = {:?}\n",
                submission.label, submission.to, submission.precedence, submission.subject
            );
            let name = |file: &PathBuf| {
                file.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned()
            };
            let files: Vec<(String, PathBuf)> = submission
                .files
                .iter()
                .map(|file| (name(file), file.clone()))
                .collect();
            let request =
                self.write_request(Host::Sender, &format!("{prefix}-{index}"), &text, &files)?;
            request.reveal()?;
            requests.push(request);
        }
        self.await_accepted(Host::Sender, &requests, Duration::from_secs(300))
    }

    /// Signs many pending cables with one key and writes the approvals as hidden requests.
    ///
    /// # Errors
    /// When a manifest is not there or `ssh-keygen` fails.
    pub fn write_approvals(
        &self,
        ids: &[String],
        key: &KeyPair,
        prefix: &str,
    ) -> Result<Vec<HiddenRequest>> {
        let folder =
            tempfile::tempdir_in(self.folder()).context("make a folder in", self.folder())?;
        let mut files = Vec::with_capacity(ids.len());
        for id in ids {
            let manifest = self
                .state(Host::Sender)
                .join("pending")
                .join(id)
                .join("manifest.txt");
            let copy = folder.path().join(id);
            fs::copy(&manifest, &copy).context("copy", &manifest)?;
            files.push(copy);
        }
        key.sign("cable-approval@valise", &files)?;
        let mut requests = Vec::with_capacity(ids.len());
        for id in ids {
            let text = format!("request = \"approve\"\nid = {id:?}\n");
            let signature = folder.path().join(format!("{id}.sig"));
            let files = [("approval.sig".to_owned(), signature)];
            let name = format!("{prefix}-{id}");
            requests.push(self.write_request(Host::Sender, &name, &text, &files)?);
        }
        Ok(requests)
    }

    /// Submits many cables and gives all but the last approval of each. Returns the last approvals, still hidden.
    ///
    /// # Errors
    /// When anything is refused.
    pub fn prepare_many(
        &mut self,
        submissions: &[Submission],
        prefix: &str,
    ) -> Result<(Vec<String>, Vec<HiddenRequest>)> {
        let ids = self.submit_many(submissions, prefix)?;
        let [first, last, _] = self.roster.officers.clone();
        let approvals = self.write_approvals(&ids, &first, &format!("{prefix}-first"))?;
        for approval in &approvals {
            approval.reveal()?;
        }
        self.await_accepted(Host::Sender, &approvals, Duration::from_secs(300))?;
        let approvals = self.write_approvals(&ids, &last, &format!("{prefix}-last"))?;
        Ok((ids, approvals))
    }
}
