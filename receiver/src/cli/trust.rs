//! `trust import`.

use valise_common::config::ReceiverConfig;
use valise_common::host::cli::ask::{print_answer, refused};
use valise_common::host::cli::trust::{TrustFile, failed, imported};
use valise_common::host::folders::ReceiverState;
use valise_common::host::trust_store::{LIST_FILE, SignedList, TrustStoreError, signed_files};

use super::CliError;
use super::commission::work_here;
use super::request::ask;
use crate::model::event::Asker;
use crate::release::Release;
use crate::release::request::RequestText;
use crate::release::requests::Verdict;

/// `trust import`
pub(super) fn import(config: &ReceiverConfig, options: &TrustFile) -> Result<(), CliError> {
    let state = ReceiverState::new(&config.state);
    // Looked at here too, so that a wrong path is told before anything is asked. A list that is wrong was offered all the
    // same: it is refused by whoever has the log, this command or the daemon.
    let offered = match SignedList::read(&options.file) {
        Err(error @ TrustStoreError::Io(_)) => return Err(failed(&options.file, error)),
        offered => offered,
    };
    let by = Asker::user(nix::unistd::getuid().as_raw());
    let import = |here: &mut Release| Ok(here.import_here(offered, by)?);
    let answer = match work_here(config, import)? {
        Some(Verdict::Accepted(text)) => text,
        Some(Verdict::Refused(text)) => return Err(refused(text)),
        Some(Verdict::UnderWay | Verdict::Later) => {
            return Err(CliError::system("the list was not imported"));
        }
        None => {
            let files = signed_files(&options.file, LIST_FILE).map_err(CliError::system)?;
            ask(config, &RequestText::TrustImport {}, &files)?
        }
    };
    print_answer(&answer, options.json, || imported(&state))
}
